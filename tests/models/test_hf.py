"""Models of `transformers`, tiny and random: equal to calling them directly; likelihoods equal to sums made here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from codecbench.audio import Clip, resample
from codecbench.errors import InvalidSystem
from codecbench.models.base import Likelihood, LoadOptions, Request, Sampling
from codecbench.models.checks.base import Failed, Skipped, all_checks
from codecbench.models.checks.requests import request as ordinary
from codecbench.models.checks.runner import check
from codecbench.models.checks.subject import Options, Subject
from codecbench.models.hf import bark, csm, dia, moshi, musicgen, qwen, seamless, speecht5
from codecbench.models.hf.base import decoding, seed_of
from codecbench.models.registry import own_systems

FAMILIES = (
    musicgen.MusicGenSmallHF, musicgen.MusicGenStereoSmallHF, musicgen.MusicGenMelody1HF, bark.BarkSmall, csm.CSM1B,
    dia.Dia1B6, moshi.Moshika, speecht5.SpeechT5ASR, speecht5.SpeechT5TTS, speecht5.SpeechT5VC,
    seamless.SeamlessMedium, seamless.SeamlessLargeV2, qwen.Qwen2Audio7BInstruct, qwen.QwenOmni7B,
)  # fmt: skip
"""One of each architecture."""
ALL = [
    system for system in own_systems().values() if getattr(system, "__module__", "").startswith("codecbench.models.hf")
]
DRAWN, GREEDY = Sampling(temperature=1.3, top_k=40, max_seconds=0.3, seed=3), Sampling(temperature=0, max_seconds=0.3)


def loaded(system: Any, seed: int = 0) -> Any:
    if system not in _loaded:
        _loaded[system] = system.load(LoadOptions(random_seed=seed))
    return _loaded[system]


_loaded: dict[Any, Any] = {}


def a_request(system: Any, task: Any = None) -> Request:
    return ordinary(Subject(system.card.name, Options(random_seed=0)), task)


def clip(system: Any, seconds: float = 0.4) -> Clip:
    return Subject(system.card.name, Options(random_seed=0)).clip(seconds)


def generated(model: Any, request: Request, sampling: Sampling, **inputs: Any) -> Any:
    """What the model's own `generate` gives with the seed of `request`."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed_of(request, sampling))
        return model.model.generate(**inputs)


def test_all_are_listed_with_their_repositories() -> None:
    assert len(ALL) >= 20
    assert {system.card.name for system in FAMILIES} <= {system.card.name for system in ALL}
    for system in ALL:
        assert system.card.requires == "hf"
        assert system.card.name.endswith("_hf")
        assert all(file.revision and file.url.count("/") == 4 for file in system.card.weights)


@pytest.mark.parametrize("system", FAMILIES, ids=lambda system: system.card.name)
def test_saved_and_loaded_it_gives_the_same(system: Any, tmp_path: Path) -> None:
    model = loaded(system)
    save(model, tmp_path)
    again = system.load(LoadOptions(weights=tmp_path))
    assert again.parameters() == model.parameters() > 0
    for sampling in (DRAWN, GREEDY):
        asked = a_request(system)
        (one,), (other,) = (instance.generate([asked], sampling) for instance in (model, again))
        assert (one.text, one.tokens) == (other.text, other.tokens)
        assert (one.audio is None) == (other.audio is None)
        if one.audio and other.audio:
            np.testing.assert_allclose(one.audio.samples, other.audio.samples, atol=1e-5)
            assert one.audio.length > 0
    if system.card.likelihood:
        assert again.loglikelihood([clip(system)])[0].nats == pytest.approx(model.loglikelihood([clip(system)])[0].nats)


@pytest.mark.parametrize("system", FAMILIES, ids=lambda system: system.card.name)
@pytest.mark.slow
def test_checks_pass(system: Any) -> None:
    report = check(system.card.name, Options(random_seed=0))
    assert [(result.check, result.reason) for result in report.results if not result.ok] == []
    assert sum(result.outcome == "passed" for result in report.results) >= 40


