"""VALL-E X as in its paper (arXiv:2303.03926): speech in another language in a speaker's own voice.

It differs from ``valle_x``, whose weights are published, as the paper says: the language is added to the codes, the
voice's to those of the prompt, the target's to those that follow; and the second network reads the target's text alone.

Speech is translated in three steps: what was said, what that is in the other language, and that text in the voice. The
paper's recogniser and translator, a network of SpeechUT's kind, was not published, nor was anything else. Here a
`ViolaCausal` takes its place, and writes bytes. A request's transcript and text, if given, are used in place of what it
would write: the paper's rows with oracle text.

It runs on random weights, or on a folder of one's own with ``model.safetensors`` and EnCodec's file, unless that is in
the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

from codecbench.models.base import Request, Response, Sampling
from codecbench.models.limits import check_sampling
from codecbench.models.phonemes import BYTES, read_bytes
from codecbench.models.valle import LIBRILIGHT, ValleSystem, card
from codecbench.models.viola import write

if TYPE_CHECKING:
    from codecbench.models.blocks.valle import Prompt, ValleLM, ValleShape
    from codecbench.models.blocks.viola import Question, TranslatingLM

HEARD, TRANSLATED = 0, 1
"""The translator's tasks: what was said, and what that is in the other language."""


class ValleXPaper(ValleSystem):
    """VALL-E X with a translator.

    Attributes:
        translator: Dimension, layers and heads of the translator; the paper's has 6 + 6 + 6 layers.
        longest: Bytes of text that it writes.
    """

    card = card(
        "valle_x_paper", "VALL-E X", ("tts", "s2st"), "arXiv:2303.03926", unpublished=True,
        training_data=(LIBRILIGHT, "WenetSpeech"),
    )  # fmt: skip
    settings: ClassVar[dict[str, Any]] = {"text": BYTES, "languages": 2, "prefix_mode": 4}
    translator: ClassVar[dict[str, int]] = {"dimension": 768, "layers": 18, "heads": 12}
    longest: ClassVar[int] = 500
    languages = ("en", "zh")

    @classmethod
    def build(cls, seed: int, shape: ValleShape | None = None) -> ValleLM:
        """The networks with random weights from `seed`; torch's own random state is left as it was."""
        import torch

        from codecbench.models.blocks.valle import ValleShape
        from codecbench.models.blocks.viola import TranslatingLM, ViolaShape

        own = shape or ValleShape(**cls.settings)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return TranslatingLM(own, ViolaShape(tasks=2, languages=len(cls.languages), fine=own, **cls.translator))

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """Speech: a text in a voice of any language, or what a recording says in another one."""
        check_sampling(sampling)
        for request in requests:
            self.check(request)
        heard = self._write(HEARD, [own for own in requests if own.task == "s2st" and not own.transcript], sampling)
        said = self._write(TRANSLATED, [own for own in requests if own.task == "s2st" and not own.text], sampling)
        asked, spent = [], []
        for own in requests:
            known = [heard.get(id(own)), said.get(id(own))]
            spent.append(sum(response.tokens for response in known if response is not None))
            if own.task == "s2st":
                words = [response.text if response else given
                         for response, given in zip(known, (own.transcript, own.text), strict=True)]  # fmt: skip
                own = replace(own, transcript=words[0], text=words[1])
            asked.append(own)
        found = super().generate(asked, sampling)
        return [replace(own, tokens=own.tokens + more) for own, more in zip(found, spent, strict=True)]

    def prompt(self, request: Request) -> Prompt:
        """What the codes that `request` asks for follow."""
        source, target = self._spoken(request)
        return replace(super().prompt(request), text_languages=None, code_languages=(source, target))

    def _write(self, task: int, requests: Sequence[Request], sampling: Sampling) -> dict[int, Response]:
        """What the translator writes, by the identity of the request."""
        lm = cast("TranslatingLM", self.lm)
        asked = [replace(own, task="asr" if task == HEARD else "s2tt") for own in requests]
        questions = [self._question(task, own) for own in requests]
        found = write(lm.translator, questions, asked, sampling, self.longest, use_cache=self.use_cache)
        return {id(own): response for own, response in zip(requests, found, strict=True)}

    def _question(self, task: int, request: Request) -> Question:
        from codecbench.models.blocks.viola import Question

        source, target = self._spoken(request)
        ids = self._ids(read_bytes("", "").ids)
        language = target if task == TRANSLATED else source
        speech, nothing = self.codec.encode(request.audio), self.codec.encode(None)
        return Question(task, language, ids, ids * 0 + source, speech, source, nothing)

    def _spoken(self, request: Request) -> tuple[int, int]:
        """The numbers of the language of the voice, and of what it is to say."""
        target = self.languages.index(request.language or self.languages[0])
        if request.source_language is not None:
            return self.languages.index(request.source_language), target
        return (1 - target if request.task == "s2st" else target), target


SYSTEMS = (ValleXPaper,)
