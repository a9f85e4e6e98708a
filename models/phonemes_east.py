"""Chinese and Japanese in the IPA that VALL-E-X was trained on, each with its tones or accents.

Needs the extra ``cjk``: jieba finds Chinese words, pypinyin their syllables, Open JTalk the sounds of Japanese.
"""

from __future__ import annotations

import logging
import re
from itertools import pairwise
from typing import Any, NamedTuple

LETTERS = {
    "a": "ㄟˉ", "b": "ㄅㄧˋ", "c": "ㄙㄧˉ", "d": "ㄉㄧˋ", "e": "ㄧˋ", "f": "ㄝˊㄈㄨˋ", "g": "ㄐㄧˋ", "h": "ㄝˇㄑㄩˋ",
    "i": "ㄞˋ", "j": "ㄐㄟˋ", "k": "ㄎㄟˋ", "l": "ㄝˊㄛˋ", "m": "ㄝˊㄇㄨˋ", "n": "ㄣˉ", "o": "ㄡˉ", "p": "ㄆㄧˉ",
    "q": "ㄎㄧㄡˉ", "r": "ㄚˋ", "s": "ㄝˊㄙˋ", "t": "ㄊㄧˋ", "u": "ㄧㄡˉ", "v": "ㄨㄧˉ", "w": "ㄉㄚˋㄅㄨˋㄌㄧㄡˋ",
    "x": "ㄝˉㄎㄨˋㄙˋ", "y": "ㄨㄞˋ", "z": "ㄗㄟˋ",
}  # fmt: skip
"""How the model's makers let letters be said in a Chinese text, in bopomofo."""
SOUNDS = {
    "ㄅ": "p⁼", "ㄆ": "pʰ", "ㄇ": "m", "ㄈ": "f", "ㄉ": "t⁼", "ㄊ": "tʰ", "ㄋ": "n", "ㄌ": "l", "ㄍ": "k⁼", "ㄎ": "kʰ",
    "ㄏ": "x", "ㄐ": "tʃ⁼", "ㄑ": "tʃʰ", "ㄒ": "ʃ", "ㄓ": "ts`⁼", "ㄔ": "ts`ʰ", "ㄕ": "s`", "ㄖ": "ɹ`", "ㄗ": "ts⁼",
    "ㄘ": "tsʰ", "ㄙ": "s", "ㄚ": "a", "ㄛ": "o", "ㄜ": "ə", "ㄝ": "ɛ", "ㄞ": "aɪ", "ㄟ": "eɪ", "ㄠ": "ɑʊ", "ㄡ": "oʊ",
    "ㄢ": "an", "ㄣ": "ən", "ㄤ": "ɑŋ", "ㄥ": "əŋ", "ㄦ": "əɻ", "ㄧ": "i", "ㄨ": "u", "ㄩ": "ɥ", "ㄧㄢ": "jɛn",
    "ㄧㄣ": "in", "ㄧㄥ": "iŋ", "ㄨㄥ": "ʊŋ", "ㄩㄢ": "ɥæn", "ㄩㄣ": "ɥn", "ㄩㄥ": "jʊŋ", "ㄅㄛ": "p⁼wo",
    "ㄆㄛ": "pʰwo", "ㄇㄛ": "mwo", "ㄈㄛ": "fwo", "ˉ": "→", "ˊ": "↑", "ˇ": "↓↑", "ˋ": "↓", "˙": "", "，": ",",
    "。": ".", "！": "!", "？": "?", "—": "-",
}  # fmt: skip
"""IPA of bopomofo, and marks."""
_SOUND = re.compile("|".join(sorted(SOUNDS, key=len, reverse=True)))
GLIDES = (
    (r"i([aoe])", r"j\1"), (r"u([aoəe])", r"w\1"), (r"([sɹ]`[⁼ʰ]?)([→↓↑ ]+|$)", r"\1ɹ`\2"), ("ɻ", "ɹ`"),
    (r"(s[⁼ʰ]?)([→↓↑ ]+|$)", r"\1ɹ\2"),
)  # fmt: skip
"""Rules, in this order, for what vowels become beside others, and for syllables that are a consonant alone."""
JAPANESE = r"A-Za-z\d\u3005\u3040-\u30ff\u4e00-\u9fff\uff11-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\uff9d"
ASSIMILATION = (
    (r"Q([↑↓]*[kg])", r"k#\1"), (r"Q([↑↓]*[tdjʧ])", r"t#\1"), (r"Q([↑↓]*[sʃ])", r"s\1"), (r"Q([↑↓]*[pb])", r"p#\1"),
    (r"N([↑↓]*[pbm])", r"m\1"), (r"N([↑↓]*[ʧʥj])", r"n^\1"), (r"N([↑↓]*[tdn])", r"n\1"), (r"N([↑↓]*[kg])", r"ŋ\1"),
)  # fmt: skip
"""Rules, in this order, for doubled consonants and for the nasal that ends a syllable."""
ROMAN = (
    ("u", "ɯ"), ("ʧ", "tʃ"), ("j", "dʑ"), ("y", "j"), ("ni", "n^i"), ("nj", "n^"), ("hi", "çi"), ("hj", "ç"),
    ("f", "ɸ"), ("I", "i*"), ("U", "ɯ*"), ("r", "ɾ"),
)  # fmt: skip
"""Rules, in this order, from Open JTalk's sounds to IPA."""