@pytest.mark.parametrize("system", FAMILIES[:1] + FAMILIES[7:8], ids=lambda system: system.card.name)
def test_checks_that_load_pass(system: Any) -> None:
    names = ("loads", "missing_weights", "no_likelihood", "likelihood_is_whole", "import_is_light", "every_task")
    report = check(system.card.name, Options(random_seed=0), only=names)
    assert [(result.check, result.reason) for result in report.results if not result.ok] == []


def test_seeds_change_what_is_drawn_and_company_does_not() -> None:
    model = loaded(csm.CSM1B)
    asked = [Request("tts", text=text) for text in ("soft rain", "loud drums")]
    together = model.generate(asked, DRAWN)
    state = torch.get_rng_state()
    alone = [model.generate([one], DRAWN)[0] for one in reversed(asked)][::-1]
    assert torch.equal(torch.get_rng_state(), state)
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one.audio.samples, other.audio.samples)
    (drawn,) = model.generate(asked[:1], replace(DRAWN, seed=4))
    assert not np.array_equal(drawn.audio.samples, together[0].audio.samples)


def test_what_is_not_whole_is_refused(tmp_path: Path) -> None:
    system, model = speecht5.SpeechT5ASR, loaded(speecht5.SpeechT5ASR)
    with pytest.raises(InvalidSystem, match=r"speecht5_asr_hf: its weights are not here.*weights get speecht5_asr_hf"):
        system.load(LoadOptions())
    with pytest.raises(InvalidSystem, match="cannot be read as a SpeechT5ForSpeechToText"):
        system.load(LoadOptions(weights=tmp_path))
    state = {name: tensor for name, tensor in model.model.state_dict().items() if "feed_forward" not in name}
    model.model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(
        InvalidSystem, match=r"does not fit a SpeechT5ForSpeechToText: 8 weights are missing, such as .*feed"
    ):
        system.load(LoadOptions(weights=tmp_path))
    model.model.save_pretrained(tmp_path)
    with pytest.raises(InvalidSystem, match="has no processor of the model"):
        system.load(LoadOptions(weights=tmp_path))


def test_a_likelihood_that_the_card_denies_is_caught() -> None:
    class Gives(csm.CSM1B):
        card = replace(csm.CSM1B.card, likelihood=False)

        def loglikelihood(self, items: Sequence[Clip]) -> list[Likelihood]:
            return [Likelihood(-1.0, 1, item.duration) for item in items]

    denied, model = all_checks()["no_likelihood"], loaded(csm.CSM1B)
    for kind, reason in ((Gives, "it gives one"), (csm.CSM1B, "it gives likelihoods")):
        subject = Subject("none", Options())
        subject.__dict__ |= {"system": kind, "loaded": (kind(model.model, model.processor, "cpu"), None)}
        with pytest.raises(Failed if kind is Gives else Skipped, match=reason):
            denied.run(subject)


def test_without_transformers_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codecbench.models.hf.base.find_spec", lambda _name: None)
    with pytest.raises(InvalidSystem, match=r"'bark_hf' needs transformers: pip install 'codecbench\[hf\]'"):
        bark.BarkLarge.load(LoadOptions(random_seed=0))


def test_guidance_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a guidance of 0\.5: musicgen_small_hf takes 1"):
        loaded(musicgen.MusicGenSmallHF).generate([], Sampling(guidance=0.5))


def test_a_text_that_takes_no_time_is_nothing() -> None:
    for system in (musicgen.MusicGenSmallHF, bark.BarkSmall, csm.CSM1B, dia.Dia1B6, moshi.Moshika, qwen.QwenOmni7B):
        task = "tts" if "tts" in system.card.tasks else system.card.tasks[0]
        (found,) = loaded(system).generate([a_request(system, task)], Sampling(max_seconds=0.005))
        assert (found.audio.length, found.tokens) == (0, 0)


