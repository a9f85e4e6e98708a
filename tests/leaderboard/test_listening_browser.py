"""The player in real browsers, opened from a folder; the scenarios are in ``tests/site/listening.mjs``."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from codecbench.leaderboard.site import build

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Visit = Callable[[Path, str], Any]


@pytest.fixture(scope="session")
def site(audible_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with audio, in a folder whose path wants escaping."""
    return build([audible_run], tmp_path_factory.mktemp("a b#c%20ü") / "site")


@pytest.mark.parametrize(
    "scenario",
    [
        "logic",
        "engine",
        "playing",
        "choosing",
        "abx",
        "blind",
        "transcripts",
        "accessiblePlayer",
        "everyPage",
        "links",
        "stateOfListening",
    ],
)
def test_the_player(visit: Visit, site: Path, scenario: str) -> None:
    visit(site, scenario)


def put(run: Path, samples: np.ndarray[Any, Any], rate: int, form: str) -> str:
    """Add a recording to a run's evidence; returns its name."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=form, subtype="PCM_16")
    name = f"{hashlib.sha256(buffer.getvalue()).hexdigest()}.flac"
    path = run / "evidence" / name[:2] / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(buffer.getvalue())
    return name


def test_one_bad_recording_harms_no_other(visit: Visit, audible_run: Path, tmp_path: Path) -> None:
    """Missing, cut, altered, of a format that no browser knows: each is named. 192 kHz plays; and where all is gone
    nothing does."""
    run = Path(shutil.copytree(audible_run, tmp_path / "run"))
    evidence = pd.read_parquet(run / "evidence.parquet")
    here = (evidence["dataset"] == "demo") & (evidence["utterance"] == "utt000")
    places: dict[str, Any] = {f"{row['system']}~{row['point']}": k for k, row in evidence[here].iterrows()}
    assert len(places) == 6
    tone = 0.1 * np.sin(np.arange(192_000) / 40)
    evidence.loc[places["opus~6kbps"], "output"] = put(run, tone, 16_000, "AIFF")
    evidence.loc[places["mimi~0.55kbps"], "output"] = put(run, tone, 192_000, "FLAC")
    evidence.to_parquet(run / "evidence.parquet", index=False)
    built = build([run], tmp_path / "site").parent

    def script(key: str) -> Path:
        return built / "audio" / f"{str(evidence.loc[places[key], 'output'])[:32]}.js"

    script("encodec_24khz~1.5kbps").unlink()
    cut = script("mimi~1.1kbps")
    cut.write_text(cut.read_text()[:2000])
    altered = script("encodec_24khz~3kbps")
    text = altered.read_text()
    altered.write_text(text[:600] + ("A" if text[600] != "A" else "B") + text[601:])
    gone = (evidence["dataset"] == "demo") & (evidence["utterance"] == "utt002")
    for name in set(evidence[gone]["output"]) | set(evidence[gone]["reference"]):
        (built / "audio" / f"{name[:32]}.js").unlink()
    says = {
        "opus~6kbps": "cannot be decoded by this browser", "encodec_24khz~1.5kbps": "is missing",
        "mimi~1.1kbps": "is damaged", "encodec_24khz~3kbps": "is damaged: its content is not what its name says",
    }  # fmt: skip
    (built / "broken.json").write_text(json.dumps(says))
    assert visit(built / "index.html", "broken") == 7
