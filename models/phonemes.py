"""From a text to the ids that language models of speech read: bytes, or the phonemes of a released model.

A `Reader` reads the words of the voice and the words to say in one go, and tells which are which.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from codecbench.errors import InvalidSystem


@dataclass(frozen=True)
class Reading:
    """The ids of a voice's words and of those to say.

    Attributes:
        ids: Of both.
        voice: How many of the ids, from the first on, are the voice's; 0 without any.
        said: The indices of what is to be said, with what marks the beginning and the end of a text.
    """

    ids: Sequence[int]
    voice: int
    said: Sequence[int]


class Reader(Protocol):
    """Reads a text in the words of its own language."""

    def __call__(self, transcript: str, text: str, *, language: str, source_language: str) -> Reading:
        """The ids of `transcript`, which may be empty, and `text`.

        Raises:
            ValueError: It cannot read this text, or does not know the language.
        """


BEGIN, STOP, FIRST_BYTE = 1, 2, 3
BYTES = FIRST_BYTE + 256
"""Ids that `read_bytes` may give."""


def read_bytes(transcript: str, text: str, *, language: str = "", source_language: str = "") -> Reading:  # noqa: ARG001
    """A `Reader` for models without a text front end of their own: UTF-8, with a begin and an end."""
    spoken = [FIRST_BYTE + byte for byte in transcript.encode()]
    new = [FIRST_BYTE + byte for byte in text.encode()]
    return framed([*spoken, *new], len(spoken), BEGIN, STOP)


def spell_bytes(ids: Sequence[int]) -> str:
    """The text of the bytes in `ids`, as `read_bytes` has them."""
    return bytes(number - FIRST_BYTE for number in ids).decode(errors="replace")


@dataclass(frozen=True)
class Script:
    """How a model reads and writes.

    Attributes:
        size: How many ids there are.
        read: From texts to ids.
        spell: From ids to a text.
        written: The ids that it writes.
    """

    size: int
    read: Reader
    spell: Callable[[Sequence[int]], str]
    written: range


IN_BYTES = Script(BYTES, read_bytes, spell_bytes, range(FIRST_BYTE, BYTES))


def framed(ids: Sequence[int], voice: int, begin: int, stop: int) -> Reading:
    """A reading with a begin and an end, of `ids` whose first `voice` are the voice's."""
    count = 1 + voice if voice else 0
    return Reading([begin, *ids, stop], count, [0, *range(1 + voice, len(ids) + 2)])


class EspeakReader:
    """Phonemes of eSpeak NG, as lifeiteng/vall-e has them for English: both texts are read as one.

    Args:
        symbols: The file ``unique_text_tokens.k2symbols`` that was written when the model was trained: a symbol and a
            number a line. A symbol's id is its rank after ``<pad>``, ``<bos>`` and ``<eos>``.

    Raises:
        InvalidSystem: The file is not there, is damaged, or the phonemiser is not installed.
    """

    def __init__(self, symbols: Path) -> None:
        names = {"<eps>"}
        try:
            for line in symbols.read_text(encoding="utf-8").splitlines():
                if line.strip():
                    name, _number = line.split()
                    names.add(name)
        except (OSError, ValueError) as error:
            raise InvalidSystem(f"cannot read the symbols of the text in {symbols}: {error}") from error
        self.ids = {name: index for index, name in enumerate(("<pad>", "<bos>", "<eos>", *sorted(names)))}
        self._phonemise = _espeak()

    def __call__(self, transcript: str, text: str, *, language: str, source_language: str) -> Reading:  # noqa: ARG002
        """As of `Reader`; ValueError for another language than English, and for phonemes that are not in the file."""
        if language != "en":
            raise ValueError(f"the text is read as English, not as '{language}'")
        both = self.phonemes(f"{transcript} {text}".strip())
        voice = len(self.phonemes(transcript.strip()))
        unknown = sorted(set(both) - set(self.ids))
        if unknown:
            raise ValueError(f"the model has never read {', '.join(unknown)}")
        ids = [self.ids[symbol] for symbol in both]
        return framed(ids, voice, self.ids["<bos>"], self.ids["<eos>"])

    def phonemes(self, text: str) -> list[str]:
        """The symbols of a text: phonemes, marks, and ``_`` between words."""
        if not text:
            return []
        words = [re.findall(r"\w+|[^\w\s|]", word) for word in self._phonemise(text).split("_")]
        return [symbol for index, word in enumerate(words) for symbol in (["_"] * bool(index) + word)]


def _espeak() -> Callable[[str], str]:
    """A function that gives the phonemes of an English text, with ``|`` between them and ``_`` between words."""
    _require("phonemizer", "espeakng_loader")
    import espeakng_loader
    from phonemizer.backend import EspeakBackend
    from phonemizer.backend.espeak.wrapper import EspeakWrapper
    from phonemizer.separator import Separator

    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    backend = EspeakBackend(
        "en-us", preserve_punctuation=True, with_stress=False, tie=False, language_switch="keep-flags",
        words_mismatch="ignore",
    )  # fmt: skip
    separator = Separator(word="_", syllable="-", phone="|")
    return lambda text: str(backend.phonemize([text], separator=separator, strip=True, njobs=1)[0])


def _require(*packages: str) -> None:
    """Raise InvalidSystem unless all `packages` are installed."""
    if not all(find_spec(package) for package in packages):
        raise InvalidSystem("its phonemiser is not installed; get it with `pip install codecbench[phonemes]`")