def save(model: Any, folder: Path) -> None:
    """As a release lies on disk."""
    files = type(model).card.weights
    if len(files) == 3:  # SpeechT5 with its vocoder and its x-vectors
        own = {name: model.model.__dict__["_modules"].pop(name) for name in ("vocoder", "speaker")}
        own["vocoder"].save_pretrained(folder / files[1].name)
        (folder / files[2].name).mkdir()
        torch.save(own["speaker"].network.state_dict(), folder / files[2].name / speecht5.XVECTOR)
        model.model.save_pretrained(folder)
        model.model.vocoder, model.model.speaker = own["vocoder"], own["speaker"]
    else:
        model.model.save_pretrained(folder)
    if isinstance(model, dia.Dia1B6):
        model.processor.audio_tokenizer.save_pretrained(folder / files[1].name)
        model.processor.feature_extractor.save_pretrained(folder)
        model.processor.tokenizer.save_pretrained(folder)
    elif isinstance(model, qwen.QwenOmni):
        torch.save(dict(model.model.speaker_map), folder / "spk_dict.pt")
        model.processor.extractor.save_pretrained(folder)
        model.processor.tokenizer.save_pretrained(folder)
    else:
        model.processor.save_pretrained(folder)


@pytest.mark.parametrize("sampling", [DRAWN, GREEDY], ids=["drawn", "greedy"])
@pytest.mark.parametrize("system", [musicgen.MusicGenSmallHF, musicgen.MusicGenStereoSmallHF])
def test_musicgen_is_the_librarys(system: Any, sampling: Sampling) -> None:
    model, prompt = loaded(system), clip(system)
    sampling = replace(sampling, guidance=3.0)
    asked = Request("continuation", text="soft rain", audio=prompt)
    (found,) = model.generate([asked], sampling)
    processor = model.processor
    heard = prompt.samples if prompt.channels > 1 else prompt.samples[0]
    inputs = processor(audio=heard, text=["soft rain"], sampling_rate=32_000, return_tensors="pt", padding=True)
    whole = generated(model, asked, sampling, **inputs, **decoding(sampling), guidance_scale=3.0, max_new_tokens=15 + 3)
    assert found.audio.length == 15 * 640
    assert found.tokens == 15 * len(system.card.streams)
    np.testing.assert_allclose(found.audio.samples, whole[0, :, -15 * 640 :].numpy(), atol=1e-5)


def test_musicgen_likelihood() -> None:
    model = loaded(musicgen.MusicGenSmallHF)
    codes = model.encode(clip(musicgen.MusicGenSmallHF))
    expected = 0.0
    steps = torch.full((4, codes.shape[1] + 4), 2048)
    for k in range(4):
        steps[k, 1 + k : 1 + k + codes.shape[1]] = codes[k]
    with torch.no_grad():
        silent = {"encoder_outputs": (torch.zeros(1, 1, 16),), "attention_mask": torch.zeros(1, 1, dtype=torch.long)}
        logits = model.model(**silent, decoder_input_ids=steps[:, :-1]).logits.double().log_softmax(-1)
    for k in range(4):
        for f in range(codes.shape[1]):
            expected += float(logits[k, k + f, codes[k, f]])
    (score,) = model.loglikelihood([clip(musicgen.MusicGenSmallHF)])
    assert (score.nats, score.tokens) == (pytest.approx(expected, rel=1e-5), codes.numel())


def test_melody_is_the_librarys() -> None:
    model, tune = loaded(musicgen.MusicGenMelody1HF), clip(musicgen.MusicGenMelody1HF, 0.7)
    asked = Request("music", text="soft rain", reference=tune)
    (found,) = model.generate([asked], GREEDY)
    inputs = model.processor(
        audio=tune.samples[0], sampling_rate=32_000, text=["soft rain"], return_tensors="pt", padding=True
    )
    whole = generated(model, asked, GREEDY, **inputs, **decoding(GREEDY), guidance_scale=None, max_new_tokens=18)
    np.testing.assert_allclose(found.audio.samples, whole[0].numpy(), atol=1e-5)
    (other,) = model.generate([replace(asked, reference=None)], GREEDY)
    assert not np.array_equal(other.audio.samples, found.audio.samples)


