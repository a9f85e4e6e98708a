"""What is checked of a submission without its adapter: everything in it is data, parsed, counted, hashed, compared."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import PurePosixPath
from typing import Any

from codecbench.benchmark.evidence import Evidence
from codecbench.benchmark.submission import MANIFEST, MOST_BYTES, contents, sha256
from codecbench.benchmark.verify import Case, Check, Skipped
from codecbench.errors import CodecbenchError
from codecbench.models.bitstream import BitstreamError, pack, unpack

CHANGED = 1e-3
"""A mean that differs by more from the earlier version's has to be explained."""
STATUSES = ("ok", "undefined", "failed")


def files(case: Case) -> Iterator[str]:
    """Every file is listed, is what its digest says, and nothing else is there; no links; not too large."""
    folder, listed = case.submission.folder, case.submission.files
    found = contents(folder)
    yield from (f"{path} is listed and absent" for path in sorted(set(listed) - set(found)))
    yield from (f"{path} is there and not listed" for path in sorted(set(found) - set(listed)))
    for path in sorted(set(found) & set(listed)):
        if (folder / path).is_symlink():
            yield f"{path} is a link"
        elif sha256(folder / path) != listed[path]:
            yield f"{path} is not the file that was submitted: another SHA-256"
    size = sum((folder / path).lstat().st_size for path in found)
    if size > MOST_BYTES:
        yield f"{size / 1e6:.1f} MB in all, more than {MOST_BYTES / 1e6:.0f} MB"


def card(case: Case) -> Iterator[str]:
    """The card names licence, training data and what is known of contamination, and is the run's."""
    name, facts = case.submission.name, case.submission.json("card.json")
    if case.submission.folder.resolve().name != name:
        yield f"the folder is called '{case.submission.folder.resolve().name}', the submission '{name}'"
    if facts["name"] != name:
        yield f"the card is that of '{facts['name']}'"
    yield from (f"the card states no {key.replace('_', ' ')}" for key in ("licence", "contamination") if not facts[key])
    if facts["weights"] and not facts["training_data"]:
        yield "the card states no training data"
    ran = case.manifest["systems"].get(case.submission.label)
    if ran is None:
        yield f"the run has no system '{case.submission.label}'"
    elif changed := [key for key in facts if key not in ("points", "weights") and ran.get(key) != facts[key]]:
        yield f"the run was made with another card: {', '.join(changed)} differ"


def conformance(case: Case) -> Iterator[str]:
    """The conformance report has no failure."""
    report = case.submission.json("check.json")
    if not report["checks"]:
        yield "the report holds no check"
    for check in report["checks"]:
        if check["outcome"] not in ("passed", "skipped", "expected failure"):
            yield f"{check['check']}: {check['outcome']}: {check['reason']}"


def run(case: Case) -> Iterator[str]:
    """The run is finished, holds this one system, in audit mode behind a process, and its tables are its own."""
    facts = case.manifest
    if not facts["finished"]:
        yield "the run is not finished"
    if list(facts["systems"]) != [case.submission.label]:
        yield f"the run holds {', '.join(facts['systems'])}, not '{case.submission.label}' alone"
    for name in ("results.parquet", "evidence.parquet"):
        if facts["results"].get(name) != sha256(case.run / name):
            yield f"{name} is not the table that run.json names"
    for label, system in facts["systems"].items():
        if system.get("status") != "valid":
            yield f"{label} is {system.get('status')}"
        if system.get("isolation") not in ("process", "bwrap") or not system.get("audit"):
            yield f"{label} was not run in audit mode: encoder and decoder have to be processes of their own"
    if facts["sweep"].get("limit") or facts["sweep"].get("random_weights") is not None:
        yield "the run is limited to some utterances, or used random weights"


def complete(case: Case) -> Iterator[str]:
    """There is one row for every point, recording and metric, each with a status that is the system's own."""
    facts = case.manifest
    expected = {
        (system, point["name"], dataset, utterance["id"], metric)
        for (system, of), (dataset, data), metric in product(
            facts["systems"].items(), facts["datasets"].items(), facts["metrics"]
        )
        for point, utterance in product(of["points"], data["utterances"])
    }
    keys = ["system", "point", "dataset", "utterance", "metric"]
    found = list(case.items[keys].itertuples(index=False, name=None))
    if twice := int(case.rows.duplicated(keys).sum()):
        yield f"{twice} rows stand twice"
    if absent := expected - set(found):
        yield f"{len(absent)} of {len(expected)} rows are absent, such as {' '.join(min(absent))}"
    if strange := set(found) - expected:
        yield f"{len(strange)} rows are of no recording, such as {' '.join(min(strange))}"
    wrong = case.items[~case.items["status"].isin(STATUSES)]
    if len(wrong):
        yield f"{len(wrong)} rows have a status that ends no run, such as {wrong.iloc[0]['status']}"


