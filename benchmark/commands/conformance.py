"""``codecbench conformance``: do the metrics of this installation give the values that they should?"""

from __future__ import annotations

import json
from typing import Annotated

import typer


def conformance(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """Compare every metric with golden values of other implementations; report the largest deviation of each.

    Exit codes: 0 every value within its tolerance, 4 some deviate: numbers of this installation are not comparable.
    """
    from codecbench.benchmark.environment import describe_environment
    from codecbench.metrics.conformance.run import conform

    findings = list(conform())
    if as_json:
        typer.echo(
            json.dumps({"environment": describe_environment(), "metrics": [vars(f) for f in findings]}, indent=1)
        )
    else:
        for f in findings:
            share = "" if f.share is None else f"{100 * f.share:.1f} % of tolerance"
            typer.echo(f"{f.status:10} {f.metric:15} {f.values:2} values  {share:21} {f.detail}")
    raise typer.Exit(4 if any(f.status == "deviates" for f in findings) else 0)