def chinese_ipa(text: str) -> str:
    """A Mandarin text in IPA, words apart, an arrow or two a syllable for its tone."""
    import cn2an

    text = re.sub(r"\d+(?:\.?\d+)?", lambda found: str(cn2an.an2cn(found[0])), text)
    return of_bopomofo(_bopomofo(text))


def of_bopomofo(text: str) -> str:
    """The IPA of syllables in bopomofo and of letters."""
    text = re.sub("[a-z]", lambda found: LETTERS[found[0].lower()], text, flags=re.IGNORECASE)
    return _replaced(_SOUND.sub(lambda found: SOUNDS[found[0]], text), GLIDES)


def _bopomofo(text: str) -> str:
    import jieba
    from pypinyin import BOPOMOFO, lazy_pinyin

    jieba.setLogLevel(logging.WARNING)  # it tells of its dictionary
    found = ""
    for word in jieba.lcut(re.sub("[、；：]", "，", text)):
        if re.search("[\u4e00-\u9fff]", word):
            syllables = [re.sub(r"(?<=[\u3105-\u3129])$", "ˉ", own) for own in lazy_pinyin(word, BOPOMOFO)]
            found += " " * bool(found) + "".join(syllables)
        else:
            found += word
    return found


def japanese_ipa(text: str) -> str:
    """A Japanese text in IPA, accent phrases apart, with an arrow where the pitch rises or falls."""
    from unidecode import unidecode

    found = ""
    for number, part in enumerate(re.split(f"([^{JAPANESE}])", text.replace("％", "パーセント"))):
        if number % 2:
            found += unidecode(part).replace(" ", "")
        elif part:
            found += " " * bool(found) + _accented(part)
    return _replaced(found.replace("...", "…"), (*ASSIMILATION, *ROMAN))


class _Sound(NamedTuple):
    """A sound of Open JTalk; None for a pause."""

    name: str | None
    from_fall: int
    """Morae from where the pitch falls."""
    mora: int
    """In its accent phrase, from 1."""
    left: int
    """Morae up to the end of the phrase, from 1."""


def _accented(text: str) -> str:
    import pyopenjtalk

    labels: Any = pyopenjtalk.extract_fullcontext(text)
    said = ""
    for sound, after in pairwise(map(_sound, labels)):
        if sound.name is None:
            continue
        said += sound.name.replace("ch", "ʧ").replace("sh", "ʃ").replace("cl", "Q")
        if sound.left == 1 and after.mora == 1:
            said += " "
        elif sound.from_fall == 0 and after.mora == sound.mora + 1:
            said += "↓"
        elif sound.mora == 1 and after.mora == 2:
            said += "↑"
    return said


def _sound(label: str) -> _Sound:
    """What a label of full context says; the places of a pause are -1."""
    found = re.search(r"-([^+]*)\+.*?/A:(-?\d+)\+(\d+)\+(\d+)/", label)
    if found is None or found[1] in ("sil", "pau"):
        return _Sound(None, -1, -1, -1)
    return _Sound(found[1], int(found[2]), int(found[3]), int(found[4]))


def _replaced(text: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        text = re.sub(pattern, replacement, text)
    return text
