import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codecbench.benchmark.cache import DiskCache
from codecbench.benchmark.site_stamp import SiteStamp
from codecbench.metrics import asr, recognition
from codecbench.metrics.base import Output, Reference

TABLES = ("results.parquet", "evidence.parquet")
POINTS = 3
CLIPS = 12
REPEATED = 2

Run = Callable[..., Any]


def digests(folder: Path) -> list[str]:
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in TABLES]


@pytest.fixture
def run(run: Run) -> Run:
    """Run a sweep to its end, recalling what earlier ones kept."""

    def go(*systems: str, recall: bool = True, **facts: Any) -> Any:
        return run(*systems, recall=recall, **facts)

    return go


@pytest.fixture
def calls(tmp_path: Path) -> Callable[[], Counter[str]]:
    """How often the counted adapters encoded and decoded since the last time of asking."""

    def asked() -> Counter[str]:
        file = tmp_path / "calls"
        found = Counter(file.read_text().split()) if file.exists() else Counter()
        file.unlink(missing_ok=True)
        return found

    return asked


ALL = {"encode": CLIPS + REPEATED, "decode": POINTS * CLIPS + REPEATED}
KEPT = ("--keep-codes", "--keep-audio", "2")


@pytest.mark.slow
def test_a_nested_codec_encodes_once_for_all_points_and_what_is_kept_is_never_coded_again(
    run: Run, calls: Callable[[], Counter[str]], tmp_path: Path
) -> None:
    run("Counted", out="cold", options=KEPT)
    assert calls() == ALL
    run("Counted", out="warm", options=KEPT)
    assert calls() == {}
    run("Counted", out="none", options=KEPT, recall=False)
    assert calls() == ALL
    assert digests(tmp_path / "cold") == digests(tmp_path / "warm") == digests(tmp_path / "none")

    run("Counted", out="more", metrics="si_sdr,lsd,mel,si_sdr@codec", options=KEPT)
    assert calls() == {}
    run("Counted", out="more-none", metrics="si_sdr,lsd,mel,si_sdr@codec", options=KEPT, recall=False)
    assert digests(tmp_path / "more") == digests(tmp_path / "more-none")


@pytest.mark.slow
def test_what_is_damaged_is_coded_again_and_nothing_else(
    run: Run, calls: Callable[[], Counter[str]], tmp_path: Path
) -> None:
    run("Counted", out="cold")
    calls()
    artefacts = sorted(path for path in (tmp_path / "cache" / "work" / "coded").rglob("*") if path.is_file())
    assert len(artefacts) == POINTS * CLIPS
    for path, place in zip(artefacts[:3], (10, -1, -10), strict=True):
        data = bytearray(path.read_bytes())
        data[place] ^= 1
        path.write_bytes(data)
    done = run("Counted", out="more", metrics="si_sdr,lsd,mel")
    found = calls()
    assert found["decode"] == 3
    assert 1 <= found["encode"] <= 3
    assert done.stderr.count("is corrupt") == 3
    run("Counted", out="none", metrics="si_sdr,lsd,mel", recall=False)
    assert digests(tmp_path / "more") == digests(tmp_path / "none")


def test_a_time_is_told_only_where_it_was_measured(run: Run, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    for out, measured in (("cold", POINTS * CLIPS), ("warm", 0)):
        run("Counted", out=out)
        assert pq.read_table(tmp_path / out / "timings.parquet").num_rows == measured


@pytest.mark.slow
@pytest.mark.parametrize("system", ["CountedNoise", "CountedCaller"])
def test_a_system_whose_output_depends_on_more_is_never_kept(
    run: Run, calls: Callable[[], Counter[str]], system: str
) -> None:
    for out in ("one", "two"):
        run(system, out=out)
        assert calls() == ALL


@pytest.mark.slow
def test_an_audit_codes_everything(run: Run, calls: Callable[[], Counter[str]]) -> None:
    run("Counted", out="cold")
    calls()
    run("Counted", out="audit", options=("--audit",))
    assert calls() == ALL


@pytest.mark.slow
def test_other_points_are_added_to_those_that_are_kept(run: Run, calls: Callable[[], Counter[str]]) -> None:
    run("Counted", out="one", options=("--points", "3x4bit"))
    calls()
    run("Counted", out="all")
    found = calls()
    assert found["decode"] == 2 * CLIPS + REPEATED
    assert found["encode"] == CLIPS + REPEATED


def test_another_normaliser_or_unit_transcribes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []

    class Recogniser:
        languages = frozenset({"en"})

        def transcribe(self, samples: np.ndarray[Any, Any], language: str) -> str:
            heard.append(len(samples))
            return f"one TWO, {language}"

    monkeypatch.setattr(asr, "load", lambda _: Recogniser())
    monkeypatch.setattr(asr, "parts", lambda _: {"model": "a recogniser"})
    samples = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)

    def rate(unit: Any) -> float:
        cache = DiskCache(tmp_path)  # as in another process: nothing is in memory
        reference = Reference(samples, 16_000, transcript="one two en", language="en", cache=cache)
        output = Output(samples / np.float32(2), 16_000, cache=cache)
        return recognition.error_rate(reference, output, "", unit, "text", "output").value

    monkeypatch.setattr(recognition, "normalise", lambda text, _: text)
    assert rate("words") == pytest.approx(1 / 3)
    assert len(heard) == 1
    monkeypatch.setattr(recognition, "normalise", lambda text, _: text.lower().replace(",", ""))
    assert rate("words") == 0
    assert rate("characters") == 0
    assert len(heard) == 1


def test_a_site_is_built_again_if_a_run_or_the_site_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "cache"))
    run, site = tmp_path / "run", tmp_path / "run" / "site"
    site.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    (site / "index.html").write_text("page")

    def stamp(budget: float = 50) -> SiteStamp:
        return SiteStamp([run], site, budget)

    assert not stamp().holds()
    stamp().set()
    assert stamp().holds()
    assert not stamp(budget=0).holds()
    for file in (run / "run.json", site / "index.html"):
        file.write_text("changed")
        assert not stamp().holds()
        stamp().set()
        assert stamp().holds()
    (site / "index.html").unlink()
    assert not stamp().holds()
