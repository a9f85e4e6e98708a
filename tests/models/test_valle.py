"""VALL-E and VALL-E X as systems, in a tiny size: their files, their requests, and the checks."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from codecbench.audio import Clip
from codecbench.errors import InvalidSystem
from codecbench.models import phonemes, valle_files
from codecbench.models.base import LoadOptions, Request, Sampling
from codecbench.models.blocks import seanet
from codecbench.models.blocks.conv import ConvStyle
from codecbench.models.blocks.valle import ValleLM, ValleShape, from_released
from codecbench.models.checks.runner import check
from codecbench.models.checks.subject import Options
from codecbench.models.registry import find
from codecbench.models.valle import Valle, ValleX

SYSTEMS = Path(__file__).parents[1] / "rogues" / "tiny_valle.py"
TinyValle = cast("type[Valle]", find(f"{SYSTEMS}:TinyValle"))
TinyValleX = cast("type[ValleX]", find(f"{SYSTEMS}:TinyValleX"))
NAMES = json.loads((Path(__file__).parents[1] / "golden" / "valle.json").read_text())
GREEDY = Sampling(temperature=0, max_seconds=0.2)


def noise(seconds: float, seed: int = 0) -> Clip:
    samples = 0.3 * np.random.default_rng(seed).standard_normal((1, int(24_000 * seconds)))
    return Clip(samples.astype(np.float32), 24_000)


def names_of(*, languages: bool) -> list[str]:
    """The released checkpoint's names, of two layers."""
    names = [name for name in NAMES["vallex-checkpoint"] if languages or "language" not in name]
    return [name for name in names if ".layers." not in name or int(name.split(".")[2]) < 2]


def as_released(network: ValleLM, names: Sequence[str]) -> dict[str, Tensor]:
    """The state of `network` under the `names` of an open implementation."""
    own, state = network.state_dict(), {}
    for name in names:
        parts = list(from_released({name: torch.zeros(3)}))
        state[name] = torch.cat([own[part] for part in parts])
    return state


def tensors(codebooks: int) -> dict[str, Tensor]:
    network = TinyValle.build(0, ValleShape(**TinyValle.settings, starts=True, codebooks=codebooks))
    beyond = rf"nar_audio_embeddings.{codebooks}|nar_(stage|predict)_[a-z]+.{codebooks - 1}"
    names = [name for name in names_of(languages=False) if not re.match(beyond, name)]
    return as_released(network, names)


def save_encodec(folder: Path) -> None:
    net = seanet.SEANet(width=4, style=ConvStyle("weight", causal=True))
    codec = seanet.build(net, 32, 1024, seed=3)
    seanet.enliven(codec, 3, level=0.1, output_level=0.1)
    torch.save(codec.state_dict(), folder / valle_files.ENCODEC.name)


def same(found: Clip | None, expected: Clip | None) -> None:
    assert found is not None
    assert expected is not None
    np.testing.assert_array_equal(found.samples, expected.samples)


@pytest.fixture(scope="module")
def model() -> Valle:
    return cast("Valle", TinyValle.load(LoadOptions(random_seed=0)))


@pytest.mark.parametrize("system", ["TinyValle", pytest.param("TinyValleX", marks=pytest.mark.slow)])
def test_every_check_of_language_models_passes(system: str) -> None:
    """In a tiny size: on random weights of the released sizes they take minutes to hours on a CPU."""
    report = check(f"{SYSTEMS}:{system}", Options(random_seed=0))
    assert [result for result in report.results if not result.ok] == []
    assert report.result("cache_is_exact").outcome == "passed"


def training_run(folder: Path, settings: Mapping[str, Any]) -> ValleLM:
    """A folder as lifeiteng/vall-e leaves it; what is in its checkpoint."""
    folder.mkdir()
    size = {"starts": True, "prefix_mode": settings.get("prefix_mode", 1), "text": 20}
    network = TinyValle.build(7, ValleShape(**TinyValle.settings, **size, tied=settings.get("share_embedding", True)))
    told = {"nhead": 4, "prefix_mode": 1, "exp_dir": Path("exp"), "batch_idx_train": 3, **settings}
    torch.save(
        {"model": as_released(network, names_of(languages=False)), "optimizer": None, **told}, folder / "epoch-1.pt"
    )
    (folder / valle_files.SYMBOLS).write_text("".join(f"{symbol} {i}\n" for i, symbol in enumerate("_abcdefg")))
    save_encodec(folder)
    return network


