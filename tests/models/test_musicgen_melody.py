"""MusicGen that follows a melody, in a tiny size, against `transformers` on equal weights and equal recordings."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from codecbench import tolerant_torchaudio
from codecbench.audio import Clip
from codecbench.models import musicgen
from codecbench.models.base import LoadOptions, Request, Sampling
from codecbench.models.blocks import codebook_generation, codebook_lm
from codecbench.models.blocks.chroma import HOP, WINDOW, chroma, filters
from codecbench.models.checks.runner import check
from codecbench.models.checks.subject import Options
from codecbench.models.musicgen_melody import SYSTEMS, Melodious
from codecbench.models.registry import find

tolerant_torchaudio.load()  # `transformers` imports it plainly

RATE = 32_000
FILE = Path(__file__).parents[1] / "rogues" / "tiny_musicgen_melody.py"
Tiny, TinyStereo = (cast("type[Melodious]", find(f"{FILE}:{name}")) for name in ("TinyMelody", "TinyStereoMelody"))
WORDS = ("soft", "rain", "loud", "drums")


def tune(seconds: float, seed: int = 0, channels: int = 1) -> Clip:
    """Notes of half a second, in noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = 220 * 2 ** (rng.integers(0, 24, 200)[(2 * time).astype(int)] / 12)
    sound = 0.3 * np.sin(2 * np.pi * np.cumsum(pitch) / RATE) + 0.01 * rng.standard_normal((channels, len(time)))
    return Clip(sound.astype(np.float32), RATE)


def extractor() -> Any:
    from transformers import MusicgenMelodyFeatureExtractor

    return MusicgenMelodyFeatureExtractor()


def test_filters_against_transformers() -> None:
    torch.testing.assert_close(filters(RATE), extractor().chroma_filters, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("seconds", [0.001, 0.3, 0.512, 0.7, 8.0, 31.5])
@pytest.mark.parametrize("channels", [1, 2])
def test_chroma_against_transformers(seconds: float, channels: int) -> None:
    clip = tune(seconds, channels=channels)
    given = [clip.samples.mean(axis=0)]
    expected = extractor()(given, sampling_rate=RATE, return_tensors="pt").input_features[0]
    model = Tiny.load(LoadOptions(random_seed=0))
    assert isinstance(model, Melodious)
    found = model.heard(clip, 0)
    assert found is not None
    assert torch.equal(found, expected)
    if seconds == 8.0:
        assert len(set(found.argmax(dim=1).tolist())) > 5


def test_silence_is_the_first_pitch_class() -> None:
    found = chroma(torch.zeros(3 * WINDOW), RATE)
    assert found.shape == (1 + 3 * WINDOW // HOP, 12)
    assert (found.argmax(dim=1) == 0).all()


@pytest.mark.parametrize("midi", range(57, 69))
def test_a_note_is_of_its_pitch_class(midi: int) -> None:
    time = torch.arange(RATE) / RATE
    wave = torch.sin(2 * torch.pi * 440 * 2 ** ((midi - 69) / 12) * time)
    assert set(chroma(wave, RATE).argmax(dim=1).tolist()) == {midi % 12}


def test_later_windows_hear_the_recording_from_where_they_are() -> None:
    model = Tiny.load(LoadOptions(random_seed=0))
    assert isinstance(model, Melodious)
    clip = tune(10.0)
    found = model.heard(clip, 18 * 50)
    turned = np.tile(clip.samples[0], 5)[18 * RATE : 48 * RATE]
    assert found is not None
    assert torch.equal(found, chroma(torch.tensor(turned), RATE))
    assert model.heard(None, 0) is None


class Pair:
    """Our model and the oracle, on the same weights."""

    def __init__(self, system: type[Melodious], folder: Path) -> None:
        from transformers import (
            EncodecConfig,
            MusicgenMelodyConfig,
            MusicgenMelodyDecoderConfig,
            MusicgenMelodyForConditionalGeneration,
            T5Config,
        )  # fmt: skip

        channels = system.card.channels or 1
        text = T5Config(d_model=16, d_kv=8, num_heads=2, num_layers=2, d_ff=64, vocab_size=32_128)
        codec = EncodecConfig(
            sampling_rate=RATE, num_filters=4, upsampling_ratios=[8, 5, 4, 4], codebook_size=2048,
            use_causal_conv=False, use_conv_shortcut=False, target_bandwidths=[2.2], normalize=False,
        )  # fmt: skip
        decoder = MusicgenMelodyDecoderConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=128, num_codebooks=4 * channels,
            audio_channels=channels,
        )  # fmt: skip
        with torch.random.fork_rng():
            torch.manual_seed(4)
            config = MusicgenMelodyConfig(text_encoder=text, audio_encoder=codec, decoder=decoder)
            self.oracle = MusicgenMelodyForConditionalGeneration(config).eval().requires_grad_(False)
            for name, tensor in self.oracle.state_dict().items():
                if not name.startswith("audio_encoder."):  # as built, all is too small to tell a fault by
                    tensor.add_(0.1 * torch.randn_like(tensor))
                elif name.endswith(".embed"):
                    tensor.normal_()
        self.oracle.save_pretrained(folder)
        _tokenizer().save(str(folder / "tokenizer.json"))
        self.ours = system.load(LoadOptions(weights=folder))

    def tokens(self, text: str, melody: Clip | None, frames: int, guidance: float) -> Tensor:
        """The oracle's greedy codes ``[K, F]``."""
        ids = torch.tensor([_tokenizer().encode(text).ids])
        heard = extractor()([melody.samples.mean(axis=0)], sampling_rate=RATE, return_tensors="pt") if melody else {}
        taken: list[Tensor] = []

        def decode(codes: Tensor, *_: Any, **__: Any) -> SimpleNamespace:
            taken.append(codes)
            return SimpleNamespace(audio_values=torch.zeros(codes.shape[1], 1, 640 * codes.shape[-1]))

        self.oracle.audio_encoder.decode = decode
        try:
            self.oracle.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, guidance_scale=guidance,
                max_length=frames + 4, pad_token_id=2048, decoder_start_token_id=2048, bos_token_id=2048, **heard,
            )  # fmt: skip
        finally:
            del self.oracle.audio_encoder.decode
        return torch.stack([codes[0, 0] for codes in taken], dim=1).flatten(0, 1)


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({word: 5 + i for i, word in enumerate(("?", *WORDS))}, unk_token="?"))  # noqa: S106
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


