"""A padding that is one sample off must not pass a family's comparison with its release.

Most mistakes in a reimplementation leave shapes as they are, and often the sound. Here single layers are given one
sample more on one side and one less on the other, and the family's own comparison is asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from torch import Tensor, nn
from torch.nn import functional

pytestmark = pytest.mark.slow

PLAIN = (nn.Conv1d, nn.Conv2d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d)


class Family(NamedTuple):
    """A network, and its comparison, which raises AssertionError."""

    network: nn.Module
    compare: Callable[[], None]


@cache
def module_of(name: str) -> Any:
    spec = spec_from_file_location(f"compared_{name}", Path(__file__).with_name(f"test_{name}.py"))
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def encodec(which: int, length: int) -> Callable[[Path], Family]:
    def load(folder: Path) -> Family:
        tests = module_of("encodec")
        pair = tests.Pair(*tests.PAIRS[which], folder)
        return Family(pair.ours._network, lambda: tests.test_equal_to_transformers(pair, length))

    return load


def dac(folder: Path) -> Family:
    tests = module_of("dac_release")
    golden = tests.Golden(tests.DAC16, folder)
    return Family(golden.codec._network, lambda: tests.test_clips_at_once_are_equal_to_the_release(golden))


def checked(name: str, system: Callable[[Any], Any]) -> Callable[[Path], Family]:
    def load(folder: Path) -> Family:
        tests = module_of(name)
        golden = tests.Golden(system(tests), folder)
        return Family(golden.codec._network, lambda: compare(golden))

    def compare(golden: Any) -> None:
        getattr(golden, "found", {}).clear()  # codes from before
        golden.check(7_777)

    return load


def audiodec(_: Path) -> Family:
    tests, loaded, name = module_of("audiodec"), {}, "audiodec_24khz_v1"  # type: ignore[var-annotated]
    network = tests.get(loaded, name)._network
    return Family(network, lambda: tests.test_equal_to_the_release(loaded, name, "24007"))


def soundstream(_: Path) -> Family:
    tests = module_of("soundstream")
    codec = tests.SoundStream16.load(tests.LoadOptions(random_seed=0))
    return Family(codec._network, lambda: tests.test_equal_to_the_package(codec, 24_001))


def funcodec(name: str) -> Callable[[Path], Family]:
    def load(_: Path) -> Family:
        tests = module_of("funcodec")
        network = tests.random(tests.named(name))._network
        return Family(network, lambda: tests.test_equal_to_the_release(name, 7_777))

    return load


FAMILIES = {
    "EnCodec, causal": encodec(0, 3),
    "EnCodec, in segments": encodec(1, 1),
    "DAC": dac,
    "AudioDec": audiodec,
    "HiFi-Codec": checked("hificodec", lambda tests: tests.HiFiCodec16),
    "SpeechTokenizer": checked("speechtokenizer", lambda tests: tests.SYSTEMS[0]),
    "SoundStream": soundstream,
    "FunCodec": funcodec("funcodec_en_ds320"),
    "FreqCodec": funcodec("freqcodec_en_gr1"),
}


@pytest.fixture(scope="module", params=list(FAMILIES.values()), ids=list(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Family]:
    found = request.param(tmp_path_factory.mktemp("weights"))
    found.compare()
    yield found
    found.compare()  # the last mutation is gone, and was what failed


def layers(network: nn.Module) -> dict[str, nn.Module]:
    """A layer of each kind whose window is longer than its stride."""
    plain = [part for part in network.modules() if isinstance(part, PLAIN) and max(part.kernel_size) > 1]
    strided = [part for part in plain if max(part.stride) > 1]
    transposed = [part for part in network.modules() if isinstance(part, TRANSPOSED)]
    return {
        "first": plain[0], "strided": strided[0], "middle": plain[len(plain) // 2],
        "transposed": transposed[-1], "last": plain[-1],
    }  # fmt: skip


def late(x: Tensor) -> Tensor:
    """One step later in time: one more on the left, one less on the right."""
    return functional.pad(x, (1, -1))


@pytest.mark.parametrize("kind", ["first", "strided", "middle", "transposed", "last"])
def test_a_padding_that_is_one_sample_off_is_noticed(family: Family, kind: str) -> None:
    layer = layers(family.network)[kind]
    if isinstance(layer, PLAIN):
        handle = layer.register_forward_pre_hook(lambda _, inputs: (late(inputs[0]),))
    else:
        handle = layer.register_forward_hook(lambda _, inputs, output: late(output))  # noqa: ARG005
    try:
        with pytest.raises(AssertionError):
            family.compare()
    finally:
        handle.remove()


def test_every_family_is_asked() -> None:
    assert len(FAMILIES) == 9
