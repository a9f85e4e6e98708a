"""Weight files: fetched once, checked always, and read without running anything in them."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from codecbench import download, weights
from codecbench.errors import InfrastructureError, InvalidSystem
from codecbench.weights import WeightFile

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}
BODY = b"the weights"
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URLs that were asked for, of a network where every file holds `BODY`."""
    asked: list[str] = []

    def fetch(url: str, target: Path, sha256: str = "", progress: Any = None) -> str:  # noqa: ARG001
        asked.append(url)
        if not SHA256.startswith(sha256):
            raise InfrastructureError("another file")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(BODY)
        return SHA256

    monkeypatch.setattr(download, "fetch", fetch)
    return asked


def file(sha256: str = "") -> WeightFile:
    return WeightFile("model.th", "https://example.org/model.th", sha256)


@pytest.mark.parametrize("sha256", ["", SHA256, SHA256[:8], SHA256.upper()])
def test_get_downloads_once(downloads: list[str], cache: Path, sha256: str) -> None:
    assert weights.local_path(file(sha256)) is None
    path = weights.get(file(sha256))
    assert path == cache / "weights" / "model.th"
    assert path.read_bytes() == BODY
    assert weights.get(file(sha256)) == weights.local_path(file(sha256)) == path
    assert downloads == ["https://example.org/model.th"]


def test_an_unknown_hash_is_pinned(downloads: list[str], cache: Path) -> None:
    path = weights.get(file())
    lock = cache / "weights" / "model.th.lock.json"
    assert json.loads(lock.read_text()) == {"sha256": SHA256, "size": len(BODY), "url": file().url}
    path.write_bytes(b"changed")
    with pytest.raises(InfrastructureError, match=f"expected {SHA256} .pinned in .*model.th.lock.json.; delete it"):
        weights.get(file())
    with pytest.raises(InfrastructureError, match="not the published file"):
        weights.resolve("some_codec", file())
    path.unlink()
    weights.get(file())
    assert len(downloads) == 2


def test_a_pin_binds_the_next_download(downloads: list[str], cache: Path) -> None:
    (cache / "weights").mkdir(parents=True)
    (cache / "weights" / "model.th.lock.json").write_text(json.dumps({"sha256": "0" * 64}))
    with pytest.raises(InfrastructureError, match="another file"):
        weights.get(file())
    assert weights.local_path(file()) is None
    assert len(downloads) == 1


def test_a_damaged_lock_is_named(cache: Path) -> None:
    (cache / "weights").mkdir(parents=True)
    (cache / "weights" / "model.th").write_bytes(BODY)
    (cache / "weights" / "model.th.lock.json").write_text("{")
    with pytest.raises(InfrastructureError, match=r"cannot read the pinned hash in .*model\.th\.lock\.json"):
        weights.get(file())


def test_a_known_hash_needs_no_pin(downloads: list[str], cache: Path) -> None:
    weights.get(file(SHA256[:8]))
    assert sorted(path.name for path in (cache / "weights").iterdir()) == ["model.th"]
    (cache / "weights" / "model.th").write_bytes(b"changed")
    with pytest.raises(InfrastructureError, match=f"not the published file: .* expected {SHA256[:8]}; delete it"):
        weights.get(file(SHA256[:8]))
    assert len(downloads) == 1


def test_resolve(downloads: list[str], tmp_path: Path) -> None:
    with pytest.raises(
        InvalidSystem, match=r"^some_codec: .*`codecbench weights get some_codec`.*--random-weights SEED"
    ):
        weights.resolve("some_codec", file())
    assert downloads == [], "nothing is fetched on the way"
    with pytest.raises(InvalidSystem, match=r"some_codec: no such file .*nowhere"):
        weights.resolve("some_codec", file(), tmp_path / "nowhere")
    assert weights.resolve("some_codec", file(), tmp_path) == tmp_path
    assert weights.get(file()) == weights.resolve("some_codec", file())


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == STATE.keys() and all(torch.equal(found[name], STATE[name]) for name in STATE)


