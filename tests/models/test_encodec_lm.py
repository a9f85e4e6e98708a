"""EnCodec's language model and files against the release: values kept from it, and itself where it is installed."""

from __future__ import annotations

import io
import json
import runpy
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from codecbench import tolerant_torchaudio
from codecbench.audio import Clip
from codecbench.errors import InvalidSystem, UsageError
from codecbench.models.base import Codes, LoadOptions
from codecbench.models.bitstream import pack, unpack
from codecbench.models.blocks import token_lm
from codecbench.models.ecdc import read_ecdc, write_ecdc
from codecbench.models.encodec import Encodec, Encodec24, Encodec48
from codecbench.models.encodec_lm import SYSTEMS, Encodec24LM, Encodec48LM, EncodecLM
from codecbench.weights import load_state, rename_keys

FOLDER = Path(__file__).parents[1] / "golden"
RECIPE = runpy.run_path(str(FOLDER / "checkpoints.py"))
GOLDEN = np.load(FOLDER / "encodec_lm.npz")
MODELS = json.loads((FOLDER / "encodec_lm.json").read_text())
RATES = {Encodec24LM: "24khz", Encodec48LM: "48khz"}
LENGTHS = {Encodec24LM: 10_007, Encodec48LM: 50_007}
"""At 48 kHz: a whole segment and a short one."""

each_system = pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.card.name)


def clip(system: type[EncodecLM], length: int) -> Clip:
    channels = system.card.channels or 1
    return Clip(np.stack([RECIPE["clip"](length + k)[:length] for k in range(channels)]), system.card.sample_rate or 0)


def released_state(rate: str) -> dict[str, torch.Tensor]:
    """The tensors of the golden values, under the release's names."""
    entry = MODELS[rate]
    state = RECIPE["content"](entry["shapes"], entry["seed"], entry["gain"])
    return {name: torch.from_numpy(values) for name, values in state.items()}


def language_model(system: type[EncodecLM], state: dict[str, torch.Tensor]) -> token_lm.TokenNetwork:
    streams = system.base.card.streams
    network = token_lm.build(token_lm.TokenLM(len(streams), int(3.5 * (streams[0].frame_rate or 0))))
    load_state(network, rename_keys(state, token_lm.RELEASED_NAMES), Path("golden"))
    return network.eval()


def test_both_models_are_compared() -> None:
    assert set(RATES) == set(SYSTEMS) == set(LENGTHS)
    assert set(RATES.values()) == set(MODELS)


# --- values from the release -----------------------------------------------------------------------------------------


@each_system
@torch.inference_mode()
def test_probabilities_equal_to_the_release(system: type[EncodecLM]) -> None:
    """At the start, where the past begins to be forgotten, and after; in one go, which differs by rounding alone."""
    rate = RATES[system]
    codes, frames = GOLDEN[f"{rate}/codes"], GOLDEN[f"{rate}/frames"]
    inputs = np.concatenate([np.zeros_like(codes[:, :1]), codes[:, :-1] + 1], axis=1).astype(np.int64)
    found, _ = language_model(system, released_state(rate))(torch.from_numpy(inputs)[None])
    expected = GOLDEN[f"{rate}/probabilities"]
    np.testing.assert_allclose(found[0, :8][..., frames].permute(2, 1, 0).numpy(), expected, rtol=2e-5, atol=0)
    assert expected.std() > 3e-4, "distributions this even would agree with anything"
    assert len(frames) >= 4


@pytest.mark.parametrize(("system", "context"), [(Encodec24LM, 262), (Encodec48LM, 525)])
@torch.inference_mode()
def test_the_past_that_is_seen(system: type[EncodecLM], context: int) -> None:
    """One layer sees `context` frames before its own: `layers` of them reach so many times as far."""
    shape = token_lm.TokenLM(1, context, layers=1)
    network = token_lm.build(shape).eval()
    codes = torch.randint(1, 1025, (1, 1, context + 10), generator=torch.Generator().manual_seed(0))
    before = network(codes)[0]
    changed = codes.clone()
    changed[..., 4] = 1025 - changed[..., 4]
    moved = (network(changed)[0] != before).any(dim=1)[0, 0].nonzero().flatten()
    assert (moved.min(), moved.max()) == (4, 4 + context)
    assert int(3.5 * (system.base.card.streams[0].frame_rate or 0)) == context