@pytest.mark.parametrize("settings", [{}, {"prefix_mode": 2, "model_name": "VALL-E"}, {"share_embedding": False}])
def test_checkpoint_of_an_open_training_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    monkeypatch.setattr(phonemes, "_espeak", lambda: lambda text: "_".join("|".join(word) for word in text.split()))
    folder = tmp_path / "exp"
    network = training_run(folder, settings)
    system = TinyValle.load(LoadOptions(weights=folder))
    assert system.lm.shape == network.shape
    for name, tensor in network.state_dict().items():
        assert torch.equal(system.lm.state_dict()[name], tensor), name
    voice = Request("tts", text="abc", audio=noise(0.2), transcript="dead")
    prompt = system.prompt(voice)
    assert prompt.codes.shape == (8, 15)
    assert prompt.text_languages is None
    assert len(prompt.text) == 2 + 4 + 1 + 3
    assert prompt.said is not None
    assert torch.equal(prompt.text[prompt.said], prompt.text[[0, 5, 6, 7, 8, 9]])


def test_what_a_checkpoint_may_not_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phonemes, "_espeak", lambda: str)
    with pytest.raises(InvalidSystem, match="its weights were never published"):
        TinyValle.load(LoadOptions())
    with pytest.raises(InvalidSystem, match=r"no folder with one checkpoint \(\*.pt\); it has 0"):
        TinyValle.load(LoadOptions(weights=tmp_path))
    refused: list[tuple[dict[str, Any], str]] = [
        ({"add_prenet": True}, "has add_prenet True"), ({"model_name": "VALL-F"}, "has model_name VALL-F"),
    ]  # fmt: skip
    for number, (settings, message) in enumerate(refused):
        folder = tmp_path / str(number)
        training_run(folder, settings)
        with pytest.raises(InvalidSystem, match=message):
            TinyValle.load(LoadOptions(weights=folder))
    path = folder / "epoch-1.pt"
    for content, message in (
        ({"model": {"a": torch.zeros(1)}, "nhead": 4}, "no checkpoint of VALL-E: it lacks"),
        ({"model": {}, "code": Path}, "reading such a file could run code"),
        ({"state": {}}, "holds no tensors under model"),
        ({"model": tensors(7), "nhead": 4, "prefix_mode": 1}, "has 7 codebooks, not 8"),
    ):
        torch.save(content, path)
        with pytest.raises(InvalidSystem, match=message):
            TinyValle.load(LoadOptions(weights=folder))