@pytest.fixture(scope="module", params=[Tiny, TinyStereo], ids=["mono", "stereo"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(request.param, tmp_path_factory.mktemp("oracle"))


def likeliest(_request: int, logits: Tensor) -> Tensor:
    return logits.argmax(dim=-1)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("seconds", [None, 4.0, 31.0])
def test_greedy_tokens_against_transformers(pair: Pair, guidance: float, seconds: float | None) -> None:
    melody = tune(seconds, channels=pair.ours.card.channels or 1) if seconds else None
    request = Request("music", text="soft rain", reference=melody)
    (found,) = pair.ours.extend(
        [pair.ours.encode(None)], [pair.ours.read(request.text)], 20, likeliest, guidance,
        pair.ours.melodies([request]),
    )  # fmt: skip
    expected = pair.tokens("soft rain", melody, 20, guidance)
    assert found.shape == expected.shape == (len(pair.ours.delays), 20)
    assert len(set(found.flatten().tolist())) > 10
    assert torch.equal(found, expected)


def test_the_names_of_audiocraft_give_the_model_of_transformers(tmp_path: Path) -> None:
    """The same weights in a release's layout: packed projections, and buffers of the chroma that are not weights."""
    pair = Pair(Tiny, tmp_path / "transformers")
    own = pair.ours.lm.state_dict()
    state = {
        "condition_provider.conditioners.self_wav.chroma.spec.window": torch.zeros(4),
    }
    for name, tensor in own.items():
        for ours, theirs in AUDIOCRAFT.items():
            name = name.replace(ours, theirs)
        if ".query." not in name and ".value." not in name:
            packed = (
                [own[_ours(name).replace("key", part)] for part in ("query", "key", "value")]
                if ".key." in name
                else [tensor]
            )
            state[name.replace("self_attn.key.weight", "self_attn.in_proj_weight")] = torch.cat(packed)
    folder = tmp_path / "release"
    folder.mkdir()
    lm, codec, text, tokens = (folder / file.name for file in Tiny.card.weights)
    torch.save({"best_state": state, "xp.cfg": "seed: 0"}, lm)
    save_file(pair.oracle.audio_encoder.state_dict(), codec)
    save_file({name: tensor.clone() for name, tensor in pair.oracle.text_encoder.state_dict().items()}, text)
    _tokenizer().save(str(tokens))
    request = Request("music", text="soft rain", reference=tune(2.0))
    (expected,) = pair.ours.generate([request], Sampling(temperature=0, max_seconds=0.1))
    (found,) = Tiny.load(LoadOptions(weights=folder)).generate([request], Sampling(temperature=0, max_seconds=0.1))
    assert expected.audio is not None
    assert found.audio is not None
    np.testing.assert_array_equal(found.audio.samples, expected.audio.samples)


AUDIOCRAFT = {
    "embeddings.": "emb.", "heads.": "linears.", "backbone.norm.": "out_norm.", "backbone.": "transformer.",
    "attention_norm.": "norm1.", "feed_norm.": "norm2.", ".attention.": ".self_attn.", ".output.": ".out_proj.",
    ".feed.inner.": ".linear1.", ".feed.outer.": ".linear2.",
    "text.": "condition_provider.conditioners.description.output_proj.",
    "melody.": "condition_provider.conditioners.self_wav.output_proj.",
}  # fmt: skip


def _ours(name: str) -> str:
    return name.replace("transformer.", "backbone.").replace(".self_attn.", ".attention.")


def test_the_melody_matters_and_company_does_not() -> None:
    model = Tiny.load(LoadOptions(random_seed=0))
    requests = [
        Request("music", text="soft rain", reference=tune(3.0, seed)) if seed else Request("music", text="other words")
        for seed in (0, 1, 2)
    ]
    sampling = Sampling(temperature=1.0, guidance=3.0, max_seconds=0.3, seed=2)
    together = model.generate(requests, sampling)
    sounds = [response.audio.samples for response in together if response.audio is not None]
    for asked, sound in zip(requests, sounds, strict=True):
        (alone,) = model.generate([asked], sampling)
        assert alone.audio is not None
        np.testing.assert_array_equal(alone.audio.samples, sound)
    tokens = [
        model.extend([model.encode(None)], [model.read("rain")], 9, likeliest, 1.0, model.melodies([asked]))[0]
        for asked in requests
    ]
    assert not torch.equal(tokens[1], tokens[2])


def test_it_goes_on_beyond_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Tiny.load(LoadOptions(random_seed=0))
    assert isinstance(model, Melodious)
    monkeypatch.setattr(musicgen, "WINDOW", 10)
    monkeypatch.setattr(musicgen, "OVERLAP", 4)
    asked, starts = Request("music", text="rain", reference=tune(3.0)), []
    heard = model.heard

    def listen(clip: Clip | None, start: int) -> Tensor | None:
        starts.append(start)
        return heard(clip, start)

    monkeypatch.setattr(model, "heard", listen)
    (whole,) = model.extend(
        [model.encode(None)], [model.read("rain")], 17, likeliest, 1.0, model.melodies([asked])
    )  # fmt: skip
    assert whole.shape == (4, 17)
    assert starts == [0, 6, 12]


def test_the_loss_hears_the_melody() -> None:
    shape = codebook_lm.CodebookLMShape(
        codebook_lm.musicgen(32, 2, 4, cross=False), 4, 32, 12, melody=12, melody_frames=9
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = codebook_lm.CodebookLM(shape)
    generator = torch.Generator().manual_seed(0)
    codes = [torch.randint(0, 32, (4, 8), generator=generator) for _ in range(4)]
    tunes = [torch.eye(12)[torch.randint(0, 12, (5,), generator=generator)] for _ in range(4)]
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    layout = Tiny.load(LoadOptions(random_seed=0)).layout
    for _ in range(60):
        loss = codebook_generation.loss(network, codes, [None] * 4, layout, tunes)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert loss < 0.2
    for own, melody in zip(codes, tunes, strict=True):
        (found,) = codebook_generation.generate(
            network, [own[:, :0]], [None], 8, layout=layout, draw=likeliest, melodies=[melody]
        )
        assert (found == own).float().mean() > 0.9


@pytest.mark.parametrize("name", ["TinyMelody", pytest.param("TinyStereoMelody", marks=pytest.mark.slow)])
def test_every_check_of_language_models_passes(name: str) -> None:
    report = check(f"{FILE}:{name}", Options(random_seed=0))
    assert [result for result in report.results if not result.ok] == []
    assert report.result("cache_is_exact").outcome == "passed"


def test_systems_are_registered() -> None:
    assert [find(system.card.name) for system in SYSTEMS] == list(SYSTEMS)
    assert len(SYSTEMS) == 4
