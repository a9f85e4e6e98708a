"""How language models of speech read texts: against the open implementations, where the phonemisers are installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codecbench.errors import InvalidSystem
from codecbench.models import phonemes, phonemes_east
from codecbench.models.phonemes import EspeakReader, VallexReader, english_ipa, framed, read_bytes

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "phonemes.json").read_text(encoding="utf-8"))
EAST = json.loads((Path(__file__).parents[1] / "golden" / "phonemes_east.json").read_text(encoding="utf-8"))
SYMBOLS = "<eps> 0\n_ 1\nb 2\na 3\n"


def test_bytes_tell_the_voice_from_what_is_to_be_said() -> None:
    reading = read_bytes("ab", "é")
    assert list(reading.ids) == [1, 3 + 97, 3 + 98, 3 + 0xC3, 3 + 0xA9, 2]
    assert (reading.voice, list(reading.said)) == (3, [0, 3, 4, 5])
    alone = read_bytes("", "a")
    assert (list(alone.ids), alone.voice, list(alone.said)) == ([1, 100, 2], 0, [0, 1, 2])
    assert max(read_bytes("", "\U0001f600").ids) < phonemes.BYTES


def test_a_frame_without_a_voice() -> None:
    assert list(framed([7], 0, 1, 2).ids) == [1, 7, 2]


def test_symbols_are_numbered_by_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers in the file mean nothing: the released code sorts the symbols after three of its own."""
    monkeypatch.setattr(phonemes, "_espeak", lambda: lambda text: "_".join("|".join(word) for word in text.split()))
    path = tmp_path / "unique_text_tokens.k2symbols"
    path.write_text(SYMBOLS)
    read = EspeakReader(path)
    assert read.ids == {"<pad>": 0, "<bos>": 1, "<eos>": 2, "<eps>": 3, "_": 4, "a": 5, "b": 6}
    reading = read("ba", "ab", language="en", source_language="en")
    assert list(reading.ids) == [1, 6, 5, 4, 5, 6, 2]
    assert (reading.voice, list(reading.said)) == (3, [0, 3, 4, 5, 6])
    assert list(read("", "", language="en", source_language="en").ids) == [1, 2]
    with pytest.raises(ValueError, match="never read c"):
        read("", "abc", language="en", source_language="en")
    with pytest.raises(ValueError, match="not as 'zh'"):
        read("", "ab", language="zh", source_language="en")


def test_damaged_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phonemes, "_require", lambda *_: None)
    path = tmp_path / "unique_text_tokens.k2symbols"
    with pytest.raises(InvalidSystem, match=r"cannot read the symbols of the text in .*k2symbols"):
        EspeakReader(path)
    path.write_text("a b c\n")
    with pytest.raises(InvalidSystem, match="cannot read the symbols"):
        EspeakReader(path)
    with pytest.raises(InvalidSystem, match="cannot be read as a tokeniser"):
        VallexReader(path)


def test_a_missing_phonemiser_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "unique_text_tokens.k2symbols"
    path.write_text(SYMBOLS)
    monkeypatch.setattr(phonemes, "find_spec", lambda _name: None)
    for reader in (EspeakReader, VallexReader):
        with pytest.raises(InvalidSystem, match=r"pip install codecbench\[phonemes\]"):
            reader(path)


@pytest.mark.parametrize("text", GOLDEN["ipa"])
def test_ipa_of_valle_x(text: str) -> None:
    for package in ("eng_to_ipa", "inflect", "unidecode"):
        pytest.importorskip(package)
    assert english_ipa(text).replace(" ", "_") == GOLDEN["ipa"][text]


@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("language", EAST)
def test_ipa_of_valle_x_in_the_east(language: str) -> None:
    for package in ("cn2an", "jieba", "pyopenjtalk", "pypinyin", "unidecode"):
        pytest.importorskip(package)
    found = {text: phonemes.VALLEX_IPA[language](text).replace(" ", "_") for text in EAST[language]}
    assert found == EAST[language]


def test_bopomofo_of_each_kind() -> None:
    """All that `chinese_ipa` does after the words are found, by hand."""
    told = {
        "ㄅㄛˉ": "p⁼wo→",
        "ㄓˉ": "ts`⁼ɹ`→",
        "ㄙˋ": "sɹ↓",
        "ㄒㄩㄥˊ": "ʃjʊŋ↑",
        "ㄏㄨㄚˉ": "xwa→",
        "ㄦˊ": "əɹ`↑",
        "ㄇㄚ˙，": "ma,",
    }
    assert {syllable: phonemes_east.of_bopomofo(syllable) for syllable in told} == told
    assert phonemes_east.of_bopomofo("Xw") == "ɛ→kʰu↓sɹ↓t⁼a↓p⁼u↓ljoʊ↓"


def test_missing_phonemisers_of_the_east_name_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phonemes, "find_spec", lambda _name: None)
    for language in ("zh", "ja"):
        with pytest.raises(ValueError, match=r"pip install codecbench\[cjk\]"):
            phonemes.VALLEX_IPA[language]("好")


def test_symbols_of_espeak(tmp_path: Path) -> None:
    for package in ("phonemizer", "espeakng_loader"):
        pytest.importorskip(package)
    path = tmp_path / "unique_text_tokens.k2symbols"
    path.write_text("".join(f"{symbol} 1\n" for symbol in {s for found in GOLDEN["espeak"].values() for s in found}))
    read = EspeakReader(path)
    assert {text: read.phonemes(text) for text in GOLDEN["espeak"]} == GOLDEN["espeak"]