def test_released_files_of_valle_x(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenizers import Tokenizer, models

    monkeypatch.setattr(phonemes, "_require", lambda *_: None)
    monkeypatch.setitem(phonemes.VALLEX_IPA, "en", lambda text: text)
    source = TinyValleX.load(LoadOptions(random_seed=1))
    model, text, codec = (tmp_path / file.name for file in TinyValleX.card.weights)
    torch.save({"model": as_released(source.lm, names_of(languages=True)), "exp_dir": Path("x")}, model)
    Tokenizer(models.BPE({"[UNK]": 0, "a": 3, "b": 4, "_": 5}, [], unk_token="[UNK]")).save(str(text))  # noqa: S106
    save_encodec(tmp_path)
    system = TinyValleX.load(LoadOptions(weights=tmp_path))
    assert all(torch.equal(tensor, source.lm.state_dict()[name]) for name, tensor in system.lm.state_dict().items())
    prompt = system.prompt(Request("tts", text="ab a", audio=noise(0.1), transcript="b", language="en"))
    assert prompt.text.tolist() == [4, 3, 4, 5, 3]
    assert prompt.text_languages is not None
    assert prompt.text_languages.tolist() == [0, 0, 0, 0, 0]
    monkeypatch.setitem(phonemes.VALLEX_IPA, "zh", lambda text: text[::-1])
    request = Request("tts", text="ab", audio=noise(0.1), transcript="b", language="zh", source_language="en")
    across = system.prompt(request)
    assert across.text_languages is not None
    assert (across.text.tolist(), across.text_languages.tolist()) == ([4, 4, 3], [0, 1, 1])
    codec.unlink()
    with pytest.raises(InvalidSystem, match=r"no such file or folder for its weights: .*encodec_24khz"):
        TinyValleX.load(LoadOptions(weights=tmp_path))


@pytest.mark.usefixtures("no_weights")
def test_missing_weights_name_the_command() -> None:
    with pytest.raises(InvalidSystem, match="`codecbench weights get tiny-valle-x`"):
        TinyValleX.load(LoadOptions())


def test_languages_are_told() -> None:
    system = TinyValleX.load(LoadOptions(random_seed=0))
    ask = Request("tts", text="word", audio=noise(0.2), transcript="ab", language="en", source_language="zh")
    assert system.prompt(ask).text_languages is not None
    assert cast("Tensor", system.prompt(ask).text_languages).tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    one, other = (system.generate([replace(ask, language=name)], GREEDY)[0] for name in ("en", "ja"))
    assert one.audio is not None
    assert other.audio is not None
    assert not np.array_equal(one.audio.samples, other.audio.samples)
    with pytest.raises(ValueError, match="knows en, zh, ja, not 'fr'"):
        system.generate([replace(ask, language="fr")], GREEDY)


def test_a_voice_has_words(model: Valle) -> None:
    with pytest.raises(ValueError, match="needs the words of the voice"):
        model.generate([Request("tts", text="word", audio=noise(0.2))], GREEDY)
    (alone,) = model.generate([Request("tts", text="word")], GREEDY)
    (voiced,) = model.generate([Request("tts", text="word", audio=noise(0.2), transcript="word")], GREEDY)
    assert alone.audio is not None
    assert voiced.audio is not None
    assert alone.tokens == voiced.tokens == 8 * 15
    assert not np.array_equal(alone.audio.samples, voiced.audio.samples)


def test_a_continuation_is_decoded_after_its_beginning(model: Valle) -> None:
    ask = Request("continuation", audio=noise(0.2))
    (response,) = model.generate([ask], GREEDY)
    ((codes, _),) = model.lm.generate([model.prompt(ask)], 15, model.drawer([ask], GREEDY))
    whole = model.codec.decode(torch.cat([model.codec.encode(ask.audio), codes], dim=1))
    same(response.audio, Clip(whole.samples[:, 15 * 320 :], 24_000))


def test_the_end_is_the_end(model: Valle, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told from the limit, and comes as soon as it is the likeliest."""
    asked = [Request("tts", text="a"), Request("tts", text="bc")]
    assert [response.ended for response in model.generate(asked, GREEDY)] == [False, False]
    draw = model.drawer(asked, Sampling(max_seconds=0.2))
    logits = torch.zeros(1025)
    logits[-1] = 1e-3
    assert draw(0, logits, []) == 1024
    monkeypatch.setattr(type(model), "stops_early", False)
    assert draw(0, logits, []) != 1024


def test_repetition_aware_sampling_leaves_a_loop(model: Valle, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, sampling = [Request("tts", text="a")], Sampling(top_p=1e-6)
    logits = torch.zeros(1025)
    logits[5] = 2.0
    assert {model.drawer(asked, sampling)(0, logits, [5] * 10) for _ in range(5)} == {5}
    monkeypatch.setattr(type(model), "repetition_aware", True)
    draw = model.drawer(asked, sampling)
    assert len({draw(0, logits, [5] * 10) for _ in range(5)}) > 1
    assert draw(0, logits, [1] * 10) == 5
    greedy = model.drawer(asked, Sampling(top_k=1))
    assert {greedy(0, logits, [5] * 10) for _ in range(5)} == {5}
