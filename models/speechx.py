"""SpeechX (arXiv:2308.06873): VALL-E that also cleans, extracts, removes and edits speech, as tokens in its prompt say.

Neither code nor weights were published. It runs on random weights, or on a folder of one's own with
``model.safetensors`` and EnCodec's file, unless that is in the cache. The text is read as its bytes.

`LAYOUTS` is what the paper's prompts are made of. Three things it leaves open are decided here: the token of a task
has no codes of further codebooks; a request's transcript, which is optional, is the text of tasks other than ``tts``
and ``editing``; and where the edited words are in a recording, which the paper takes from an alignment, is estimated
from their share of the transcript's characters. What comes out of an edit is all of the recording.
"""

from __future__ import annotations

from math import ceil, floor
from typing import TYPE_CHECKING, Any, ClassVar

from codecbench.models.base import Request
from codecbench.models.valle import LIBRILIGHT, ValleSystem, card

if TYPE_CHECKING:
    from torch import Tensor

    from codecbench.models.blocks.valle import Prompt

TOKENS = ("<ns>", "<sr>", "<tse>", "<soe>", "<mask>", "<eoe>")
"""Of noise suppression, speech removal, extraction, and of the start, the mask and the end of an edit."""

LAYOUTS: dict[str, tuple[str, ...]] = {
    "tts": ("audio",),
    "enhancement": ("<ns>", "audio"),
    "removal": ("<sr>", "audio"),
    "extraction": ("reference", "<tse>", "audio"),
    "editing": ("before", "<soe>", "<mask>", "<eoe>", "after"),
    "noisy editing": ("before", "<soe>", "edited", "<eoe>", "after"),
}
"""The prompt of each task: tokens, the request's recordings, and the parts of the recording that is edited."""


class SpeechX(ValleSystem):
    """SpeechX.

    Attributes:
        keeps_noise: The prompt of an edit has what is edited, so that the model can take over its background.
    """

    card = card(
        "speechx", "SpeechX", ("tts", "enhancement", "removal", "extraction", "editing"), "arXiv:2308.06873",
        unpublished=True, training_data=(LIBRILIGHT, "noise of the DNS Challenge"),
    )  # fmt: skip
    settings: ClassVar[dict[str, Any]] = {"tasks": len(TOKENS)}
    keeps_noise = False

    def prompt(self, request: Request) -> Prompt:
        """What the codes that `request` asks for follow."""
        from codecbench.models.blocks.valle import Prompt

        spoken = request.transcript or ""
        words = (spoken, request.text or "") if request.task == "tts" else ("", request.text or spoken)
        ids = self._ids(self._read(*words, language="en", source_language="en").ids)
        layout = LAYOUTS["noisy editing" if request.task == "editing" and self.keeps_noise else request.task]
        return Prompt(ids, arrange(layout, self.parts(request), self.lm.shape.codebook_size))

    def parts(self, request: Request) -> dict[str, Tensor]:
        """The codes ``[K, F]`` of the request's recordings, and of the parts of an edit, by the names in `LAYOUTS`."""
        audio = self.codec.encode(request.audio)
        start, stop = edited(request.transcript or "", request.text or "", audio.shape[1])
        parts = {"before": audio[:, :start], "edited": audio[:, start:stop], "after": audio[:, stop:]}
        return parts | {"audio": audio, "reference": self.codec.encode(request.reference)}


def arrange(layout: tuple[str, ...], parts: dict[str, Tensor], codebook_size: int) -> Tensor:
    """The codes ``[K, P]`` of a prompt: those of `parts`, and tokens in the first row, with zeros below."""
    import torch

    columns = []
    for name in layout:
        if name in TOKENS:
            column = parts["audio"].new_zeros(len(parts["audio"]), 1)
            column[0] = codebook_size + 1 + TOKENS.index(name)
            columns.append(column)
        else:
            columns.append(parts[name])
    return torch.cat(columns, dim=1)


def edited(transcript: str, text: str, frames: int) -> tuple[int, int]:
    """Where, of `frames` frames that say `transcript`, the words begin and end that `text` changes.

    As if each character took the same time. All frames where there is no transcript; none, at its place, where words
    are put in.
    """
    old, new = transcript.split(), text.split()
    if not old:
        return 0, frames
    shared = min(len(old), len(new))
    first = next((i for i in range(shared) if old[i] != new[i]), shared)
    last = next((i for i in range(shared - first) if old[-1 - i] != new[-1 - i]), shared - first)
    lengths = [len(word) + 1 for word in old]
    share = [sum(lengths[:count]) / sum(lengths) for count in (first, len(old) - last)]
    start = floor(frames * share[0])
    return start, max(start, ceil(frames * share[1])) if first + last < len(old) else start


SYSTEMS = (SpeechX,)
