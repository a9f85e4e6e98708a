"""Pickles of other packages: the numbers come out, and no code runs."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from codecbench.errors import InvalidSystem
from codecbench.models import inert

joblib: Any = pytest.importorskip("joblib")


def points(dtype: str = "float32") -> Any:
    return np.random.default_rng(0).standard_normal((300, 6)).astype(dtype)


def kmeans() -> Any:
    return SimpleNamespace(n_init=1, cluster_centers_=points()[:7], counts_=np.ones(7), verbose=False)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_centroids_of_a_pickled_model(tmp_path: Path, dtype: str) -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    model = cluster.MiniBatchKMeans(7, n_init=1, random_state=0, batch_size=100).fit(points(dtype))
    joblib.dump(model, tmp_path / "km.bin")
    found = inert.read_centroids(tmp_path / "km.bin")
    assert found.shape == (7, 6)
    np.testing.assert_array_equal(found, model.cluster_centers_.astype(np.float32))


def test_centroids_of_plain_files(tmp_path: Path) -> None:
    centres = kmeans().cluster_centers_
    np.save(tmp_path / "km.npy", centres)
    save_file({"centroids": centres}, tmp_path / "km.safetensors")
    for name in ("km.npy", "km.safetensors"):
        np.testing.assert_array_equal(inert.read_centroids(tmp_path / name), centres)


def test_fortran_order(tmp_path: Path) -> None:
    model = kmeans()
    model.cluster_centers_ = np.asfortranarray(model.cluster_centers_)
    joblib.dump(model, tmp_path / "km.bin")
    np.testing.assert_array_equal(inert.read_centroids(tmp_path / "km.bin"), model.cluster_centers_)


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def test_no_code_runs(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    model = kmeans()
    model.extra = Bomb(touched)
    joblib.dump(model, tmp_path / "km.bin")
    state = {"model": {"a": torch.arange(3.0)}, "args": Bomb(touched)}
    torch.save(state, tmp_path / "lm.pt")
    assert inert.read_centroids(tmp_path / "km.bin").shape == (7, 6)
    assert list(inert.read_fairseq(tmp_path / "lm.pt")[0]) == ["a"]
    assert not touched.exists()
    pickle.loads(pickle.dumps(Bomb(touched)))  # noqa: S301 - the bomb does go off elsewhere
    assert touched.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_fairseq_checkpoint(tmp_path: Path, zipped: bool) -> None:
    network = nn.Linear(3, 2)
    checkpoint = {
        "args": Namespace(arch="transformer_lm_big"), "cfg": {"model": Namespace(dropout=0.1)},
        "model": network.state_dict(), "optimizer_history": [{"num_updates": 3}],
        "extra_state": {"meter": np.float64(2.0), "counts": np.arange(3)},
    }  # fmt: skip
    torch.save(checkpoint, tmp_path / "lm.pt", _use_new_zipfile_serialization=zipped)
    state, symbols = inert.read_fairseq(tmp_path / "lm.pt")
    assert symbols == ()
    assert set(state) == {"weight", "bias"}
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())


def test_archive_of_a_release(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.ones(2)}}, tmp_path / "checkpoint_best.pt")
    (tmp_path / "dict.txt").write_text("71 900\n12 800\nmadeupword0000 0\n")
    with tarfile.open(tmp_path / "lm.tgz", "w:gz") as archive:
        for name in ("checkpoint_best.pt", "dict.txt"):
            archive.add(tmp_path / name, f"hubert100_lm/{name}")
    for path in (tmp_path / "lm.tgz", tmp_path / "checkpoint_best.pt"):
        state, symbols = inert.read_fairseq(path)
        assert symbols == ("71", "12", "madeupword0000")
        assert torch.equal(state["a"], torch.ones(2))


@pytest.mark.parametrize("content", [b"", b"nothing", pickle.dumps({"a": 1})])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    for name in ("km.bin", "lm.pt", "km.npy", "lm.tgz"):
        (tmp_path / name).write_bytes(content)
    for name in ("km.bin", "km.npy"):
        with pytest.raises(InvalidSystem, match="cannot be read as k-means centroids"):
            inert.read_centroids(tmp_path / name)
    for name in ("lm.pt", "lm.tgz"):
        with pytest.raises(InvalidSystem, match="cannot be read as a fairseq checkpoint"):
            inert.read_fairseq(tmp_path / name)


def test_what_is_no_codebook_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "km.npy", np.arange(4))
    with pytest.raises(InvalidSystem, match=r"holds int64 \[4\]"):
        inert.read_centroids(tmp_path / "km.npy")
    torch.save({"model": {"a": "b"}}, tmp_path / "lm.pt")
    with pytest.raises(InvalidSystem, match="more than tensors"):
        inert.read_fairseq(tmp_path / "lm.pt")
    file = io.BytesIO(pickle.dumps([1, Namespace(a=2)]))
    assert isinstance(inert.load(file)[1], inert.Inert)
