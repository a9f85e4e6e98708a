"""Pairs of recordings: the layouts they come in, sweeps over them, and what is refused."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from codecbench.benchmark.datasets.registry import open_dataset
from codecbench.recording import DataError

RATE = 8000


def write(path: Path, wild: bool) -> None:
    """Half a second of an even buzz, which a bigram model of loudness likes, or of one that jumps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    level = np.repeat(np.where(wild, np.arange(50) % 2, 1) * 0.2, RATE // 100)
    soundfile.write(path, level * np.sign(np.sin(0.05 + 2 * np.pi * 100 * np.arange(len(level)) / RATE)), RATE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four pairs: in three the better one is likelier, in one both are the same."""
    for k in range(4):
        write(tmp_path / "pairs" / f"sample_{k}_0.wav", wild=False)
        write(tmp_path / "pairs" / f"sample_{k}_1.wav", wild=k < 3)
    (tmp_path / "pairs" / "README.txt").write_text("no recording")
    return tmp_path / "pairs"


def zerospeech(folder: Path, columns: str, rows: list[str]) -> Path:
    folder.mkdir(parents=True)
    (folder / "gold.csv").write_text("\n".join([columns, *rows]) + "\n")
    for row in rows:
        write(folder / f"{row.split(',')[1]}.wav", wild=False)
    return folder


LEXICAL = ("id,filename,voice,frequency,word,phones,length,correct", [
    "1,aX,A,12,rain,r ey n,3,1", "1,aY,A,,nair,n ey r,3,0", "1,bX,B,12,rain,r ey n,3,1", "1,bY,B,,nair,n ey r,3,0",
    "2,cX,A,0,glim,g l i m,4,1", "2,cY,A,,grim,g r i m,4,0",
])  # fmt: skip
SYNTACTIC = ("id,filename,voice,type,subtype,transcription,correct", [
    "7,sX,A,agreement,verb,the cat sits,1", "7,sY,A,agreement,verb,the cat sit,0",
])  # fmt: skip


def test_files_in_pairs(folder: Path) -> None:
    found = open_dataset(f"pairs:{folder}")
    assert found.task == "pairs"
    assert [u.id for u in found.utterances] == [f"sample_{k}" for k in range(4)]
    contrasts = [u.asked.contrast.name for u in found.utterances if u.asked and u.asked.contrast]
    assert contrasts == [f"sample_{k}_1.wav" for k in range(4)]
    part = shutil.copytree(folder, folder.parent / "speaker_consistency")
    assert open_dataset(f"salmon:{part}").card.name == "salmon/speaker_consistency"
    assert {u.language for u in open_dataset(f"storycloze:{folder}").utterances} == {"en"}
    (folder / "sample_2_1.wav").unlink()
    with pytest.raises(DataError, match=r"without the other half of the pair: .*sample_2_0.wav"):
        open_dataset(f"pairs:{folder}")


def test_zerospeech_pairs_words_by_voice(tmp_path: Path) -> None:
    lexical = zerospeech(tmp_path / "lexical" / "dev", *LEXICAL)
    found = open_dataset(f"swuggy:{tmp_path / 'lexical'}").utterances
    assert [(u.id, u.path.stem, u.speaker, u.transcript) for u in found] == [
        ("1/A", "aX", "1", "rain"), ("1/B", "bX", "1", "rain"), ("2/A", "cX", "2", "glim"),
    ]  # fmt: skip
    assert [u.asked.contrast.stem for u in found if u.asked and u.asked.contrast] == ["aY", "bY", "cY"]
    assert [u.id for u in open_dataset(f"swuggy-invocab:{lexical}").utterances] == ["1/A", "1/B"]
    syntactic = zerospeech(tmp_path / "syntactic" / "dev", *SYNTACTIC)
    assert [u.transcript for u in open_dataset(f"sblimp:{syntactic}").utterances] == ["the cat sits"]
    (lexical / "bY.wav").unlink()
    with pytest.raises(DataError, match=r"1 recordings are missing: .*bY.wav"):
        open_dataset(f"swuggy:{lexical}")


@pytest.mark.parametrize(
    ("columns", "rows", "said"),
    [
        ("id,filename,voice", ["1,a,A"], "no column 'correct'"),
        (LEXICAL[0], LEXICAL[1][:1], "without the other half of the pair: 1 of voice A"),
        (LEXICAL[0], [LEXICAL[1][0], LEXICAL[1][0]], "'correct' is '1', not the other half"),
    ],
)
def test_a_faulty_gold_list_says_what(tmp_path: Path, columns: str, rows: list[str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        open_dataset(f"swuggy:{zerospeech(tmp_path / 'gold', columns, rows)}")


def test_a_sweep_tells_pairs_apart_and_says_how_many_tie(
    sweep: Callable[..., subprocess.CompletedProcess[str]], folder: Path, rows: Any
) -> None:
    metrics = "pair_accuracy,pair_ties,pair_accuracy:sum"
    sweep(["Honest", "prompt_loop"], [f"pairs:{folder}"], metrics)
    values = {(r["system"], r["metric"], r["utterance"]): r["value"] for r in rows() if r["utterance"] != "*"}
    assert len(values) == 2 * 3 * 4
    honest = [values["honest-lm", "pair_accuracy", f"sample_{k}"] for k in range(4)]
    assert honest == [1.0, 1.0, 1.0, 0.5]
    assert [values["honest-lm", "pair_ties", f"sample_{k}"] for k in range(4)] == [0.0, 0.0, 0.0, 1.0]
    assert {values["prompt_loop", "pair_accuracy", f"sample_{k}"] for k in range(4)} == {0.5}  # the floor is chance


def test_a_manifest_of_pairs_and_failures_that_count(
    sweep: Callable[..., subprocess.CompletedProcess[str]], folder: Path, rows: Any
) -> None:
    (folder / "list.csv").write_text("path,task,contrast\nsample_0_0.wav,pairs,sample_0_1.wav\n")
    sweep(["Improper"], [str(folder / "list.csv")], "pair_accuracy", check=2)
    assert [(r["status"], r["reason"][:10]) for r in rows(metric="pair_accuracy")] == [("failed", "likelihood")]
    said = sweep(["identity"], [str(folder / "list.csv")], "pair_accuracy", check=1).stderr
    assert "a codec gives no text, and no likelihood" in said
    (folder / "list.csv").write_text("path,task\nsample_0_0.wav,pairs\n")
    with pytest.raises(DataError, match="the task 'pairs' needs 'contrast'"):
        open_dataset(str(folder / "list.csv"))
