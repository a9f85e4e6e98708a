"""UniAudio, in a tiny size, against its authors' code on equal weights."""

from __future__ import annotations

import json
import runpy
import shutil
import zipfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from codecbench import tolerant_torchaudio, weights
from codecbench.audio import Clip
from codecbench.errors import InvalidSystem
from codecbench.models import uniaudio_files, uniaudio_text
from codecbench.models.base import LoadOptions, Request, Sampling
from codecbench.models.blocks import multiscale, t5
from codecbench.models.blocks.conv import ConvStyle
from codecbench.models.blocks.multiscale import MultiScaleLM, MultiScaleShape, Patches
from codecbench.models.blocks.seanet import RELEASED_NAMES, TRAINING_STATE, SEANet, SEANetCodec, enliven
from codecbench.models.checks.runner import check
from codecbench.models.checks.subject import Options
from codecbench.models.registry import find
from codecbench.models.uniaudio import UniAudio

tolerant_torchaudio.load()  # `transformers` imports it plainly

GOLDEN = Path(__file__).parents[1] / "golden"
RECIPE = runpy.run_path(str(GOLDEN / "checkpoints.py"))
TOLD = json.loads((GOLDEN / "uniaudio.json").read_text())
SYSTEMS = Path(__file__).parents[1] / "rogues" / "tiny_uniaudio.py"
Tiny = cast("type[UniAudio]", find(f"{SYSTEMS}:Tiny"))
IDS = uniaudio_files.ids_of(uniaudio_files.tokens_of(3, 64), 3, 64)
CHOSEN = ("tts", "SE", "TSS")


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(GOLDEN / "uniaudio.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file}


def released(part: str, gain: float) -> dict[str, Tensor]:
    """The tiny checkpoint in the release's names."""
    return {key: torch.from_numpy(value) for key, value in RECIPE["content"](TOLD[part], TOLD["seed"], gain).items()}


def language_model(prefix: bool = False) -> MultiScaleLM:
    shape = MultiScaleShape(24, 4, 2, IDS.vocabulary.size, 128, prefix=prefix)
    network = MultiScaleLM(shape).requires_grad_(False).eval()
    weights.load_state(network, multiscale.from_release(released("lm", 1.0)), Path("uniaudio"))
    return network


def sequence(task: str, golden: dict[str, Tensor]) -> Patches:
    """What the release makes of an example of `task`."""
    told = TOLD["sequences"][task]
    ids, answer = torch.tensor(told["ids"]), torch.tensor(told["answer"]).nonzero()[:, 0]
    places = (ids[:, 0] == IDS["text_t5_start"]).nonzero()[:, 0]
    vectors = tuple((int(place) + 1, golden[f"t5_{task}"]) for place in places)
    return Patches(ids, vectors, (int(answer[0]), int(answer[-1]) + 1))


def likeliest(_request: int, logits: Tensor) -> Tensor:
    return logits.argmax(dim=-1)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_special_ids_are_those_of_the_release() -> None:
    assert [f"<{name}>" for name in uniaudio_files.SPECIAL] == TOLD["special"]
    assert len(uniaudio_files.tokens_of()) == 4213


@pytest.mark.parametrize("prefix", [False, True], ids=["causal", "prefix"])
def test_logits_and_loss_against_the_release(golden: dict[str, Tensor], prefix: bool) -> None:
    """Three sequences of unequal length, one with vectors of T5 in it."""
    network, sequences = language_model(prefix), [sequence(task, golden) for task in CHOSEN]
    name = "prefix" if prefix else "causal"
    logits = network(sequences)
    nats = torch.log_softmax(logits, dim=-1)
    for b, own in enumerate(sequences):
        found = nats[b, : len(own.ids)].gather(-1, own.ids[..., None])[..., 0]
        close(found.flatten(), golden[f"{name}_nats"][b, : own.ids.numel()])
        frames = logits[b, : len(own.ids) : 2, 0, ::37]
        close(frames, golden[f"{name}_logits"][b, : len(frames)])
        (alone,) = network([own])
        close(alone, logits[b, : len(own.ids)])
    close(network.loss(sequences), golden[f"{name}_loss"])


@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_tokens_against_the_release(golden: dict[str, Tensor], use_cache: bool) -> None:
    """All three at once, with prompts and answers of unequal length."""
    network = language_model()
    wholes = [sequence(task, golden) for task in CHOSEN]
    prompts = [Patches(own.ids[: own.answer[0] + 1], own.vectors, own.answer) for own in wholes]
    allowed = torch.stack([IDS.vocabulary.mask("audio", k) for k in range(3)])
    allowed[:, IDS["audio_end"]] = True
    expected = [golden[f"greedy_{task}"] for task in CHOSEN]
    found = multiscale.generate(
        network, prompts, [3 * own.answer[0] for own in wholes], allowed=allowed.expand(3, -1, -1),
        end=IDS["audio_end"], draw=likeliest, use_cache=use_cache,
    )  # fmt: skip
    assert max(len(own) for own in expected) > 8
    for (ids, ended), whole in zip(found, expected, strict=True):
        over = (whole == IDS["audio_end"]).any(dim=1).nonzero()
        last = int(over[0])  # the release adds an end where there is none
        assert torch.equal(ids, whole[:last])
        assert ended or last == len(whole) - 1


def test_codec_against_the_release(golden: dict[str, Tensor]) -> None:
    codec = SEANetCodec(SEANet(dimension=8, width=2, style=ConvStyle("weight")), 4, 1024).requires_grad_(False)
    own = weights.rename_keys(released("codec", 1.7), RELEASED_NAMES, drop=TRAINING_STATE)
    weights.load_state(codec, own, Path("universal_model"))
    codes = codec.encode(torch.from_numpy(RECIPE["clip"](6000))[None, None], 3)
    assert torch.equal(codes[0], golden["codes"])
    close(codec.decode(codes)[0, 0], golden["audio"])


class Spoken(UniAudio):
    """A model that is given what it would make of a request."""

    def __init__(self, data: dict[str, list[Any]]) -> None:
        self.ids, self._device, self.data = IDS, "cpu", {kind: list(parts) for kind, parts in data.items()}
        self.lm = MultiScaleLM(MultiScaleShape(6, 2, 2, IDS.vocabulary.size, 128))

    @classmethod
    def _codes(cls) -> tuple[int, int]:
        return 3, 64

    def read(self, text: str) -> Tensor:
        return self._take("phone", text)

    def describe(self, text: str) -> Tensor:
        return self._take("text_t5", text)

    def units(self, clip: Clip) -> Tensor:
        return self._take("semantic", clip)

    def encode(self, clip: Clip) -> Tensor:
        return self._take("audio", clip)

    def _voice(self, clip: Clip | None) -> Tensor:
        return self._take("audio_prompt", clip)

    def _take(self, kind: str, _source: object) -> Tensor:
        return torch.as_tensor(self.data[kind].pop(0))


CLIP = Clip(np.zeros((1, 640), np.float32), 16_000)
REQUESTS = {
    "tts": Request("tts", text="hello", audio=CLIP),
    "plain_tts": Request("tts", text="hello"),
    "InstructTTS": Request("tts", text="[sadly] hello", audio=CLIP),
    "VC": Request("conversion", audio=CLIP, reference=CLIP),
    "SE": Request("enhancement", audio=CLIP),
    "Speech_RIR": Request("dereverberation", audio=CLIP),
    "Spex": Request("extraction", audio=CLIP, reference=CLIP),
    "TSS": Request("sound", text="rain"),
    "TTM": Request("music", text="drums"),
    "Audit": Request("editing", text="drop the dog", audio=CLIP),
}


@pytest.mark.parametrize("name", [*REQUESTS, "sing"])
def test_sequences_are_those_of_the_release(
    name: str, golden: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = TOLD["sequences"][name]
    data: dict[str, list[Any]] = {}
    for kind, given in zip(told["types"], told["given"], strict=True):
        part: Any = golden[f"t5_{name}"] if kind == "text_t5" else torch.tensor(given)
        if kind.startswith("audio"):
            part = part.view(-1, 3).T - 64 * torch.arange(3)[:, None]
        data.setdefault(kind, []).append(part)
    if name == "sing":
        song = [data["sing_phone"][0].tolist(), data["sing_midi"][0].tolist()]
        monkeypatch.setattr(uniaudio_text, "score", lambda *_: song)
    request = REQUESTS.get(name) or Request("singing", text="n i h ao")
    answer = data["audio"].pop()
    found = Spoken(data).sequence(request, answer)
    expected = sequence(name, golden)
    assert torch.equal(found.ids, expected.ids)
    assert found.answer == expected.answer
    assert [first for first, _ in found.vectors] == [first for first, _ in expected.vectors]
    prompt = Spoken(data).sequence(request)
    assert torch.equal(prompt.ids, expected.ids[: expected.answer[0] + 1])


def test_tiny_model_learns_four_examples() -> None:
    """The training loss falls, and greedy decoding then gives what was learnt, with its end."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MultiScaleLM(MultiScaleShape(48, 2, 4, IDS.vocabulary.size, 64, prefix=True))
        answers = [torch.randint(0, 64, (3, frames)) for frames in (4, 6, 5, 7)]
    sequences = []
    for number, codes in enumerate(answers):
        start = torch.full((1, 3), IDS["start"])
        before = [start, start + 1 + number, torch.full((1, 3), IDS["audio_start"])]
        after = torch.full((1, 3), IDS["audio_end"])
        ids = torch.cat([*before, IDS.vocabulary.ids("audio", codes).T, after])
        sequences.append(Patches(ids, answer=(2, len(ids))))
    optimiser = torch.optim.Adam(network.parameters(), 0.005)
    for _ in range(120):
        loss = network.loss(sequences)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert float(loss.detach()) < 0.05
    allowed = torch.stack([IDS.vocabulary.mask("audio", k) for k in range(3)])
    allowed[:, IDS["audio_end"]] = True
    found = multiscale.generate(
        network, [Patches(own.ids[:3], answer=own.answer) for own in sequences], [20] * 4,
        allowed=allowed.expand(4, -1, -1), end=IDS["audio_end"], draw=likeliest,
    )  # fmt: skip
    for (ids, ended), codes in zip(found, answers, strict=True):
        assert ended
        assert torch.equal(IDS.vocabulary.codes("audio", ids.T), codes)


@pytest.fixture(scope="module")
def model() -> UniAudio:
    return Tiny.load(LoadOptions(random_seed=0))


def noise(seconds: float, seed: int = 1) -> Clip:
    samples = 0.3 * np.random.default_rng(seed).standard_normal((1, int(16_000 * seconds)))
    return Clip(samples.astype(np.float32), 16_000)


def test_company_changes_nothing(model: UniAudio) -> None:
    requests = [
        Request("tts", text="one", audio=noise(0.3)),
        Request("enhancement", audio=noise(0.2)),
        Request("sound", text="a long rain"),
    ]
    for sampling in (Sampling(temperature=0, max_seconds=0.3), Sampling(top_k=30, max_seconds=0.3)):
        together = model.generate(requests, sampling)
        for asked, response in zip(requests, together, strict=True):
            (alone,) = model.generate([asked], sampling)
            assert response.audio is not None
            assert alone.audio is not None
            assert response.ended == alone.ended
            np.testing.assert_array_equal(alone.audio.samples, response.audio.samples)


def test_enhancement_keeps_the_length_and_says_if_it_could_not(model: UniAudio) -> None:
    request = Request("enhancement", audio=noise(0.21))
    (whole,), (part,) = (model.generate([request], Sampling(max_seconds=seconds)) for seconds in (1.0, 0.1))
    assert whole.audio is not None
    assert part.audio is not None
    assert (whole.audio.length, whole.ended) == (3360, True)
    assert (part.audio.length, part.ended) == (1600, False)


def test_too_long_a_request_is_refused(model: UniAudio) -> None:
    with pytest.raises(ValueError, match="the request takes 1255 frames; tiny-uniaudio has 400"):
        model.generate([Request("enhancement", audio=noise(25.0))], Sampling())


def test_loss_of_requests(model: UniAudio) -> None:
    examples = [
        (Request("tts", text="one"), noise(0.2)),
        (Request("conversion", audio=noise(0.3), reference=noise(0.1)), noise(0.3, 2)),
    ]
    model.lm.requires_grad_()
    try:
        loss = model.loss(examples)
        loss.backward()  # type: ignore[no-untyped-call]
    finally:
        model.lm.requires_grad_(False)
    assert 0 < float(loss.detach()) < 2 * np.log(4213)
    assert all(p.grad is not None for name, p in model.lm.named_parameters() if not name.startswith("vectors."))
    model.lm.zero_grad()


def test_a_song_follows_the_melody() -> None:
    time = np.arange(16_000) / 16_000
    tone = np.where(time < 0.5, np.sin(2 * np.pi * 440 * time), np.sin(2 * np.pi * 220 * time))
    phones, notes = uniaudio_text.score("n i h ao", Clip(tone[None].astype(np.float32), 16_000), 50.0)
    assert len(phones) == len(notes) == 50
    assert [uniaudio_text.SUNG[p] for p in dict.fromkeys(phones)] == ["n", "i", "h", "ao"]
    assert set(notes[3:20]) == {69}
    assert set(notes[30:47]) == {57}
    assert uniaudio_text.score("nihao", None, 50.0)[1] == [0] * 40


def test_phones_of_a_text(tmp_path: Path) -> None:
    folder = tmp_path / "lang_nosp"
    (folder / "phones").mkdir(parents=True)
    (folder / "phones" / "optional_silence.txt").write_text("SIL\n")
    (folder / "oov.txt").write_text("<UNK>\n")
    (folder / "phones" / "align_lexicon.txt").write_text("<UNK> <UNK> SPN_S\nHI HI HH_B AY1_E\nSEE SEE S_B IY1_E\n")
    (tmp_path / "phones").write_text("SIL\nHH_B\nAY1_E\nS_B\nIY1_E\n")
    phones = uniaudio_text.read_phones(folder, tmp_path / "phones")
    assert phones.read("Hi, see.") == [0, 1, 2, 0, 3, 4]
    assert phones.read('"see-saw"') == [0, 3, 4, 5]
    with pytest.raises(InvalidSystem, match=r"holds 0 files oov\.txt"):
        uniaudio_text.read_phones(folder / "phones", tmp_path / "phones")


def release(model: UniAudio, folder: Path) -> SEANetCodec:
    """The files of a release, with the language model of `model`; returns the codec, which is another."""
    from tokenizers import Tokenizer, models
    from transformers import HubertConfig, HubertModel, T5Config, T5EncoderModel

    def former(state: dict[str, Tensor], shapes: dict[str, Any], rules: Any) -> dict[str, Tensor]:
        renamed = {name: next(iter(rules({name: torch.zeros(1)}))) for name in shapes}
        return {name: state[own].clone() for name, own in renamed.items()}

    exp = folder / "uniaudio_v1" / "exp"
    exp.mkdir(parents=True)
    size = Tiny.size
    config = {
        "n_embd": size.dimension, "n_head": size.heads, "n_layer": size.layers, "block_size": size.longest,
        "non_acoustic_repeat": 3, "prefix_lm": False, "token_list": uniaudio_files.tokens_of(),
    }  # fmt: skip
    (exp / "config.yaml").write_text(yaml.safe_dump(config))
    names = {name: shape for name, shape in TOLD["lm"].items() if "layers.1." not in name or name.startswith("g_")}
    names = {name: shape for name, shape in names.items() if not any(f"layers.{n}." in name for n in (2, 3))}
    torch.save({"model": former(model.lm.state_dict(), names, multiscale.from_release)}, exp / "ep1.checkpoint")
    (folder / "universal_model").mkdir()
    (folder / "universal_model" / "config.yaml").write_text(yaml.safe_dump({"generator": {"config": {"D": 8}}}))
    codec = cast("SEANetCodec", Tiny.build_codec(size))
    enliven(codec, 3, level=0.1)
    own_state, state = codec.state_dict(), {}
    for name in TOLD["codec"]:
        if not name.endswith(("inited", "cluster_size", "embed_avg")):
            (own,) = weights.rename_keys({name: torch.zeros(1)}, RELEASED_NAMES)
            own = own.replace("weight_g", "parametrizations.weight.original0")
            state[name] = own_state[own.replace("weight_v", "parametrizations.weight.original1")].clone()
    torch.save({"codec_model": state}, folder / "universal_model" / "model.pth")
    (folder / "lang_nosp" / "phones").mkdir(parents=True)
    for name, text in {
        "phones/optional_silence.txt": "SIL", "oov.txt": "UNK", "phones/align_lexicon.txt": "HI HI AY1_E",
    }.items():  # fmt: skip
        (folder / "lang_nosp" / name).write_text(text + "\n")
    (folder / "uniaudio.phone_dict").write_text("SIL\nAY1_E\n")
    text = T5Config(
        d_model=16, d_kv=8, num_heads=2, num_layers=2, d_ff=24, vocab_size=32_128, feed_forward_proj="gated-gelu"
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        oracle = T5EncoderModel(text).eval().requires_grad_(False)
    torch.save(oracle.state_dict(), folder / "t5-v1_1-base.bin")
    units = HubertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, conv_dim=[8] * 7,
        num_conv_pos_embedding_groups=4, num_conv_pos_embeddings=16,
    )  # fmt: skip
    torch.save(HubertModel(units).state_dict(), folder / "hubert-base-ls960.bin")
    centroids = np.random.default_rng(0).standard_normal((500, 16)).astype(np.float32)
    np.save(folder / "hubert-base-ls960-L9-km500.npy", centroids)
    made = Tokenizer(models.WordLevel({"?": 5}, unk_token="?"))  # noqa: S106
    made.save(str(folder / "t5-base.tokenizer.json"))
    return codec


def zipped(folder: Path) -> None:
    """Pack the folders as they are published."""
    for path in list(folder.iterdir()):
        if path.is_dir():
            with zipfile.ZipFile(folder / f"{path.name}.zip", "w") as archive:
                for file in path.rglob("*"):
                    archive.write(file, file.relative_to(folder))
            shutil.rmtree(path)


def test_the_files_of_a_release(model: UniAudio, tmp_path: Path) -> None:
    codec = release(model, tmp_path)
    loaded = Tiny.load(LoadOptions(weights=tmp_path))
    own, found = model.lm.state_dict(), loaded.lm.state_dict()
    assert all(torch.equal(own[name], found[name]) for name in own)
    clip = noise(0.2)
    with torch.inference_mode():
        assert torch.equal(loaded.encode(clip), codec.encode(torch.tensor(clip.samples[None]), 3)[0])
    request, greedy = Request("enhancement", audio=clip), Sampling(temperature=0)
    (expected,) = loaded.generate([request], greedy)
    zipped(tmp_path)
    packed = Tiny.load(LoadOptions(weights=tmp_path))
    (found_now,) = packed.generate([request], greedy)
    assert expected.audio is not None
    assert found_now.audio is not None
    np.testing.assert_array_equal(found_now.audio.samples, expected.audio.samples)
    assert packed.read("hi").tolist() == [0, 1]
    assert packed.describe("x").shape == (1, 16)
    assert packed.units(clip).shape == (9,)


def test_damaged_files_are_refused(model: UniAudio, tmp_path: Path) -> None:
    release(model, tmp_path)
    config = tmp_path / "uniaudio_v1" / "exp" / "config.yaml"
    good = yaml.safe_load(config.read_text())
    for change, reason in (
        ({"n_layer": 4}, "does not fit the model"),
        ({"token_list": good["token_list"][:-900]}, "ids of audio, not 3 x 1024 and one|does not fit the model"),
        ({"token_list": [1, 2]}, "no list of names"),
    ):
        config.write_text(yaml.safe_dump(good | change))
        with pytest.raises(InvalidSystem, match=reason):
            Tiny.load(LoadOptions(weights=tmp_path))
    config.write_text("n_embd: 3\n")
    with pytest.raises(InvalidSystem, match="it lacks n_head"):
        Tiny.load(LoadOptions(weights=tmp_path))


def test_text_encoder_against_transformers() -> None:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(d_model=16, d_kv=8, num_heads=2, num_layers=2, d_ff=24, feed_forward_proj="gated-gelu")
    with torch.random.fork_rng():
        torch.manual_seed(2)
        oracle = T5EncoderModel(config).eval().requires_grad_(False)
    own = t5.T5Encoder(t5.shape(16, 2, 2, 24)).requires_grad_(False)
    weights.load_state(own, t5.own_names(oracle.state_dict(), own.backbone.shape), Path("t5"))
    ids = torch.tensor([[7, 300, 9, 1]])
    close(own(ids), oracle(ids).last_hidden_state)


@pytest.mark.usefixtures("no_weights")
def test_missing_weights_name_the_command() -> None:
    with pytest.raises(InvalidSystem, match="`codecbench weights get tiny-uniaudio`"):
        Tiny.load(LoadOptions())


def test_every_check_of_language_models_passes() -> None:
    report = check(f"{SYSTEMS}:Tiny", Options(random_seed=0))
    assert [result for result in report.results if not result.ok] == []
    assert report.result("cache_is_exact").outcome == "passed"
