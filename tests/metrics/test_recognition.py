"""Recognition metrics: what counts as an error, and the recognisers behind them."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codecbench.benchmark.cache import DiskCache
from codecbench.errors import InfrastructureError, UsageError
from codecbench.metrics import asr, recognition, registry
from codecbench.metrics.base import Metric, Output, Reference, Value, evaluate
from codecbench.metrics.conformance import signals
from codecbench.metrics.recognition import edits, normalise

METRICS = {metric.name: metric for metric in recognition.METRICS}
ORIGINAL, CODED = signals.speech(0.5), signals.noise(8_000) * np.float32(0.1)
SILENCE = np.zeros(8_000, np.float32)

needs_model = pytest.mark.skipif(find_spec(asr.PACKAGED) is None, reason="the packaged recogniser is not installed")


@pytest.fixture(autouse=True)
def _forget_models() -> Iterator[None]:
    """Models that a test renames or breaks are looked up anew by the next; loaded ones are kept."""
    yield
    asr.find.cache_clear()
    asr.parts.cache_clear()
    recognition.parts_of.cache_clear()


# --- counting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "found", "words", "characters"),
    [
        ("a b c", "a b c", (0, 3), (0, 5)),
        ("a b c", "a x c", (1, 3), (1, 5)),
        ("a b c", "a c", (1, 3), (2, 5)),
        ("a b c", "a b b c", (1, 3), (2, 5)),
        ("a b c", "", (3, 3), (5, 5)),
        ("yes", "no no no no", (4, 1), (11, 3)),
        ("the cat", "the bat sat", (2, 2), (5, 7)),
    ],
)
def test_edits(expected: str, found: str, words: tuple[int, int], characters: tuple[int, int]) -> None:
    assert edits(expected, found, "words") == words
    assert edits(expected, found, "characters") == characters


@pytest.mark.parametrize(
    ("text", "english", "other"),
    [
        ("Mr. Smith's colour: 21 dollars!", "mister smith is color $21", "mr smith s colour 21 dollars"),
        ("Ça, c'est l'ÉTÉ", "ca c est l ete", "ça c est l été"),
        ("Well... I see -- no.", "well i see no", "well i see no"),
        ("in\u200bvis\u00adible \ufeffsigns", "invisible signs", "invisible signs"),
        ("(laughs) [door] yes", "yes", "yes"),
        ("你好，世界", "你好 世界", "你好 世界"),
        ("e\u0301te\u0301", "ete", "été"),
        ("...", "", ""),
        ("?! \u200b –", "", ""),
        ("", "", ""),
    ],
)
def test_normalised_text(text: str, english: str, other: str) -> None:
    assert normalise(text, "en") == english
    assert normalise(text, "fr") == other


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # openai-whisper leaves its word list open
def test_the_normaliser_is_whispers() -> None:
    from whisper.normalizers import BasicTextNormalizer, EnglishTextNormalizer

    text = "She'd paid £2 million, twenty-five per cent of it (they say) in 1990s' coins; naïve & honourable!"
    assert normalise(text, "en").split() == EnglishTextNormalizer()(text).split()
    assert normalise(text, "de").split() == BasicTextNormalizer()(text).split()


# --- rates, with a recogniser that hears what it is told ------------------------------------------------------------


class Told:
    """Hears one text in `ORIGINAL` and another in anything else."""

    languages = frozenset({"en", "zh", "fr"})

    def __init__(self, original: str, coded: str) -> None:
        self.texts = {True: original, False: coded}
        self.calls = 0

    def transcribe(self, samples: Any, language: str) -> str:
        assert language in self.languages
        self.calls += 1
        return self.texts[len(samples) == len(ORIGINAL) and bool(np.allclose(samples, ORIGINAL))]


@pytest.fixture
def hears(monkeypatch: pytest.MonkeyPatch) -> Any:
    def tell(original: str, coded: str) -> Told:
        told = Told(original, coded)
        monkeypatch.setattr(asr, "load", lambda _: told)
        monkeypatch.setattr(asr, "parts", lambda spec: {"asr": "told", "model": spec})
        return told

    return tell


def rate(name: str, *, text: str = "red green blue black", samples: Any = CODED, **facts: Any) -> Value:
    return replace(outcome(name, text=text, samples=samples, **facts), texts={})


def outcome(name: str, *, text: str = "red green blue black", samples: Any = CODED, **facts: Any) -> Value:
    facts = {"language": "en", "transcript": text, **facts}
    return evaluate(METRICS[name], Reference(ORIGINAL, 16_000, **facts), Output(samples, 16_000))


def test_each_rate_compares_what_it_says(hears: Any) -> None:
    hears("Red, green blew black.", "read green blew back")
    assert rate("wer") == Value("ok", "", 3 / 4, 4)
    assert rate("wer_original") == Value("ok", "", 1 / 4, 4)
    assert rate("dwer") == Value("ok", "", 2 / 4, 4)
    assert rate("cer") == Value("ok", "", 4 / 20, 20)
    assert rate("dcer") == Value("ok", "", 2 / 20, 20)


def test_each_rate_names_the_texts_that_it_compares(hears: Any) -> None:
    hears("Red green.", "Read green.")
    assert outcome("cer", text="Red, green").texts == {"said": "Red, green", "output": "Read green."}
    assert outcome("dwer").texts == {"original": "Red green.", "output": "Read green."}
    assert outcome("wer_original", text="Red").texts == {"said": "Red", "original": "Red green."}


def test_a_corpus_has_one_rate(hears: Any) -> None:
    hears("", "a b c")
    values = [rate("wer", text=text) for text in ("a b c d e f g h", "x")]
    errors = sum((value.value or 0) * value.weight for value in values)
    assert errors / sum(value.weight for value in values) == pytest.approx((5 + 3) / 9)


def test_rates_are_not_clipped(hears: Any) -> None:
    hears("", "no no no no no")
    assert rate("wer", text="yes") == Value("ok", "", 5.0, 1)


@pytest.mark.parametrize("name", ["wer", "cer"])
def test_hearing_nothing_is_a_rate_of_one(hears: Any, name: str) -> None:
    hears("", " ... ")
    assert rate(name).value == 1.0


def test_a_silent_output_is_not_listened_to(hears: Any) -> None:
    told = hears("", "thank you for watching")
    assert rate("wer", samples=SILENCE).value == 1.0
    assert told.calls == 0


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"transcript": " "}, "no_transcript"),
        ({"transcript": "?! \u200b"}, "empty_ref"),
        ({"language": ""}, "no_language"),
        ({"language": "it"}, "language(it)"),
        ({"language": "zh-Hans", "transcript": "你好"}, "language(zh)"),
        ({"domain": "music"}, "domain(music)"),
    ],
)
def test_what_has_no_rate(hears: Any, facts: dict[str, str], reason: str) -> None:
    hears("one", "one")
    assert rate("wer", **facts) == Value("undefined", reason)


def test_what_has_no_rate_for_want_of_sound_or_of_a_transcript_of_the_original(hears: Any) -> None:
    hears("", "one")
    assert rate("dwer") == Value("undefined", "empty_ref")
    silent = Reference(SILENCE, 16_000, language="en", transcript="one")
    assert evaluate(METRICS["wer"], silent, Output(CODED, 16_000)) == Value("undefined", "ref_silent")


def test_a_language_without_spaces_has_characters(hears: Any) -> None:
    hears("", "你们好")
    assert rate("cer", text="你好，世界", language="zh") == Value("ok", "", 4 / 5, 5)


def test_regional_tags_are_the_language(hears: Any) -> None:
    hears("", "colour")
    assert rate("wer", text="color", language="en-GB").value == 0


def test_transcripts_are_kept_raw_so_that_another_normaliser_transcribes_nothing(
    hears: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = hears("One, two.", "One — two, three.")

    def values() -> list[float | None]:
        cache = DiskCache(tmp_path)
        reference = Reference(ORIGINAL, 16_000, language="en", transcript="One, two", cache=cache)
        output = Output(CODED, 16_000, cache=cache)
        return [evaluate(metric, reference, output).value for metric in METRICS.values()]

    first = values()
    assert told.calls == 2
    assert values() == first
    monkeypatch.setattr(recognition, "normalise", lambda text, _: text)
    assert values() != first
    assert told.calls == 2
    stored = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    assert "One, two." in stored


def test_another_model_or_language_is_another_transcript(hears: Any, tmp_path: Path) -> None:
    told = hears("one", "one")
    cache = DiskCache(tmp_path)
    for spec, language in (("", "en"), ("base", "en"), ("", "fr"), ("", "en")):
        asr.transcript(Output(CODED, 16_000, cache=cache), spec, language)
    assert told.calls == 3


# --- models ---------------------------------------------------------------------------------------------------------


@needs_model
def test_the_packaged_model_hears_the_same_every_time() -> None:
    signal = signals.speech(2.0)
    load = asr.load.__wrapped__
    texts = {load("").transcribe(signal, "en") for _ in range(2)}
    assert len(texts) == 1


@needs_model
def test_a_killed_process_leaves_nothing_behind() -> None:
    """Progress bars of the recogniser, although off, used to leave a semaphore to the resource tracker."""
    code = (
        "import multiprocessing, os, numpy; from codecbench.metrics import asr; "
        "multiprocessing.set_start_method('spawn'); "  # as in a worker
        "print(asr.load('').transcribe(numpy.zeros(16_000, numpy.float32), 'en'), flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -9
    assert done.stderr == ""


@needs_model
def test_clips_longer_than_a_window_are_heard_to_their_end() -> None:
    """In half a minute of silence before the sound, a single window would hear nothing of the sound."""
    sound = signals.speech(3.0)
    text = asr.load("").transcribe(np.concatenate([np.zeros(16_000 * 30, np.float32), sound]), "en")
    assert text != asr.load("").transcribe(np.zeros(16_000 * 30, np.float32), "en")


@needs_model
def test_an_english_model_knows_no_other_language() -> None:
    reference = Reference(ORIGINAL, 16_000, transcript="un deux", language="fr")
    assert evaluate(METRICS["wer"], reference, Output(CODED, 16_000)) == Value("undefined", "language(fr)")


@needs_model
def test_the_signature_names_everything_that_the_number_depends_on() -> None:
    signature = METRICS["wer"].signature()
    for part in (
        "wer|asr:faster-whisper-", "+ctranslate2-", "|model:tiny.en-1a5afae0|", "|compute:int8|", "|beam:5|",
        "|norm:whisper-", "|edit:jiwer-", "|rate:16k|",
    ):  # fmt: skip
        assert part in signature


@needs_model
def test_a_local_model_is_a_variant() -> None:
    path = asr.find("").path
    metric = registry.find(f"dwer:{path}")
    assert metric.name == f"dwer:{path}"
    assert metric.prepare
    metric.prepare()
    assert "|model:model-1a5afae0|" in metric.signature()
    assert metric.variant
    assert metric.variant("base").name == "dwer:base"


def prepared(spec: str) -> None:
    metric: Metric = registry.find(f"wer:{spec}" if spec else "wer")
    assert metric.prepare
    metric.prepare()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("enormous", r"unknown recogniser 'enormous': faster-whisper has tiny\.en, "),
        ("base", r"'base' is not on this disk; get it with: python -c .*download_model\('base'\)"),
        ("somebody/whisper", r"'somebody/whisper' is not on this disk"),
        ("/no/such/folder", "no such folder with a recogniser: /no/such/folder"),
        ("openai/base.en", r"'openai/base\.en' is not at .*base\.en\.pt; get it with: .*load_model\('base\.en'\)"),
    ],
)
def test_missing_models_are_one_line_before_the_run(
    spec: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match=message) as caught:
        prepared(spec)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no Whisper model for CTranslate2: it has no model\.bin"):
        prepared(str(tmp_path))


def test_missing_package_is_one_line_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asr, "find_spec", lambda _: None)
    asr.find.cache_clear()
    with pytest.raises(UsageError, match=r"pip install 'codecbench\[demo\]', or name another"):
        prepared("")


@needs_model
def test_another_file_in_the_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asr, "PACKAGED_SHA256", "0" * 64)
    asr.find.cache_clear()
    with pytest.raises(InfrastructureError, match="is not the published model"):
        prepared("")


@needs_model
def test_an_unknown_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asr, "DEVICE", "gpu")
    with pytest.raises(UsageError, match=r"\$CODECBENCH_ASR_DEVICE is 'gpu': write cpu or cuda"):
        METRICS["wer"].signature()


@pytest.fixture(scope="module")
def random_whisper(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints of openai-whisper's own class with random weights: a multilingual model and an English one."""
    import torch
    from whisper.model import ModelDimensions, Whisper

    files = {}
    for name, words in (("tiny", 51_865), ("tiny.en", 51_864)):
        torch.manual_seed(0)
        size = ModelDimensions(
            n_mels=80, n_audio_ctx=1500, n_audio_state=64, n_audio_head=1, n_audio_layer=1,
            n_vocab=words, n_text_ctx=448, n_text_state=64, n_text_head=1, n_text_layer=1,
        )  # fmt: skip
        files[name] = tmp_path_factory.mktemp("whisper") / f"{name}.pt"
        torch.save({"dims": vars(size), "model_state_dict": Whisper(size).state_dict()}, files[name])
    return files


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")  # openai-whisper and numpy 2
def test_openai_whisper_is_a_back_end(random_whisper: dict[str, Path]) -> None:
    spec = f"openai/{random_whisper['tiny']}"
    prepared(spec)
    reference = Reference(ORIGINAL, 16_000, transcript="un deux", language="fr")
    value = evaluate(registry.find(f"wer:{spec}"), reference, Output(CODED, 16_000))
    assert value.status == "ok", value.reason
    assert value.weight == 2
    text = asr.transcript(Output(CODED, 16_000), spec, "fr")
    assert text == asr.load.__wrapped__(spec).transcribe(CODED, "fr")
    assert (
        f"|model:tiny-{asr._digest(random_whisper['tiny'])[:8]}|compute:float32|"
        in METRICS["wer"]
        .variant(  # type: ignore[misc]
            spec
        )
        .signature()
    )


def test_openai_whisper_tells_its_languages(random_whisper: dict[str, Path]) -> None:
    assert asr.understands(f"openai/{random_whisper['tiny']}", "fr")
    assert not asr.understands(f"openai/{random_whisper['tiny.en']}", "fr")


@pytest.mark.demo_data
@needs_model
def test_real_sentences_are_understood() -> None:
    from codecbench.benchmark.datasets import registry as datasets

    if datasets.path("demo") is None:
        pytest.skip("the demo dataset is not here")
    demo = datasets.open_dataset("demo")
    errors = words = 0.0
    for utterance in (u for u in demo.utterances if u.language == "en"):
        clip = demo.load(utterance)
        reference = Reference(clip.samples[0], clip.sample_rate, transcript=utterance.transcript, language="en")
        value = evaluate(METRICS["wer"], reference, Output(clip.samples[0], clip.sample_rate))
        assert value.status == "ok", value.reason
        errors += (value.value or 0) * value.weight
        words += value.weight
    assert words > 30
    assert errors / words < 0.2