@pytest.mark.parametrize("sampling", [DRAWN, GREEDY], ids=["drawn", "greedy"])
def test_bark_is_the_librarys(sampling: Sampling) -> None:
    model, asked = loaded(bark.BarkSmall), Request("tts", text="soft rain")
    (found,) = model.generate([asked], sampling)
    inputs = model.processor("soft rain")
    fine = {"fine_temperature": 1.0 if sampling is GREEDY else sampling.temperature}
    samples = generated(model, asked, sampling, **inputs, **decoding(sampling), **fine, semantic_max_new_tokens=14)
    np.testing.assert_allclose(found.audio.samples, samples.numpy()[:, : int(0.3 * 24_000)], atol=1e-5)
    assert not found.ended
    assert found.tokens == 14 + 8 * int(14 / 49.9 * 75)


def test_bark_likelihood() -> None:
    model, heard = loaded(bark.BarkSmall), clip(bark.BarkSmall, 0.6)
    (score,) = model.loglikelihood([heard])
    parts = model.model
    with torch.no_grad():
        codes = parts.codec_model.encode(torch.tensor(heard.samples[None]), bandwidth=6.0).audio_codes[0, 0]
        expected, past = 0.0, [12_048] * 256 + [12_050]
        flat = [int(codes[k, f]) + 10_000 + 1024 * k for f in range(codes.shape[1]) for k in range(2)]
        for i, token in enumerate(flat):  # one at a time, as they would be drawn
            first = 10_000 + 1024 * (i % 2)
            logits = parts.coarse_acoustics(torch.tensor([past])).logits[0, -1, first : first + 1024]
            expected += float(logits.double().log_softmax(-1)[token - first])
            past.append(token)
        for k in range(2, 8):
            known = torch.full((1, 1024, 8), 1024)
            known[0, : codes.shape[1], :k] = codes[:k].T
            logits = parts.fine_acoustics(k, known).logits[0, : codes.shape[1], :1024].double().log_softmax(-1)
            expected += float(logits.gather(1, codes[k][:, None]).sum())
    assert (score.nats, score.tokens) == (pytest.approx(expected, rel=1e-5), codes.numel())


@pytest.mark.parametrize("sampling", [DRAWN, GREEDY], ids=["drawn", "greedy"])
def test_csm_is_the_librarys(sampling: Sampling) -> None:
    model, voice = loaded(csm.CSM1B), clip(csm.CSM1B)
    asked = Request("tts", text="soft rain", audio=voice, transcript="loud drums")
    (found,) = model.generate([asked], sampling)
    text = "<s>[0]loud drums</s><|AUDIO|><|audio_eos|><s>[0]soft rain</s>"
    inputs = model.processor(text=text, audio=voice.samples[0], return_tensors="pt", add_special_tokens=False)
    choice = {**decoding(sampling), "suppress_tokens": [2048, 2049, 2050]}
    depth = {f"depth_decoder_{name}": value for name, value in choice.items()}
    (samples,) = generated(model, asked, sampling, **inputs, **choice, **depth, max_new_tokens=3, output_audio=True)
    np.testing.assert_allclose(found.audio.samples[0], samples.numpy(), atol=1e-5)


def test_csm_likelihood() -> None:
    model, heard = loaded(csm.CSM1B), clip(csm.CSM1B)
    (score,) = model.loglikelihood([heard])
    network, expected = model.model, 0.0
    ids = torch.tensor([model.processor.tokenizer.convert_tokens_to_ids(["<s>", "[", "0", "]"])])
    with torch.no_grad():
        codes = network.codec_model.encode(torch.tensor(heard.samples[None]), num_quantizers=32).audio_codes[0].T
        fed = network.embed_text_tokens(ids)
        for frame in codes:
            hidden = network.backbone_model(inputs_embeds=fed).last_hidden_state[:, -1]
            expected += float(network.lm_head(hidden)[0].double().log_softmax(-1)[frame[0]])
            for k in range(1, 32):  # codebook by codebook, as they would be drawn
                given = torch.cat([torch.zeros(1, dtype=torch.long), frame[:k]])[None]
                logits = network.depth_decoder(given, backbone_last_hidden_state=hidden).logits[0, -1]
                expected += float(logits.double().log_softmax(-1)[frame[k]])
            fed = torch.cat([fed, network.backbone_model.embed_tokens(frame[None, None])], dim=1)
    assert (score.nats, score.tokens) == (pytest.approx(expected, rel=1e-5), codes.numel())


