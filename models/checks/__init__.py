"""The conformance kit: named checks of what every system must hold to, and the report of them.

``codecbench check TARGET`` runs them; `runner.check` is the same from Python. A check is a function in one of the
modules of `base.SUBJECTS`; ``docs/checks.md`` lists all.
"""
