"""Hub datasets: the missing package, and the conversion with a stand-in for it."""

import io
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile

from codecbench.benchmark.datasets import registry
from codecbench.benchmark.datasets.base import check
from codecbench.errors import InfrastructureError, UsageError
from codecbench.recording import DataError

SPEC = "hf:owner/name:clean:test"


class Audio:
    def __init__(self, decode: bool = True) -> None:
        self.decode = decode


class Table:
    """What `datasets.load_dataset` returns, as far as it is used: features, a length, undecoded rows after a cast."""

    def __init__(self, features: dict[str, Any], rows: list[dict[str, Any]]) -> None:
        self.features, self.rows = features, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Any:
        assert all(not f.decode for f in self.features.values() if isinstance(f, Audio)), "would need torchcodec"
        return iter(self.rows)

    def cast_column(self, name: str, feature: Audio) -> "Table":
        return Table({**self.features, name: feature}, self.rows)


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.full(1600, 0.25), 16_000, format=kind)
    return buffer.getvalue()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "local.wav").write_bytes(encoded("WAV"))
    rows: list[dict[str, Any]] = [
        {
            "audio": {"bytes": encoded("FLAC"), "path": "x/1.flac"},
            "sentence": "Un, deux.",
            "client_id": 7,
            "locale": "fr",
        },
        {"audio": {"bytes": encoded("WAV"), "path": None}, "sentence": None, "client_id": 8, "locale": "fr"},
        {
            "audio": {"bytes": None, "path": str(tmp_path / "local.wav")},
            "sentence": "trois",
            "client_id": 8,
            "locale": "",
        },
    ]
    module: Any = ModuleType("datasets")
    module.Audio = Audio
    module.table = Table({"audio": Audio(), **dict.fromkeys(("sentence", "client_id", "locale"), object())}, rows)

    def load_dataset(path: str, name: str, *, split: str) -> Table:
        assert (path, name, split) == ("owner/name", "clean", "test")
        return module.table  # type: ignore[no-any-return]

    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)
    return module  # type: ignore[no-any-return]


@pytest.mark.usefixtures("hub")
def test_rows_become_files_with_a_manifest(tmp_path: Path) -> None:
    steps: list[tuple[int, int | None]] = []
    folder = registry.get(SPEC, lambda done, total: steps.append((done, total)))
    assert folder == registry.path(SPEC) == tmp_path / "cache/datasets/hub/owner--name/clean/test"
    assert steps == [(1, 3), (2, 3), (3, 3)]
    data = registry.open_dataset(SPEC)
    assert data.card.name == SPEC
    assert [(u.id, u.path.name, u.speaker, u.language, u.transcript) for u in data.utterances] == [
        ("000000", "000000.flac", "7", "fr", "Un, deux."),
        ("000001", "000001.wav", "8", "fr", ""),
        ("000002", "000002.wav", "8", "", "trois"),
    ]
    assert [c.subtype for c in check(data)] == ["FLAC PCM_16", "WAV PCM_16", "WAV PCM_16"]
    assert (folder / "000000.flac").read_bytes() == encoded("FLAC")


def test_a_row_without_audio(hub: Any) -> None:
    hub.table.rows[1]["audio"]["bytes"] = None
    with pytest.raises(DataError, match="row 1 of 'hf:owner/name:clean:test' has no audio"):
        registry.get(SPEC)
    assert registry.path(SPEC) is None


def test_no_rows(hub: Any) -> None:
    hub.table.rows.clear()
    with pytest.raises(DataError, match="has no rows"):
        registry.get(SPEC)


def test_no_audio_column(hub: Any) -> None:
    del hub.table.features["audio"]
    with pytest.raises(DataError, match="has 0 audio columns, not one: sentence, client_id, locale"):
        registry.get(SPEC)


def test_what_the_hub_refuses_is_one_line(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("Unknown split 'test'.\nAvailable: train")

    monkeypatch.setattr(hub, "load_dataset", refuse)
    with pytest.raises(InfrastructureError, match=r"cannot get '.*' from the hub: Unknown split 'test'\.$"):
        registry.get(SPEC)


def test_the_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"need the package datasets: pip install 'codecbench\[hub\]'"):
        registry.get(SPEC)
    assert registry.path(SPEC) is None