@each_system
def test_files_without_a_language_model_are_the_release_s(system: type[EncodecLM], tmp_path: Path) -> None:
    rate = RATES[system]
    path = tmp_path / "released.ecdc"
    path.write_bytes(GOLDEN[f"{rate}/ecdc"].tobytes())
    name, codes = read_ecdc(path)
    assert name == system.base.card.name
    assert codes.length == {"24khz": 24_000, "48khz": 60_000}[rate]
    expected = GOLDEN[f"{rate}/codes"][:5]
    np.testing.assert_array_equal(np.stack(codes.streams), expected[:, : len(codes.streams[0])])
    np.testing.assert_array_equal(codes.side.get("scale", []), GOLDEN[f"{rate}/scales"])
    write_ecdc(tmp_path / "ours.ecdc", codes)
    assert (tmp_path / "ours.ecdc").read_bytes() == path.read_bytes()


# --- the release itself ----------------------------------------------------------------------------------------------


class Pair:
    """Our system and the release, on the same weights."""

    def __init__(self, system: type[EncodecLM], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        tolerant_torchaudio.load()
        import encodec

        self.compress = sys.modules["encodec.compress"]
        make = {"24khz": encodec.EncodecModel.encodec_model_24khz, "48khz": encodec.EncodecModel.encodec_model_48khz}
        with torch.random.fork_rng(), warnings.catch_warnings(action="ignore"):
            torch.manual_seed(3)
            model = make[RATES[system]](pretrained=False)
            self._fill_codebooks(model, system)
        model.name = system.base.card.name
        self.language_model = self._language_model(system)
        model.get_lm_model = lambda: self.language_model
        monkeypatch.setitem(self.compress.MODELS, model.name, lambda: model)
        for file, module in zip(system.card.weights, (model, self.language_model), strict=True):
            torch.save(module.state_dict(), folder / file.name)
        self.model = model
        self.ours = system.load(LoadOptions(weights=folder))

    @staticmethod
    @torch.no_grad()
    def _fill_codebooks(model: Any, system: type[EncodecLM]) -> None:
        residual = model.encoder(torch.tensor(clip(system, 48_000).samples)[None])
        for layer in model.quantizer.vq.layers:
            frames = residual[0].T
            layer._codebook.embed.copy_(frames.mean(0) + 0.3 * torch.randn(1024, 128) * frames.std(0))
            residual = residual - layer.decode(layer.encode(residual))

    @staticmethod
    def _language_model(system: type[EncodecLM]) -> Any:
        from encodec.model import LMModel

        streams = system.base.card.streams
        context = int(3.5 * (streams[0].frame_rate or 0))
        model = LMModel(len(streams), 1024, num_layers=5, dim=200, past_context=context).eval()
        model.load_state_dict(released_state(RATES[system]))  # strict: the kept names and shapes are the release's
        for head in model.linears:
            head.weight.data.mul_(4)  # so sure of itself that a token takes much less, or much more, than 10 bits
        return model

    def write(self, codes: Codes, *, lm: bool) -> bytes:
        """The release's file of our `codes`, so that a tie between two codebook entries cannot make it differ."""
        frames = self.ours.base.frames(codes.length)
        parts = torch.split(torch.tensor(np.stack(codes.streams)).long()[None], frames, dim=-1)
        scales = codes.side["scale"] if self.ours.base.segment else [None] * len(parts)
        self.model.encode = lambda _: [
            (part, None if scale is None else torch.tensor([[scale]]))
            for part, scale in zip(parts, scales, strict=True)
        ]
        data: bytes = self.compress.compress(self.model, torch.zeros(codes.channels, codes.length), use_lm=lm)
        return data

    def read(self, data: bytes) -> Any:
        """What the release decodes its file to."""
        return self.compress.decompress_from_file(io.BytesIO(data))[0].numpy()


@pytest.fixture(scope="module", params=SYSTEMS, ids=lambda system: system.card.name)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield Pair(request.param, tmp_path_factory.mktemp("weights"), monkeypatch)


@torch.inference_mode()
def test_each_step_is_the_release_s_to_the_last_bit(pair: Pair) -> None:
    theirs, ours = pair.language_model, pair.ours._network
    codes = torch.from_numpy(GOLDEN[f"{RATES[type(pair.ours)]}/codes"][:4, :290].astype(np.int64))
    state, past, offset = None, None, 0
    inputs = torch.zeros(1, 4, 1, dtype=torch.long)
    for f, frame in enumerate(codes.unbind(1)):
        expected, state, offset = theirs(inputs, state, offset)
        found, past = ours(inputs, past, f)
        assert torch.equal(found, expected)
        inputs = 1 + frame.view(1, -1, 1)


@pytest.mark.parametrize("lm", [False, True])
@pytest.mark.parametrize("which", [0, 2])
def test_files_go_both_ways(pair: Pair, which: int, tmp_path: Path, *, lm: bool) -> None:
    system, path = type(pair.ours), tmp_path / "x.ecdc"
    point = system.card.points[which]
    codec: Encodec | EncodecLM = pair.ours if lm else pair.ours._codec
    tokens = pair.ours._codec.encode([clip(system, LENGTHS[system])], system.base.card.point(point.name))[0]
    write_ecdc(path, pair.ours.compress(tokens) if lm else tokens)
    theirs = pair.write(tokens, lm=lm)
    assert path.read_bytes() == theirs
    name, codes = read_ecdc(path)
    assert name == codec.card.name
    found = pair.ours.expand(codes) if lm else codes
    np.testing.assert_array_equal(np.stack(found.streams), np.stack(tokens.streams))
    expected = pair.read(theirs)
    np.testing.assert_allclose(codec.decode([codes])[0], expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))
    assert expected.std() > 1e-3
    assert min(len(set(stream.tolist())) for stream in tokens.streams) >= 10


