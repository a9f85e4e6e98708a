"""``codecbench latency``: a codec's algorithmic latency, measured, beside what its card declares."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from codecbench.errors import UsageError


def latency(
    name: Annotated[str, typer.Argument(help="A codec, or FILE.py:CLASS.")],
    point: Annotated[str | None, typer.Option(help="An operating point; the richest by default.")] = None,
    random_weights: Annotated[int | None, typer.Option(help="Seed: measure the codec on random weights.")] = None,
    weights: Annotated[Path | None, typer.Option(help="A local weights file or folder.")] = None,
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Measure how much of a clip must have come in before a sample of it can come out.

    By changing the input from a sample on, and looking for the first output that changes. In samples at the codec's
    rate, beside what the card declares; a lower bound.
    """
    from codecbench.benchmark import listing
    from codecbench.models import registry
    from codecbench.models.base import LoadOptions

    system = registry.find(name)
    card = system.card
    if card.kind == "lm":
        raise UsageError(f"'{name}' is a language model: latency is measured of codecs")
    names = [each.name for each in card.points]
    if point is not None and point not in names:
        raise UsageError(f"{card.name} has no point '{point}'; it has {', '.join(names)}")
    loaded = system.load(LoadOptions(device=device, weights=weights, random_seed=random_weights))
    listing.show_one(_facts(loaded, point or names[-1]), as_json)


def _facts(codec: Any, point: str) -> dict[str, Any]:
    from codecbench.models.latency import measure_latency

    card = codec.card
    measured = measure_latency(codec, card.point(point)).to_json()
    declared = {"delay": card.delay, "lookahead": card.lookahead, "warm_up": card.warm_up, "causal": card.causal}
    return {"name": card.name, "point": point, **measured, **{f"declared_{key}": declared[key] for key in declared}}
