"""Recordings in the site: which fit, what is said of those that do not, and that none is changed."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from codecbench.errors import InfrastructureError
from codecbench.leaderboard.aggregate import aggregate
from codecbench.leaderboard.load import read_runs
from codecbench.leaderboard.pages.audio import Audio, choose
from codecbench.leaderboard.pages.base import Site
from codecbench.leaderboard.recordings import read_kept
from codecbench.leaderboard.site import build

Copy = Callable[[], Path]


@pytest.fixture(scope="session")
def built(audible_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build([audible_run], tmp_path_factory.mktemp("built")).parent


@pytest.fixture
def copy(audible_run: Path, tmp_path: Path) -> Copy:
    """Makes a copy of the run that a test may damage."""
    return lambda: Path(shutil.copytree(audible_run, tmp_path / "copy"))


def chosen(run: Path, budget: float = 50) -> Audio:
    board = read_runs([run])
    return choose(board.kept, Site(board, aggregate(board)).entries, budget)


def told(site: Path, dataset: str) -> dict[str, Any]:
    (path,) = (site / "data").glob(f"{dataset}-*.audio.js")
    text = path.read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text.removeprefix("self.codecbenchListening=").rstrip().removesuffix(";"))
    return found


def test_recordings_travel_unchanged_and_twice(audible_run: Path, built: Path) -> None:
    original = {path.stem[:32]: path.read_bytes() for path in (audible_run / "evidence").rglob("*.flac")}
    files = sorted((built / "audio").glob("*.flac"))
    assert files
    assert {path.stem for path in files} == set(original)
    for path in files:
        assert path.read_bytes() == original[path.stem]
        assert hashlib.sha256(path.read_bytes()).hexdigest().startswith(path.stem)
        script = path.with_suffix(".js").read_text(encoding="ascii")
        match = re.fullmatch(r'\(self\.codecbenchAudio\?\?=\{\}\)\["([0-9a-f]{32})"\]="([A-Za-z0-9+/=]+)";\n', script)
        assert match
        assert match[1] == path.stem
        assert base64.b64decode(match[2], validate=True) == original[path.stem]


def test_the_budget_counts_every_byte(built: Path, audible_run: Path) -> None:
    written = sum(path.stat().st_size for path in (built / "audio").iterdir())
    assert chosen(audible_run).used == written


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.6, 0.95])
def test_no_more_is_taken_than_fits(audible_run: Path, tmp_path: Path, share: float) -> None:
    budget = chosen(audible_run).used / 1e6 * share
    audio = chosen(audible_run, budget)
    assert audio.used <= budget * 1e6
    list(audio.write(tmp_path))
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.*")) == audio.used
    for scene in audio.scenes:
        assert len(scene.outputs) + sum(scene.absent.values()) == 6
        assert not scene.outputs or scene.reference
        assert all("did not fit into the budget" in reason for reason in scene.absent)
    assert any(scene.absent for scene in audio.scenes)


def test_a_small_budget_serves_all_datasets_and_systems_first(audible_run: Path) -> None:
    whole = chosen(audible_run)
    audio = chosen(audible_run, whole.used / 1e6 * 0.45)
    assert {scene.dataset for scene in audio.scenes if scene.outputs} == {"demo", "other"}
    assert len({system for system, _ in list(audio.scenes[0].outputs)[:3]}) == 3


def test_what_is_left_out_is_said(audible_run: Path, tmp_path: Path) -> None:
    budget = round(chosen(audible_run).used / 1e6 * 0.4, 2)
    site = build([audible_run], tmp_path / "site", audio_budget=budget).parent
    texts = [path.read_text(encoding="utf-8") for path in (site / "listen").iterdir()]
    assert texts
    assert all(f"did not fit into the budget of {budget:g} MB" in text for text in texts)
    assert all(re.search(r"\d+ of 18 outputs that the runs kept of 3 utterances", text) for text in texts)


def test_no_budget_no_audio(audible_run: Path, tmp_path: Path) -> None:
    site = build([audible_run], tmp_path / "site", audio_budget=0).parent
    assert not (site / "audio").exists()
    assert not (site / "listen").exists()
    assert ">Listen<" not in (site / "index.html").read_text(encoding="utf-8")


def test_a_smaller_budget_removes_what_an_earlier_build_took(audible_run: Path, tmp_path: Path) -> None:
    build([audible_run], tmp_path / "site")
    before = len(list((tmp_path / "site/audio").iterdir()))
    build([audible_run], tmp_path / "site", audio_budget=chosen(audible_run).used / 2e6)
    assert 0 < len(list((tmp_path / "site/audio").iterdir())) < before


def test_the_same_run_gives_the_same_bytes(audible_run: Path, built: Path, tmp_path: Path) -> None:
    again = build([audible_run], tmp_path / "again").parent
    for folder in ("audio", "listen", "data", "utterance"):
        for path in sorted((built / folder).iterdir()):
            assert (again / folder / path.name).read_bytes() == path.read_bytes()


def test_the_player_is_told_what_was_measured(audible_run: Path, built: Path) -> None:
    found = told(built, "demo")
    assert [item["id"] for item in found["utterances"]] == ["utt000", "utt002", "utt004"]
    kept = {(k.dataset, k.utterance, k.system): k for k in read_kept([audible_run])}["demo", "utt000", "opus"]
    (output,) = [o for o in found["utterances"][0]["outputs"] if o["key"] == f"opus~{kept.point}"]
    assert kept.output is not None
    samples, rate = soundfile.read(kept.output)
    assert output["name"] == kept.output.stem[:32]
    assert output["rate"] == rate
    assert output["peak"] == pytest.approx(20 * np.log10(np.abs(samples).max()), abs=0.01)
    assert -40 < output["loudness"] < -10
    assert output["clipped"] == 0


def test_plain_players_need_no_script_and_never_begin_by_themselves(built: Path) -> None:
    for path in (built / "listen").iterdir():
        players = re.findall(r"<audio[^>]*>", path.read_text(encoding="utf-8"))
        assert len(players) == 3 * 7
        assert all("controls" in p and 'preload="none"' in p and "autoplay" not in p for p in players)
        for source in re.findall(r'<audio[^>]*src="([^"]+)"', path.read_text(encoding="utf-8")):
            assert (path.parent / source).resolve().is_file()


@pytest.mark.parametrize(
    ("harm", "says"),
    [(lambda path: path.unlink(), "cannot be read"), (lambda path: path.write_bytes(b"fLaC"), "another hash")],
)
def test_a_damaged_recording_is_left_out_with_its_name(copy: Copy, harm: Callable[[Path], Any], says: str) -> None:
    run = copy()
    kept = read_kept([run])
    victim = next(k.output for k in kept if k.output)
    harm(victim)
    audio = chosen(run)
    (scene,) = [scene for scene in audio.scenes if scene.absent]
    ((reason, count),) = scene.absent.items()
    assert count == 1
    assert victim.name in reason
    assert says in reason
    assert len(scene.outputs) == 5


@pytest.mark.parametrize("data", [b"", b"no recording at all"])
def test_a_file_that_is_no_recording_is_left_out(copy: Copy, data: bytes) -> None:
    run = copy()
    frame = pd.read_parquet(run / "evidence.parquet")
    name = f"{hashlib.sha256(data).hexdigest()}.flac"
    path = run / "evidence" / name[:2] / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    frame.loc[frame["output"].notna().idxmax(), "output"] = name
    frame.to_parquet(run / "evidence.parquet", index=False)
    reasons = [reason for scene in chosen(run).scenes for reason in scene.absent]
    assert len(reasons) == 1
    assert f"{name} cannot be decoded" in reasons[0]


@pytest.mark.parametrize("name", ["../../run.json", "ab/cd.flac", "", "/etc/passwd"])
def test_a_name_that_leads_elsewhere_is_refused(copy: Copy, name: str) -> None:
    run = copy()
    frame = pd.read_parquet(run / "evidence.parquet")
    frame.loc[0, "output"] = name
    frame.to_parquet(run / "evidence.parquet", index=False)
    with pytest.raises(InfrastructureError, match=r"evidence.parquet is damaged: '.*' names no recording"):
        read_kept([run])


def test_silence_and_full_scale(copy: Copy) -> None:
    run = copy()
    frame = pd.read_parquet(run / "evidence.parquet")
    places = frame.index[frame["output"].notna()][:2]
    for place, samples in zip(places, (np.zeros(8000, np.int16), np.full(8000, 32_767, np.int16)), strict=True):
        path = run / "x.flac"
        soundfile.write(path, samples, 16_000)
        name = f"{hashlib.sha256(path.read_bytes()).hexdigest()}.flac"
        (run / "evidence" / name[:2]).mkdir(exist_ok=True)
        path.rename(run / "evidence" / name[:2] / name)
        frame.loc[place, "output"] = name
    frame.to_parquet(run / "evidence.parquet", index=False)
    outputs = [r for scene in chosen(run).scenes for r in scene.outputs.values() if r.seconds == 0.5]
    assert {(r.loudness, r.peak, r.clipped) for r in outputs if r.peak is None} == {(None, None, 0)}
    assert {r.clipped for r in outputs if r.peak is not None} == {8000}


def test_a_run_without_evidence_has_none(full_run: Path) -> None:
    assert read_kept([full_run]) == ()
    assert chosen(full_run) == Audio()