@pytest.mark.parametrize(("length", "fails"), [(13_440, True), (13_441, False)])
def test_lengths_that_the_release_cannot_read(length: int, tmp_path: Path, *, fails: bool) -> None:
    codec = Encodec24.load(LoadOptions(random_seed=0))
    (codes,) = codec.encode([clip(Encodec24LM, length)], codec.card.points[0])
    write_ecdc(tmp_path / "x.ecdc", codes)
    _, found = read_ecdc(tmp_path / "x.ecdc")
    np.testing.assert_array_equal(np.stack(found.streams), np.stack(codes.streams))
    assert (int(np.ceil(length / 24_000 * 75)) > len(codes.streams[0])) == fails


# --- the interface ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=SYSTEMS, ids=lambda system: system.card.name)
def codec(request: pytest.FixtureRequest) -> EncodecLM:
    codec: EncodecLM = request.param.load(LoadOptions(random_seed=0))
    return codec


def test_every_point_decodes_to_what_the_plain_model_does(codec: EncodecLM) -> None:
    audio = clip(type(codec), 3_001)
    points = codec.card.points
    assert len(points) == len(codec.base.card.points) >= 4
    for point in points:
        (codes,) = codec.encode([audio], point)
        assert not codes.streams
        packed = pack(codes)
        assert packed.bits == 8 * len(codes.packets[0])
        received = unpack(packed.to_bytes())
        (tokens,) = codec._codec.encode([audio], codec.base.card.point(point.name))
        assert len(tokens.streams) == point.setting
        expanded = codec.expand(received)
        np.testing.assert_array_equal(np.stack(expanded.streams), np.stack(tokens.streams))
        np.testing.assert_array_equal(expanded.side.get("scale", []), tokens.side.get("scale", []))


@pytest.mark.parametrize("length", [1, 2, 319, 320, 321])
def test_any_length_comes_back(codec: EncodecLM, length: int) -> None:
    audio, point = clip(type(codec), length), codec.card.points[0]
    (decoded,) = codec.decode(codec.encode([audio], point))
    plain = codec._codec.encode([audio], codec.base.card.point(point.name))
    np.testing.assert_array_equal(decoded, codec._codec.decode(plain)[0])