@pytest.mark.parametrize("sampling", [DRAWN, GREEDY], ids=["drawn", "greedy"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_dia_is_the_librarys(sampling: Sampling, guidance: float) -> None:
    model, voice = loaded(dia.Dia1B6), clip(dia.Dia1B6)
    sampling = replace(sampling, guidance=guidance)
    asked = Request("tts", text="soft rain", audio=voice, transcript="loud drums")
    (found,) = model.generate([asked], sampling)
    inputs = model.processor(
        text=["[S1] loud drums [S1] soft rain"],
        audio=voice.samples[0],
        sampling_rate=44_100,
        text_kwargs={"padding": False},
    )
    codes = generated(
        model, asked, sampling, **inputs, **decoding(sampling), guidance_scale=guidance, max_new_tokens=25 + 16
    )
    prompt = model.processor.get_audio_prompt_len(inputs["decoder_attention_mask"])
    (samples,) = model.processor.batch_decode(codes, audio_prompt_len=prompt)
    np.testing.assert_allclose(found.audio.samples[0], samples.numpy(), atol=1e-5)
    assert 0 < found.audio.duration <= 0.3


def test_dia_likelihood() -> None:
    model, heard = loaded(dia.Dia1B6), clip(dia.Dia1B6)
    (score,) = model.loglikelihood([heard])
    with torch.no_grad():
        padded = functional.pad(torch.tensor(heard.samples[None]), (0, -heard.length % 512))
        codes = model.processor.audio_tokenizer.encode(padded).audio_codes[0]
        frames, delays = codes.shape[1], (0, *range(8, 16))
        steps = torch.full((frames + 17, 9), 1025)
        for k, late in enumerate(delays):
            steps[: late + 1, k], steps[late + 1 + frames, k] = 1026, 1024
            steps[late + 1 : late + 1 + frames, k] = codes[k]
        logits = model.model(input_ids=torch.tensor([[0]]), decoder_input_ids=steps[None, :-1]).logits
        nats = logits.double().log_softmax(-1)
    expected = sum(float(nats[k, late + f, codes[k, f]]) for k, late in enumerate(delays) for f in range(frames))
    assert (score.nats, score.tokens) == (pytest.approx(expected, rel=1e-5), codes.numel())


def test_dia_clamps_no_temperature() -> None:
    with pytest.raises(ValueError, match=r"a temperature of 0\.7: dia_1_6b_hf takes 0, or 1 and more"):
        loaded(dia.Dia1B6).generate([a_request(dia.Dia1B6)], Sampling(temperature=0.7))


@pytest.mark.parametrize("sampling", [DRAWN, GREEDY], ids=["drawn", "greedy"])
def test_moshi_is_the_librarys(sampling: Sampling) -> None:
    model, prompt = loaded(moshi.Moshika), clip(moshi.Moshika)
    asked = Request("continuation", audio=prompt)
    (found,) = model.generate([asked], sampling)
    samples, choice = torch.tensor(prompt.samples[None]), decoding(sampling)
    frames = -(-samples.shape[-1] // 1920)
    whole = generated(
        model, asked, sampling, input_ids=torch.zeros(1, frames, dtype=torch.long), moshi_input_values=samples,
        user_input_values=torch.zeros_like(samples), **choice,
        **{f"depth_decoder_{name}": value for name, value in choice.items()}, max_new_tokens=4,
    )  # fmt: skip
    assert (found.audio.length, found.tokens) == (3 * 1920, 27)
    np.testing.assert_allclose(found.audio.samples[0], whole.audio_sequences[0, 0, -3 * 1920 :].numpy(), atol=1e-5)
    words = [i for i in whole.sequences[0, -3:].tolist() if i > 3]
    assert found.text == model.processor.decode(words)


def test_moshi_likelihood() -> None:
    model, heard = loaded(moshi.Moshika), clip(moshi.Moshika)
    (score,) = model.loglikelihood([heard])
    network, nothing, expected = model.model, 2048, 0.0
    with torch.no_grad():
        samples = torch.tensor(heard.samples[None])
        own, user = (network.audio_encoder.encode(x, num_quantizers=8).audio_codes[0] for x in (samples, 0 * samples))
        frames = own.shape[1]
        columns = torch.full((2, 8, frames + 2), nothing)
        for k in range(8):
            late = min(k, 1)
            columns[:, k, 1 + late : 1 + late + frames] = torch.stack([own[k], user[k]])
        text = torch.zeros(1, frames + 2, dtype=torch.long)
        text[0, 0] = network.config.vocab_size
        for step in range(1, frames + 2):  # step by step and codebook by codebook, as they would be drawn
            hidden = network(
                input_ids=text[:, :step],
                moshi_audio_codes=columns[:1, :, :step],
                user_audio_codes=columns[1:, :, :step],
            ).last_hidden_state[:, -1:]
            for k in range(8):
                if int(columns[0, k, step]) < nothing:
                    given = torch.cat([text[0, step : step + 1], columns[0, :k, step]])[None]
                    logits = network.depth_decoder(given, last_hidden_state=hidden).logits[0, -1]
                    expected += float(logits.double().log_softmax(-1)[columns[0, k, step]])
    assert (score.nats, score.tokens) == (pytest.approx(expected, rel=1e-4), own.numel())


def test_speecht5_is_the_librarys() -> None:
    listener, speaker, voices = (
        loaded(one) for one in (speecht5.SpeechT5ASR, speecht5.SpeechT5TTS, speecht5.SpeechT5VC)
    )
    heard = clip(speecht5.SpeechT5ASR)
    values = listener.processor(audio=heard.samples[0], sampling_rate=16_000, return_tensors="pt")
    for sampling in (DRAWN, GREEDY):
        asked = Request("asr", audio=heard)
        ids = generated(listener, asked, sampling, **values, **decoding(sampling), max_new_tokens=24)
        (found,) = listener.generate([asked], sampling)
        assert found.text == listener.processor.batch_decode(ids, skip_special_tokens=True)[0]
    for model, asked, inputs in (
        (
            speaker,
            Request("tts", text="soft rain", audio=heard),
            speaker.processor(text="soft rain", return_tensors="pt"),
        ),
        (voices, Request("conversion", audio=heard, reference=clip(speecht5.SpeechT5VC, 0.5)), values),
    ):
        (found,) = model.generate([asked], DRAWN)
        length = inputs["input_ids"].shape[1] if "input_ids" in inputs else 19
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed_of(asked, DRAWN))
            voice = model.model.speaker(torch.tensor((asked.reference or heard).samples))  # its pooling is noisy
            samples = model.model.generate_speech(
                next(iter(inputs.values())), voice, vocoder=model.model.vocoder, maxlenratio=9.5 * 2 / length
            )
        assert 0 < found.audio.length == 512 * found.tokens <= 0.3 * 16_000
        np.testing.assert_allclose(found.audio.samples[0], samples.numpy(), atol=1e-5)
    with pytest.raises(ValueError, match="needs audio, a recording of the voice"):
        speaker.generate([Request("tts", text="soft rain")], GREEDY)


@pytest.mark.parametrize("sampling", [DRAWN, GREEDY], ids=["drawn", "greedy"])
@pytest.mark.parametrize("system", [seamless.SeamlessMedium, seamless.SeamlessLargeV2])
def test_seamless_is_the_librarys(system: Any, sampling: Sampling) -> None:
    model, heard, choice = loaded(system), clip(system), decoding(sampling)
    features = model.processor(audio=heard.samples[0], sampling_rate=16_000, return_tensors="pt")
    asked = Request("s2tt", audio=heard, language="fr")
    (found,) = model.generate([asked], sampling)
    expected = generated(model, asked, sampling, **features, **choice, tgt_lang="fra", generate_speech=False).sequences
    assert found.text == model.processor.batch_decode(expected, skip_special_tokens=True)[0]
    asked = Request("tts", text="soft rain", language="de")
    (found,) = model.generate([asked], sampling)
    inputs = model.processor(text="soft rain", src_lang="deu", return_tensors="pt")
    assert inputs["input_ids"][0, 0] == model.processor.tokenizer.convert_tokens_to_ids("__deu__")
    text = {f"text_{name}": value for name, value in choice.items()}
    speech = {} if system.network.count("v2") else {f"speech_{name}": value for name, value in choice.items()}
    if system.network.count("v2") and sampling is DRAWN:
        speech = {"speech_do_sample": True, "speech_temperature": 1.3}
    wave, length = generated(model, asked, sampling, **inputs, **text, **speech, tgt_lang="deu")
    assert found.audio.length == min(int(length), 4800) > 0
    np.testing.assert_allclose(found.audio.samples[0], wave.reshape(-1)[: found.audio.length].numpy(), atol=1e-5)
    assert found.ended is False


def test_seamless_writes_more_than_it_speaks() -> None:
    model, heard = loaded(seamless.SeamlessMedium), clip(seamless.SeamlessMedium)
    assert model.generate([Request("s2tt", audio=heard, language="zu")], GREEDY)[0].text is not None
    with pytest.raises(ValueError, match="does not know the language 'zu' for 's2st'"):
        model.generate([Request("s2st", audio=heard, language="zu")], GREEDY)
    assert set(seamless.SPOKEN) < set(seamless.WRITTEN)
    assert len(set(seamless.WRITTEN.values())) == len(seamless.WRITTEN)


def test_qwen_audio_is_the_librarys() -> None:
    model, heard = loaded(qwen.Qwen2Audio7BInstruct), clip(qwen.Qwen2Audio7BInstruct)
    turns = [
        {"role": "system", "content": "You are a helpful assistant."},
        {
            "role": "user",
            "content": [{"type": "audio", "audio": heard.samples[0]}, {"type": "text", "text": "Who speaks?"}],
        },
    ]
    model.processor.chat_template = model.processor.default_chat_template
    inputs = model.processor.apply_chat_template(
        turns, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt", sampling_rate=16_000
    )
    for sampling in (DRAWN, GREEDY):
        asked = Request("slu", text="Who speaks?", audio=heard)
        ids = generated(model, asked, sampling, **inputs, **decoding(sampling), max_new_tokens=12)
        new = ids[0, inputs["input_ids"].shape[1] :]
        (found,) = model.generate([asked], sampling)
        assert (found.text, found.tokens) == (model.processor.decode(new, skip_special_tokens=True), len(new))


def test_qwen_omni_is_the_librarys() -> None:
    from transformers.models.qwen2_5_omni import processing_qwen2_5_omni

    model, heard = loaded(qwen.QwenOmni7B), clip(qwen.QwenOmni7B)
    question = qwen.INSTRUCTIONS["s2st"].format(language="Chinese")
    heard_at_16 = resample(heard.samples[0], 24_000, 16_000)
    features = model.processor.extractor(
        heard_at_16, sampling_rate=16_000, padding="max_length", return_attention_mask=True, return_tensors="pt"
    )
    tokens = processing_qwen2_5_omni._get_feat_extract_output_lengths(features["attention_mask"].sum(-1))
    text = (
        f"<|im_start|>system\n{model.system}<|im_end|>\n<|im_start|>user\n<|audio_bos|>{'<|AUDIO|>' * int(tokens)}"
        f"<|audio_eos|>{question}<|im_end|>\n<|im_start|>assistant\n"
    )
    inputs = {"input_features": features["input_features"], "feature_attention_mask": features["attention_mask"]}
    inputs |= dict(model.processor.tokenizer([text], return_tensors="pt"))
    asked = Request("s2st", audio=heard, language="zh")
    for sampling in (DRAWN, GREEDY):
        choice = {f"{part}_{k}": v for part in ("thinker", "talker") for k, v in decoding(sampling).items()}
        ids, samples = generated(
            model, asked, sampling, **inputs, **choice, thinker_max_new_tokens=12, thinker_min_new_tokens=2,
            talker_max_new_tokens=15, talker_min_new_tokens=1,
        )  # fmt: skip
        (found,) = model.generate([asked], sampling)
        new = ids[0, inputs["input_ids"].shape[1] :]
        assert found.text == model.processor.tokenizer.decode(new, skip_special_tokens=True)
        np.testing.assert_allclose(found.audio.samples[0], samples.numpy(), atol=1e-5)
        assert np.abs(found.audio.samples).max() > 1e-3