def test_safetensors_and_plain_pickles_are_read(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "model.safetensors")
    torch.save(STATE, tmp_path / "new.th")
    torch.save(STATE, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("model.safetensors", "new.th", "old.pt", ""):
        assert same(weights.read_state_dict(tmp_path / name))


class Canary:
    """A pickle that makes a folder when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, zipped: bool) -> None:
    canary, hostile = tmp_path / "canary", tmp_path / "hostile.th"
    torch.save({**STATE, "b": Canary(canary)}, hostile, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        InvalidSystem, match=r"hostile\.th cannot be read as tensors: .* could run code, so it is refused"
    ) as caught:
        weights.read_state_dict(hostile)
    assert not canary.exists()
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value), "no advice to switch the protection off"
    torch.load(hostile, weights_only=False)
    assert canary.exists(), "the canary would have sung"


def test_a_bare_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hostile.th").write_bytes(pickle.dumps(Canary(tmp_path / "canary"), protocol=2))
    with pytest.raises(InvalidSystem, match="could run code, so it is refused"):
        weights.read_state_dict(tmp_path / "hostile.th")
    assert not (tmp_path / "canary").exists()


def test_a_file_of_several_parts(tmp_path: Path) -> None:
    torch.save({"encoder": STATE, "decoder": {"b": torch.ones(1)}}, tmp_path / "x.th")
    found = weights.read_state_dict(tmp_path / "x.th", parts=("encoder", "decoder"))
    assert list(found) == [*(f"encoder.{name}" for name in STATE), "decoder.b"]
    with pytest.raises(InvalidSystem, match="holds a dict under 'decoder', where a tensor should be"):
        weights.read_state_dict(tmp_path / "x.th", parts=("encoder",))


def test_a_mapping_among_other_things(tmp_path: Path) -> None:
    torch.save({"model": {"generator": STATE, "discriminator": {}}, "steps": 3}, tmp_path / "x.pkl")
    assert same(weights.read_state_dict(tmp_path / "x.pkl", within=("model", "generator")))
    for within in (("model", "decoder"), ("steps", "generator")):
        with pytest.raises(InvalidSystem, match=f"holds no tensors under {'.'.join(within)}"):
            weights.read_state_dict(tmp_path / "x.pkl", within=within)


def test_members_of_a_folder_and_of_an_archive(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "x.pkl")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(tmp_path / "x.pkl", "exp/x.pkl")
    assert same(weights.read_state_dict(weights.member(tmp_path, "x.pkl")))
    assert same(weights.read_state_dict(weights.member(tmp_path / "all.zip", "exp/x.pkl")))
    for path in (tmp_path, tmp_path / "all.zip"):
        with pytest.raises(InvalidSystem, match=r"holds no file exp/y\.pkl"):
            weights.member(path, "exp/y.pkl")
    (tmp_path / "bad.zip").write_bytes(b"garbage")
    with pytest.raises(InvalidSystem, match="neither a folder nor a zip archive"):
        weights.member(tmp_path / "bad.zip", "x.pkl")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(1)], "holds a list, not a mapping"),
        ({"model": STATE}, "holds a dict under 'model', where a tensor should be"),
        ({**STATE, "epoch": 3}, "holds a int under 'epoch'"),
        ({1: torch.ones(1)}, "holds a Tensor under 1"),
    ],
)
def test_anything_but_named_tensors_is_refused(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "x.th")
    with pytest.raises(InvalidSystem, match=message):
        weights.read_state_dict(tmp_path / "x.th")


@pytest.mark.parametrize("name", ["x.th", "x.safetensors"])
@pytest.mark.parametrize("content", [b"", b"garbage" * 100, b"PK\x03\x04" + b"\0" * 50])
def test_damaged_files_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidSystem, match=f"{name} cannot be read as tensors") as caught:
        weights.read_state_dict(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [100, 700])
def test_truncated_files_are_refused(tmp_path: Path, cut: int) -> None:
    torch.save(STATE, tmp_path / "x.th")
    (tmp_path / "x.th").write_bytes((tmp_path / "x.th").read_bytes()[:cut])
    with pytest.raises(InvalidSystem, match="cannot be read as tensors"):
        weights.read_state_dict(tmp_path / "x.th")


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSystem, match=r"model\.safetensors cannot be read"):
        weights.read_state_dict(tmp_path)


def test_rename_keys() -> None:
    one, two = torch.ones(1), torch.ones(2)
    state = {"model.a.w": one, "model.b.w": two, "model.b.count": one}
    rules = [("^model\\.", ""), (r"^(a|b)\.w$", r"\1.weight")]
    assert weights.rename_keys(state, rules, drop="count$") == {"a.weight": one, "b.weight": two}
    assert weights.rename_keys(state, ()) == state


@pytest.fixture
def module() -> torch.nn.Module:
    return torch.nn.ModuleDict({name: torch.nn.Linear(3, 2) for name in "abcde"})


def test_load_state(module: torch.nn.Module) -> None:
    state = {name: torch.randn_like(tensor) for name, tensor in module.state_dict().items()}
    weights.load_state(module, state, Path("x.th"))
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())


def test_load_state_names_the_first_few_problems(module: torch.nn.Module) -> None:
    with pytest.raises(InvalidSystem) as caught:
        weights.load_state(module, {"a.weight": torch.ones(2, 3), "x": torch.ones(1)}, Path("x.th"))
    assert str(caught.value) == ("x.th does not fit the model: 9 missing: a.bias, b.weight, b.bias, …; 1 unexpected: x")


def test_load_state_names_wrong_shapes(module: torch.nn.Module) -> None:
    state = dict(module.state_dict())
    state["c.weight"] = torch.ones(3, 2)
    with pytest.raises(InvalidSystem, match=r"does not fit the model: size mismatch for c.weight: .*3, 2.*2, 3"):
        weights.load_state(module, state, Path("x.th"))


REPOSITORY = WeightFile("small", "https://huggingface.co/owner/small", revision="main")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The repositories and revisions that were asked for, of a hub where each has a file and a folder of one."""
    asked: list[tuple[str, str]] = []

    def snapshot_download(name: str, *, revision: str, local_dir: Path, ignore_patterns: list[str]) -> str:
        asked.append((name, revision))
        assert "*.onnx" in ignore_patterns
        if name == "owner/closed":
            raise OSError("403: no rights\nand more")
        for path in ("config.json", "part/model.safetensors", ".cache/huggingface/lock"):
            (local_dir / path).parent.mkdir(parents=True, exist_ok=True)
            (local_dir / path).write_text(path)
        return str(local_dir)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return asked


def test_a_repository_is_a_folder_whose_files_are_pinned(hub: list[tuple[str, str]], cache: Path) -> None:
    assert weights.local_path(REPOSITORY) is None
    (cache / "weights" / "small").mkdir(parents=True)
    (cache / "weights" / "small" / "config.json").write_text("interrupted")
    assert weights.local_path(REPOSITORY) is None
    with pytest.raises(InvalidSystem, match="`codecbench weights get some_lm`"):
        weights.resolve("some_lm", REPOSITORY)
    path = weights.get(REPOSITORY)
    assert weights.get(REPOSITORY) == weights.resolve("some_lm", REPOSITORY) == path == cache / "weights" / "small"
    assert hub == [("owner/small", "main")]
    (path / ".cache" / "huggingface" / "lock").write_text("the client's own")
    weights.verify(REPOSITORY)
    (path / "part" / "model.safetensors").write_text("other weights")
    with pytest.raises(InfrastructureError, match=r"not the published file: .*pinned in"):
        weights.resolve("some_lm", REPOSITORY)


def test_a_repository_that_cannot_be_had_is_one_line(hub: list[tuple[str, str]]) -> None:  # noqa: ARG001
    closed = WeightFile("closed", "https://huggingface.co/owner/closed", revision="v1")
    with pytest.raises(InfrastructureError, match=r"cannot download .*owner/closed at v1: 403: no rights$"):
        weights.get(closed)
    assert weights.local_path(closed) is None