def test_what_is_predicted_takes_fewer_bits() -> None:
    """A model that knows the tokens by heart: its biases say the same frame for ever."""
    network = token_lm.build(token_lm.TokenLM(32, 262))
    with torch.no_grad():
        for k, head in enumerate(cast("Sequence[torch.nn.Linear]", network.heads)):
            head.weight.zero_()
            head.bias.copy_(20 * torch.eye(1024)[k])
    system = Encodec24LM(cast("Encodec", None), network, "cpu")
    known, other = (
        Codes(9_600, 24_000, 1, tuple(np.full(30, k + add, np.int32) for k in range(8)), (1024,) * 8) for add in (0, 1)
    )
    assert len(system.compress(known).packets[0]) < 10
    assert len(system.compress(other).packets[0]) > 600
    np.testing.assert_array_equal(system.expand(system.compress(other)).streams, other.streams)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: b"", r"0 codebooks, where encodec_24khz has 1 to 32"),
        (lambda packet: b"\x21" + packet[1:], r"33 codebooks"),
        (lambda packet: packet[:-1], r"truncated"),
        (lambda packet: packet + b"\0", r"1 bytes follow the last token"),
    ],
)
def test_damaged_packets_are_refused(change: Callable[[bytes], bytes], message: str) -> None:
    network = token_lm.build(token_lm.TokenLM(32, 262))
    system = Encodec24LM(cast("Encodec", None), network, "cpu")
    codes = system.compress(Codes(2_000, 24_000, 1, tuple(np.full((2, 7), 5, np.int32)), (1024,) * 2))
    with pytest.raises(ValueError, match=message):
        system.expand(Codes(2_000, 24_000, packets=(change(codes.packets[0]),)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "requires a buffer of at least 9 bytes"),
        (b"RIFF" + bytes(20), "it starts with b'RIFF'"),
        (b"ECDC\0\0\0\0\x02{}", "'m'"),
        (b"ECDC\0\0\0\0\x29" + b'{"m": "x", "al": 9, "nc": 2, "lm": false}', "9 samples of the model 'x'"),
    ],
)
def test_other_files_are_refused(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.ecdc").write_bytes(data)
    with pytest.raises(UsageError, match=f"x.ecdc cannot be read as a file of EnCodec: .*{message}"):
        read_ecdc(tmp_path / "x.ecdc")


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    data = GOLDEN["48khz/ecdc"].tobytes()
    for size in (len(data) - 1, len(data) - 110, 60):
        (tmp_path / "x.ecdc").write_bytes(data[:size])
        with pytest.raises(UsageError, match="truncated"):
            read_ecdc(tmp_path / "x.ecdc")


def test_codes_of_others_are_no_ecdc(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="codes at 16000 Hz are none of encodec_24khz, encodec_48khz"):
        write_ecdc(tmp_path / "x.ecdc", Codes(9, 16_000, packets=(b"1",)))


@each_system
def test_card(system: type[EncodecLM]) -> None:
    card, base = system.card, system.base.card
    assert card.name == f"{base.name}_lm"
    assert [point.name for point in card.points] == [point.name for point in base.points]
    assert not any((card.streams, card.nested, card.side, card.streaming, card.requires))
    assert card.weights[0] == base.weights[0]
    assert card.weights[1].name.endswith(f"-{card.weights[1].sha256}.th")
    assert card.weights[1].url == f"https://dl.fbaipublicfiles.com/encodec/v0/{card.weights[1].name}"


def test_number_of_parameters(codec: EncodecLM) -> None:
    count = {Encodec24: 15_559_768, Encodec48: 8_986_584}[codec.base]
    assert codec.parameters() == codec._codec.parameters() + count


@each_system
def test_missing_weights_name_the_command(
    system: type[EncodecLM], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path))
    with pytest.raises(InvalidSystem, match=f"`codecbench weights get {system.card.name}`"):
        system.load(LoadOptions())
    with pytest.raises(InvalidSystem, match=f"no such file or folder for its weights: .*{system.card.weights[0].name}"):
        system.load(LoadOptions(weights=tmp_path))
