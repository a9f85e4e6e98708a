"""The pages of the site: one module a page type, listed in `PAGES` in the order of the navigation.

A page type is a `base.PageType`: a function from the `base.Site` to its `base.Page`s, each of which fills one template
of ``templates/``, and, where it needs any, its own files of ``assets/`` and data written beside the pages. To add one,
write its module and template, and name it here: navigation, policy, escaping and the tests of every page follow.
The page of an utterance leaves an element ``data-slot="players"`` to whoever has the audio (see `utterances`).
"""

from __future__ import annotations

from codecbench.leaderboard.pages import (
    agreement,
    bd,
    changes,
    curves,
    datasets,
    downloads,
    index,
    listen,
    methodology,
    pairs,
    systems,
    utterances,
)
from codecbench.leaderboard.pages.base import PageType

PAGES: tuple[PageType, ...] = (
    index.PAGE,
    curves.PAGE,
    pairs.PAGE,
    bd.PAGE,
    agreement.PAGE,
    datasets.PAGE,
    listen.PAGE,
    systems.PAGE,
    utterances.PAGE,
    methodology.PAGE,
    changes.PAGE,
    downloads.PAGE,
)