def dataset(case: Case) -> Iterator[str]:
    """The recordings are those of the datasets of these names here: none left out, none changed."""
    from codecbench.benchmark.datasets import registry
    from codecbench.benchmark.datasets.base import check, fingerprint

    for name, facts in case.manifest["datasets"].items():
        if name not in registry.names() or registry.path(name) is None:
            raise Skipped(f"dataset '{name}' is not here: codecbench data get {name}")
        here = registry.open_dataset(name)
        ours = fingerprint(here, check(here))
        if facts["fingerprint"] != ours:
            yield f"'{name}' has the fingerprint {facts['fingerprint'][:12]}, here it has {ours[:12]}"
        if {u["id"] for u in facts["utterances"]} != {u.id for u in here.utterances}:
            yield f"'{name}' does not list the utterances that it has here"


def signatures(case: Case) -> Iterator[str]:
    """Every column has one signature, the one that run.json states."""
    for metric, found in case.items.groupby("metric")["signature"].unique().items():
        stated = case.manifest["metrics"].get(metric, {}).get("signature")
        if list(found) != [stated]:
            yield f"{metric} has the signatures {', '.join(map(str, found))}, run.json states {stated}"


def values(case: Case) -> Iterator[str]:
    """A row is ok if and only if it has a finite value; any other has a reason."""
    import numpy as np

    rows = case.items
    value, ok = rows["value"].astype(float), rows["status"] == "ok"
    if bad := int((ok != np.isfinite(value)).sum()):
        yield f"{bad} rows are ok without a value, or have a value without being ok"
    if bad := int((~ok & (rows["reason"].fillna("") == "")).sum()):
        yield f"{bad} rows are not ok and give no reason"


def bits(case: Case) -> Iterator[str]:
    """Every coded item has its packed codes, and the bits of its rows are theirs."""
    coded = case.items[case.items["bits"].notna()]
    keys = ["system", "point", "dataset", "utterance"]
    if len(coded.drop_duplicates([*keys, "bits", "header_bits"])) != len(coded.drop_duplicates(keys)):
        yield "rows of one item state different bits"
    names = case.evidence.set_index(keys)["codes"].to_dict()
    evidence, problems = Evidence(case.run), []
    for row in coded.drop_duplicates(keys).itertuples(index=False):
        name = names.get((row.system, row.point, row.dataset, row.utterance))
        problem = _wrong_bits(evidence, name, (row.bits, row.header_bits))
        if problem:
            problems.append(f"{row.point} {row.utterance}: {problem}")
    if problems:
        yield f"{len(problems)} items, such as {problems[0]}"


def _wrong_bits(evidence: Evidence, name: str | None, stated: tuple[Any, Any]) -> str:
    if not name:
        return "no packed codes"
    try:
        packed = pack(unpack(evidence.get(name)))
    except (BitstreamError, ValueError, CodecbenchError) as error:
        return str(error)
    if (packed.bits, packed.header_bits) != stated:
        return f"the row states {stated[0]} bits, its codes are {packed.bits}"
    return ""


def earlier_version(case: Case) -> Iterator[str]:
    """The chain holds, nothing that was measured is gone, and no mean moved unexplained."""
    before, now = case.earlier, case.submission
    if before is None:
        if now.previous:
            raise Skipped(f"it replaces the submission {now.previous[:12]}: give that with --against")
        return
    if now.previous != sha256(before.folder / MANIFEST):
        yield "it does not name the submission that it replaces: make it with `codecbench submit` beside that one"
    old = Case(before).items
    gone = set(zip(old["point"], old["dataset"], old["metric"], strict=True)) - set(
        zip(case.items["point"], case.items["dataset"], case.items["metric"], strict=True)
    )
    if gone:
        yield f"{len(gone)} cells are gone, such as {' '.join(min(gone))}"
    keys = ["point", "dataset", "metric", "signature"]
    means = (frame[frame["status"] == "ok"].groupby(keys)["value"].mean() for frame in (old, case.items))
    was, is_now = next(means), next(means)
    for key, change in (is_now - was).dropna().items():
        if abs(change) > CHANGED:
            yield f"{' '.join(key[:3])} changed by {change:+.4g}"  # type: ignore[index]


def paths(case: Case) -> Iterator[str]:
    """A proposal touches its own folder alone."""
    if case.paths is None:
        raise Skipped("the changed paths were not given (--paths)")
    name = case.submission.folder.resolve().name
    yield from (f"it also changes {path}" for path in case.paths if PurePosixPath(path).parts[:1] != (name,))


STATIC: tuple[Check, ...] = (
    files, card, conformance, run, complete, dataset, signatures, values, bits, earlier_version, paths,
)  # fmt: skip
"""The checks that need nothing of the adapter."""
