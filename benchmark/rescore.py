"""Values computed again: from the shipped codes of a random share of a submission's items, by its adapter's decoder.

The decoder runs behind a process, in a sandbox where the machine has one; it is given packed bytes, as in the run. The
metrics run here. Rows that call a recording undefined are tried too, all of them: that is the reference's doing alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from codecbench.benchmark.cache import DiskCache
from codecbench.benchmark.coding import Encoded, SystemFailure, codec_input, decode_clips
from codecbench.benchmark.evidence import Evidence
from codecbench.benchmark.isolation.client import IsolatedCodec
from codecbench.benchmark.isolation.hosts import HostSettings
from codecbench.benchmark.isolation.levels import Level, limits_for
from codecbench.benchmark.plan import Plan, make_plan
from codecbench.benchmark.scoring import References, Scorer
from codecbench.benchmark.sweep import Sweep
from codecbench.benchmark.verify import Case, Skipped
from codecbench.metrics import registry as metrics
from codecbench.metrics.base import Alignment, undefined_reason
from codecbench.models.bitstream import pack, unpack

FEWEST = 3
TOLERANCE = 1e-6
"""For metrics that are arithmetic; equal on one kind of machine."""
MODEL_TOLERANCE = 1e-3
"""For metrics of a neural model, whose last digits depend on the processor."""


@dataclass(frozen=True)
class Rescore:
    """A check that computes values again; `share` of the items, chosen by `seed`, at an isolation `level`."""

    share: float
    seed: int
    level: Level
    __name__ = "rescore"

    def __call__(self, case: Case) -> Iterator[str]:
        """See `codecbench.benchmark.verify.Check`."""
        with TemporaryDirectory() as folder:
            plan = _plan(case, Path(folder))
            yield from _stale(case, plan)
            yield from _undefined(case, plan)
            yield from _decoded(case, plan, self)


def _plan(case: Case, folder: Path) -> Plan:
    """The plan of the run, with the submission's own adapter."""
    choice = {**case.manifest["sweep"]["models"][0], "name": case.submission.loadable}
    sweep = Sweep.model_validate({**case.manifest["sweep"], "models": [choice]})
    return make_plan(sweep, folder / "values", folder)


def _stale(case: Case, plan: Plan) -> Iterator[str]:
    """Values of other signatures than this installation's cannot be compared."""
    stated = {name: facts["signature"] for name, facts in case.manifest["metrics"].items()}
    if other := [name for name in plan.metrics if metrics.find(name).signature() != stated[name]]:
        raise Skipped(
            f"{other[0]} has another signature here ({metrics.find(other[0]).signature()}): install its versions"
        )
    yield from ()


def _undefined(case: Case, plan: Plan) -> Iterator[str]:
    references = References(plan, DiskCache(plan.cache))
    rows = case.items[case.items["status"] == "undefined"]
    for row in rows.drop_duplicates(["dataset", "utterance", "metric"]).itertuples(index=False):
        _, reference = references.get(str(row.dataset), str(row.utterance))
        reason = undefined_reason(metrics.find(str(row.metric)), reference)
        if reason != row.reason:
            yield f"{row.metric} of {row.utterance} is undefined ({row.reason}), it says; here: {reason or 'defined'}"


def _decoded(case: Case, plan: Plan, how: Rescore) -> Iterator[str]:
    system = plan.systems[case.submission.label]
    cache = DiskCache(plan.cache)
    references, scorer = References(plan, cache), Scorer(plan, cache)
    settings = HostSettings(system.target, system.options, how.level, limits_for(plan.timeout))
    with closing(IsolatedCodec(system.card, settings)) as codec:
        for item in _sample(case, how):
            clip, reference = references.get(item["dataset"], item["utterance"])
            packed = pack(unpack(Evidence(case.run).get(item["codes"])))
            codec.begin_item()
            outcome = decode_clips(codec, [codec_input(clip, system.card)], [Encoded(packed, 0.0, None)])
            if isinstance(outcome, SystemFailure):
                yield f"{item['point']} {item['utterance']}: its codes do not decode: {outcome}"
                continue
            row, _ = scorer.coded(outcome[0], reference, _alignment(case, item))
            yield from _differences(case, item, row["values"])


def _sample(case: Case, how: Rescore) -> list[dict[str, Any]]:
    coded = case.evidence[case.evidence["codes"].notna()]
    items = [dict(zip(coded.columns, row, strict=True)) for row in coded.itertuples(index=False)]
    count = min(len(items), max(FEWEST, ceil(how.share * len(items))))
    return random.Random(how.seed).sample(items, count)  # noqa: S311 - chosen late, not in secret


def _alignment(case: Case, item: dict[str, Any]) -> Alignment:
    """What the run says that the system does to every signal at this point."""
    rows = case.rows
    of = rows[(rows["utterance"] == "*") & (rows["point"] == item["point"]) & (rows["dataset"] == item["dataset"])]
    found = of[of["status"] == "ok"].set_index("metric")["value"].to_dict()
    if "delay_ms" not in found:
        return Alignment()
    rate = Alignment().sample_rate
    return Alignment(found["delay_ms"] * rate / 1000, int(found["polarity"]), found["gain_db"], rate)


def _differences(case: Case, item: dict[str, Any], values: dict[str, list[Any]]) -> Iterator[str]:
    keys = ("point", "dataset", "utterance")
    rows = case.items[(case.items[list(keys)] == [item[key] for key in keys]).all(axis=1)]
    aligned = _alignment(case, item) != Alignment()
    for row in rows.itertuples(index=False):
        status, reason, value, _ = values[str(row.metric)]
        if row.metric == "si_sdr_aligned" and not aligned:
            continue  # the delay that was removed is not among the results when the recordings disagree on it
        tolerance = MODEL_TOLERANCE if "model:" in str(row.signature) else TOLERANCE
        where = f"{row.metric} of {item['point']} {item['utterance']}"
        if (status, reason) != (row.status, row.reason):
            yield f"{where} is {row.status}:{row.reason}; its codes give {status}:{reason}"
        elif value is not None and abs(value - row.value) > tolerance:
            yield f"{where} is {row.value:.6g}; its codes give {value:.6g}"
