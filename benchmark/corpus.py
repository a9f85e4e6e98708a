"""Values of a whole corpus, spread over its items when a run's tables are written (see `codecbench.metrics.corpus`)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from codecbench.benchmark.cache import canonical
from codecbench.metrics import registry as metrics
from codecbench.metrics.base import Cache, Failed, Metric


def share_out(items: Mapping[str, dict[str, Any]], signatures: Mapping[str, str], cache: Cache) -> None:
    """Give every item its share of the values that only the corpus has.

    Args:
        items: The rows of a cell by utterance, changed in place: what they hold for such values is used up.
        signatures: The metrics' signatures by name.
        cache: Keeps the shares, for some take minutes.
    """
    for name, signature in signatures.items():
        if (metric := metrics.find(name)).shares:
            rows = [row for row in items.values() if row["values"].get(name, [""])[0] == "ok"]
            _share_out(metric, signature, rows, cache)
    for row in items.values():
        row.pop("material", None)


def _share_out(metric: Metric, signature: str, rows: list[dict[str, Any]], cache: Cache) -> None:
    material = [row["material"][metric.name] for row in rows]
    try:
        shares = _shares(metric, signature, material, cache) if rows else []
    except Failed as failure:
        for row in rows:
            row["values"][metric.name] = ["failed", str(failure), None, 1.0]
        return
    for row, share in zip(rows, shares, strict=True):
        row["values"][metric.name] = ["ok", "", share, 1.0]


def _shares(metric: Metric, signature: str, material: list[Any], cache: Cache) -> Iterable[float]:
    digest = hashlib.sha256(canonical(material).encode()).hexdigest()
    key = {"what": "shares", "signature": signature, "material": digest}
    shares: list[float] | None = cache.get(key)
    if shares is None:
        shares = [float(share) for share in metric.shares(material)]  # type: ignore[misc]
        cache.put(key, shares)
    return shares
