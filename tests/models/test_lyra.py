"""Lyra V2: our side of the contract on a stand-in for the runtime, and the release itself where it is at hand.

The release's files (``lyra/model_coeffs`` of google/lyra) are looked for in the folder that the environment variable
CODECBENCH_LYRA names.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from codecbench.audio import Audio, Clip
from codecbench.errors import InvalidSystem
from codecbench.models.base import LoadOptions
from codecbench.models.bitstream import pack, unpack
from codecbench.models.lyra import FILES, PARAMETERS, Lyra
from codecbench.models.streaming import join_codes

Array = NDArray[Any]
RICHEST = Lyra.card.points[-1]


class StandIn:
    """Models that do little, but have the release's shapes, its memory and its sense of what was not sent.

    The encoder gives a frame's first 64 samples, less 1/8 for every frame before; the decoder repeats the first
    latent value 320 times, plus 1/8 for every frame before.
    """

    delegates: ClassVar[list[tuple[bytes, str]]] = []

    def __init__(self, model_content: bytes, num_threads: int, experimental_op_resolver_type: str) -> None:
        if model_content == b"garbage":
            raise ValueError("Model provided has model identifier 'garb', should be 'TFL3'\nand more")
        assert num_threads == 1
        self.model, self.frames, self.ready = model_content, 0, False
        self.delegates.append((model_content, experimental_op_resolver_type))

    def allocate_tensors(self) -> None:
        self.ready = True

    def get_input_details(self) -> list[dict[str, Any]]:
        return [{"index": 3}]

    def get_output_details(self) -> list[dict[str, Any]]:
        return [{"index": 5}]

    def set_tensor(self, index: int, value: Array) -> None:
        assert index == 3
        assert value.dtype == np.float32
        assert value.shape == {b"soundstream_encoder": (1, 320), b"lyragan": (1, 1, 64)}[self.model]
        self.value = value

    def invoke(self) -> None:
        assert self.ready
        step, self.frames = self.frames / 8, self.frames + 1
        if self.model == b"lyragan":
            self.value = np.full((1, 320), self.value[0, 0, 0] + step, np.float32)
        else:
            self.value = (self.value[:, None, :64] - step).astype(np.float32)

    def get_tensor(self, index: int) -> Array:
        assert index == 5
        return self.value

    def get_signature_runner(self, name: str) -> Callable[..., Mapping[str, Array]]:
        assert self.model == b"quantizer"
        return self.quantise if name == "encode" else self.look_up

    def quantise(self, input_frames: Array, num_quantizers: np.int32) -> dict[str, Array]:
        codes = np.clip(np.floor(input_frames[0, 0, :46] * 8 + 8), 0, 15).astype(np.int32)
        codes[int(num_quantizers) :] = -1
        return {"output_0": codes[:, None, None], "output_1": np.array(4)}

    def look_up(self, encoding_indices: Array) -> dict[str, Array]:
        assert encoding_indices.shape == (46, 1, 1)
        assert encoding_indices.dtype == np.int32
        absent = int((encoding_indices == -1).sum())
        value = np.full((1, 1, 64), encoding_indices[0, 0, 0] / 8 - 1 + absent / 1000, np.float32)
        return {"output_0": value}


@pytest.fixture
def codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lyra:
    package, module = ModuleType("ai_edge_litert"), ModuleType("ai_edge_litert.interpreter")
    package.__spec__ = ModuleSpec("ai_edge_litert", None)
    module.Interpreter = StandIn  # type: ignore[attr-defined]
    module.OpResolverType = type("Kinds", (), {"AUTO": "xnnpack", "BUILTIN_WITHOUT_DEFAULT_DELEGATES": "plain"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ai_edge_litert", package)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", module)
    monkeypatch.setattr(StandIn, "delegates", [])
    for name in FILES:
        (tmp_path / name).write_bytes(name.removesuffix(".tflite").encode())
    return Lyra.load(LoadOptions(weights=tmp_path))


def clip(*values: float, length: int | None = None) -> Clip:
    """A clip of frames of equal samples, cut to `length`."""
    samples = np.repeat(np.array(values, np.float32), 320)
    return Clip(samples[None, :length], 16_000)


def test_a_code_a_frame_and_codebook(codec: Lyra) -> None:
    (codes,) = codec.encode([clip(0.0, 0.5, 0.5, length=700)], RICHEST)
    assert codes.codebook_sizes == (16,) * 46
    # Half of full scale is code 12; each frame before takes one off, and zeros fill the last frame from sample 60 on.
    assert np.stack(codes.streams).tolist() == [[8, 11, 10]] * 46
    (decoded,) = codec.decode([codes])
    assert decoded.dtype == np.float32
    assert decoded.shape == (1, 700)
    assert decoded[0, [0, 319, 320, 639, 640, 699]].tolist() == [0, 0, 0.5, 0.5, 0.5, 0.5]


@pytest.mark.parametrize(("point", "count"), list(zip(Lyra.card.points, (16, 30, 46), strict=True)))
def test_points(codec: Lyra, point: Any, count: int) -> None:
    (codes,) = codec.encode([clip(0.25, 0.25)], point)
    assert len(codes.streams) == count
    packed = pack(codes)
    assert packed.bits == 2 * 4 * count
    (decoded,) = codec.decode([unpack(packed.to_bytes())])
    # The stand-in adds 1/1000 for each codebook that the decoder was told was not sent.
    assert decoded[0, 0] == np.trunc((0.25 + (46 - count) / 1000) * 32768) / 32768


def test_every_clip_starts_without_a_past(codec: Lyra) -> None:
    clips = [clip(0.5, 0.5), clip(0.5)]
    long, short = codec.encode(clips, RICHEST)
    assert [stream[0] for stream in short.streams] == [stream[0] for stream in long.streams] == [12] * 46
    one, two = codec.decode([short, short])
    assert np.array_equal(one, two)


@pytest.mark.parametrize("size", [1, 319, 320, 321, 700])
def test_streams(codec: Lyra, size: int) -> None:
    check_streams(codec, clip(0.5, 0.25, -0.25, 0.125, length=1_000), size)


def check_streams(codec: Lyra, audio: Clip, size: int) -> None:
    """A clip in pieces of `size` samples and its codes a frame at a time, against both in one."""
    (expected,) = codec.encode([audio], RICHEST)
    encoder, decoder, parts = codec.encode_stream(RICHEST), codec.decode_stream(RICHEST), []
    for start in range(0, audio.length, size):
        parts.append(encoder.push(audio.samples[:, start : start + size]))
        assert sum(len(part.streams[0]) for part in parts) == min(start + size, audio.length) // 320
    parts.append(encoder.finish())
    codes = join_codes(parts)
    assert codes.length == expected.length
    assert np.array_equal(codes.streams, expected.streams)
    pieces = [decoder.push(part) for part in parts] + [decoder.finish(audio.length)]
    assert [piece.shape[1] for piece in pieces] == [320 * len(part.streams[0]) for part in parts] + [0]
    assert np.array_equal(np.concatenate(pieces, axis=1)[:, : audio.length], codec.decode([expected])[0])


def test_samples_have_16_bits(codec: Lyra) -> None:
    loud, quiet = codec.encode([clip(3.0), clip(-3.0)], RICHEST)
    assert (loud.streams[0][0], quiet.streams[0][0]) == (15, 0)
    # Just below the edge of a code, and rounded up to it.
    (rounded,) = codec.encode([clip(0.125 - 0.4 / 32768)], RICHEST)
    assert rounded.streams[0][0] == 9
    (decoded,) = codec.decode([codec.encode([clip(*[1.0] * 20)], RICHEST)[0]])
    assert decoded.max() == np.float32(32767 / 32768)


def test_only_the_networks_are_accelerated(codec: Lyra) -> None:
    codec.decode(codec.encode([clip(0.0)], RICHEST))
    kinds = dict(StandIn.delegates[-3:])
    assert kinds == {b"quantizer": "plain", b"soundstream_encoder": "xnnpack", b"lyragan": "xnnpack"}


def test_what_cannot_be_loaded(codec: Lyra, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    with pytest.raises(InvalidSystem, match="no random weights"):
        Lyra.load(LoadOptions(random_seed=0))
    (tmp_path / "lyragan.tflite").write_bytes(b"garbage")
    with pytest.raises(InvalidSystem, match=r"lyragan\.tflite cannot be read as a TFLite model: .*'TFL3'$"):
        Lyra.load(LoadOptions(weights=tmp_path))
    (tmp_path / "lyragan.tflite").unlink()
    with pytest.raises(InvalidSystem, match=r"lyragan\.tflite cannot be read"):
        Lyra.load(LoadOptions(weights=tmp_path))
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "empty"))
    with pytest.raises(InvalidSystem, match="`codecbench weights get lyra_v2`"):
        Lyra.load(LoadOptions())


def test_without_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codecbench.models.lyra.find_spec", lambda _name: None)
    with pytest.raises(InvalidSystem, match=r"pip install 'codecbench\[lyra\]'"):
        Lyra.load(LoadOptions())


def test_card() -> None:
    card = Lyra.card
    assert {point.name: point.streams for point in card.points} == {"3.2kbps": 16, "6kbps": 30, "9.2kbps": 46}
    assert all(card.nominal_kbps(point.streams or 0) == pytest.approx(point.kbps) for point in card.points)
    assert [file.url.rpartition("/")[2] for file in card.weights] == list(FILES)
    assert all(len(file.sha256) == 64 for file in card.weights)


@pytest.fixture(scope="module")
def release() -> Path:
    folder = os.environ.get("CODECBENCH_LYRA")
    if not folder:
        pytest.skip("CODECBENCH_LYRA names no folder with the release's files")
    if find_spec("ai_edge_litert") is None:
        pytest.skip("ai-edge-litert is not installed")
    return Path(folder)


@pytest.fixture(scope="module")
def lyra(release: Path) -> Lyra:
    return Lyra.load(LoadOptions(weights=release))


def test_the_files_are_those_of_the_release(release: Path) -> None:
    assert {name: hashlib.sha256((release / name).read_bytes()).hexdigest() for name in FILES} == FILES


def test_number_of_parameters(release: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    sizes: list[int] = []
    for name in ("soundstream_encoder.tflite", "lyragan.tflite"):
        interpreter = Interpreter(str(release / name))
        interpreter.allocate_tensors()
        shapes = {tensor["index"]: tensor["shape"] for tensor in interpreter.get_tensor_details()}
        learnt = set()
        for operation in interpreter._get_ops_details():
            if operation["op_name"] in {"CONV_2D", "DEPTHWISE_CONV_2D"}:
                learnt |= {int(index) for index in operation["inputs"][1:]}
            elif operation["op_name"] == "TRANSPOSE_CONV":
                learnt |= {int(operation["inputs"][index]) for index in (1, 3)}
        sizes += [int(np.prod(shapes[index])) for index in learnt]
    assert sum(sizes) == PARAMETERS


def test_equal_to_the_files_called_directly(lyra: Lyra, release: Path, make_speech: Callable[..., Audio]) -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    def model(name: str, **options: Any) -> Any:
        interpreter = Interpreter(str(release / name), num_threads=1, **options)
        interpreter.allocate_tensors()
        return interpreter

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    encoder, decoder = (model(f"{name}.tflite").get_signature_runner() for name in ("soundstream_encoder", "lyragan"))
    quantiser = model("quantizer.tflite", experimental_op_resolver_type=plain)
    pcm = (make_speech(3_200, 16_000)[None] * 32767).astype(np.int16)
    codes: list[Array] = []
    samples: list[Array] = []
    for frame in np.split(pcm, 10, axis=1):
        (latent,) = encoder(input_audio=(frame / 32768).astype(np.float32)).values()
        found = quantiser.get_signature_runner("encode")(input_frames=latent, num_quantizers=np.int32(30))["output_0"]
        (latent,) = quantiser.get_signature_runner("decode")(encoding_indices=found).values()
        (output,) = decoder(**{next(iter(decoder.get_input_details())): latent}).values()
        codes.append(found[:30, 0, 0])
        samples.append((output[0] * 32768).astype(np.int16))
    (ours,) = lyra.encode([Clip((pcm / 32768).astype(np.float32), 16_000)], Lyra.card.points[1])
    assert np.array_equal(np.stack(ours.streams), np.stack(codes, axis=1))
    (decoded,) = lyra.decode([ours])
    assert np.array_equal(decoded[0] * 32768, np.concatenate(samples))


@pytest.mark.parametrize("point", Lyra.card.points, ids=lambda point: point.name)
def test_speech_comes_back_in_time(lyra: Lyra, point: Any, make_speech: Callable[..., Audio]) -> None:
    speech = make_speech(47_999, 16_000)
    (codes,) = lyra.encode([Clip(speech[None], 16_000)], point)
    (decoded,) = lyra.decode([codes])
    assert decoded.shape == (1, 47_999)
    correlation = np.correlate(decoded[0], speech, "full") / (np.linalg.norm(decoded) * np.linalg.norm(speech))
    assert np.argmax(correlation) == 47_998, "the output is late or early"
    assert correlation.max() > {"3.2kbps": 0.25, "6kbps": 0.35, "9.2kbps": 0.4}[point.name]
    assert np.array_equal(decoded * 32768, np.rint(decoded * 32768))


def test_the_release_s_points_are_prefixes(lyra: Lyra, make_speech: Callable[..., Audio]) -> None:
    clips = [Clip(make_speech(length, 16_000)[None], 16_000) for length in (16_000, 1, 319, 321)]
    for rich, middle, poor in zip(*(lyra.encode(clips, point) for point in reversed(Lyra.card.points)), strict=True):
        assert np.array_equal(rich.streams[:30], middle.streams)
        assert np.array_equal(rich.streams[:16], poor.streams)
    assert [lyra.decode([item])[0].shape[1] for item in lyra.encode(clips, RICHEST)] == [16_000, 1, 319, 321]


def test_the_release_forgets_the_clip_before(lyra: Lyra, make_speech: Callable[..., Audio]) -> None:
    audio, other = (Clip(make_speech(8_000, 16_000, seed)[None], 16_000) for seed in (0, 1))
    alone, _, again = lyra.encode([audio, other, audio], RICHEST)
    assert np.array_equal(alone.streams, again.streams)
    first, _, second = lyra.decode([alone, again, alone])
    assert np.array_equal(first, second)


def test_the_release_streams(lyra: Lyra, make_speech: Callable[..., Audio]) -> None:
    check_streams(lyra, Clip(make_speech(16_001, 16_000)[None], 16_000), 500)


def test_the_release_is_causal(lyra: Lyra, make_speech: Callable[..., Audio]) -> None:
    samples = make_speech(20 * 320, 16_000)[None]
    changed = samples.copy()
    changed[:, 10 * 320 :] *= -1
    before, after = lyra.encode([Clip(samples, 16_000), Clip(changed, 16_000)], RICHEST)
    differ = (np.stack(before.streams) != np.stack(after.streams)).any(axis=0)
    assert np.flatnonzero(differ)[0] == 10
    one, two = lyra.decode([before, after])
    assert np.flatnonzero((one != two)[0])[0] >= 10 * 320