class VallexReader:
    """The phonemes of VALL-E-X: an IPA of its own, a letter an id, each text on its own: English, Chinese or Japanese.

    Args:
        path: The file ``bpe_69.json``.

    Raises:
        InvalidSystem: The file is not there or is damaged, or the phonemiser of English is not installed.
    """

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        _require("eng_to_ipa", "inflect", "unidecode")
        try:
            self._tokenizer: Any = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:  # the library raises nothing narrower
            raise InvalidSystem(f"{path} cannot be read as a tokeniser: {str(error).splitlines()[0]}") from error

    def __call__(self, transcript: str, text: str, *, language: str, source_language: str) -> Reading:
        """As of `Reader`."""
        voice, new = self._ids(transcript, source_language), self._ids(text, language)
        return Reading([*voice, *new], len(voice), range(len(voice), len(voice) + len(new)))

    def _ids(self, text: str, language: str) -> list[int]:
        if not text.strip():
            return []
        if language not in VALLEX_IPA:
            raise ValueError(f"no phonemiser for '{language}' is here; there are some for {', '.join(VALLEX_IPA)}")
        ids: list[int] = self._tokenizer.encode(VALLEX_IPA[language](text).replace(" ", "_")).ids
        return ids


ABBREVIATIONS = {
    "mrs": "misess", "mr": "mister", "dr": "doctor", "st": "saint", "co": "company", "jr": "junior", "maj": "major",
    "gen": "general", "drs": "doctors", "rev": "reverend", "lt": "lieutenant", "hon": "honorable", "sgt": "sergeant",
    "capt": "captain", "esq": "esquire", "ltd": "limited", "col": "colonel", "ft": "fort",
}  # fmt: skip


def english_ipa(text: str) -> str:
    """An English text in the IPA that VALL-E-X was trained on, ending in a mark.

    The CMU dictionary's American English, with a dark l before consonants and at the end of words. Words that are not
    in the dictionary stay as they are, with a star. Needs the extra ``phonemes``.
    """
    import eng_to_ipa
    from unidecode import unidecode

    text = unidecode(text).lower()
    text = re.sub(rf"\b({'|'.join(ABBREVIATIONS)})\.", lambda found: ABBREVIATIONS[found[1]], text)
    text = re.sub(r"\s+", " ", eng_to_ipa.convert(spell_numbers(text)))
    text = re.sub(r"l([^aeiouæɑɔəɛɪʊ ]*(?: |$))", r"ɫ\1", text)
    return _ended(text.replace("r", "ɹ").replace("ʤ", "dʒ").replace("ʧ", "tʃ").replace("...", "…"))


def _ended(text: str) -> str:
    text = text.rstrip()
    return text if re.search(r"[.,!?\-…~]$", text) else f"{text}."


def _eastern(name: str, text: str) -> str:
    """`text` by a function of `codecbench.models.phonemes_east`."""
    if not all(find_spec(package) for package in ("cn2an", "jieba", "pyopenjtalk", "pypinyin", "unidecode")):
        raise ValueError("the phonemisers of zh and ja are not installed; get them with `pip install codecbench[cjk]`")
    from codecbench.models import phonemes_east

    return _ended(str(getattr(phonemes_east, name)(text)))


VALLEX_IPA: dict[str, Callable[[str], str]] = {
    "en": english_ipa, "zh": partial(_eastern, "chinese_ipa"), "ja": partial(_eastern, "japanese_ipa")
}  # fmt: skip
"""Of each language that VALL-E-X speaks, how its IPA is made; all end in a mark."""


def spell_numbers(text: str) -> str:
    """`text` with its numbers, ordinals and sums of money as English words; needs the extra ``phonemes``."""
    text = re.sub(r"[0-9][0-9,]+[0-9]", lambda found: found[0].replace(",", ""), text)
    text = re.sub(r"£([0-9,]*[0-9]+)", r"\1 pounds", text)
    text = re.sub(r"\$([0-9.,]*[0-9]+)", lambda found: _dollars(found[1]), text)
    text = re.sub(r"[0-9]+\.[0-9]+", lambda found: found[0].replace(".", " point "), text)
    return re.sub(r"[0-9]+(?:st|nd|rd|th)|[0-9]+", lambda found: _number(found[0]), text)


def _dollars(amount: str) -> str:
    parts = amount.split(".")
    if len(parts) > 2:
        return f"{amount} dollars"
    counts = [(int(part) if part else 0, unit) for part, unit in zip(parts, ("dollar", "cent"), strict=False)]
    said = [f"{count} {unit}{'' if count == 1 else 's'}" for count, unit in counts if count]
    return ", ".join(said) or "zero dollars"


def _number(digits: str) -> str:
    import inflect

    words = inflect.engine()
    if not digits.isdigit():
        return str(words.number_to_words(digits))
    number = int(digits)
    if not 1000 < number < 3000 or number == 2000:
        return str(words.number_to_words(digits, andword=""))
    if 2000 < number < 2010:
        return f"two thousand {words.number_to_words(str(number % 100))}"
    if number % 100 == 0:
        return f"{words.number_to_words(str(number // 100))} hundred"
    return str(words.number_to_words(digits, andword="", zero="oh", group=2)).replace(", ", " ")
