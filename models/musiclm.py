"""MusicLM (arXiv:2301.11325): music for a text, after a melody, or on from other music.

The stages of AudioLM (`codecbench.models.audiolm`), twice as deep, at 24 kHz, and with repetitions of semantic tokens.
Before all else the first two are told what to make: 12 tokens of a text or, in training and for `continuation`, of
music, in a space that both share; then, if there is a `Request.reference`, those of its melody, 24 for each of its
pieces of 4 s. A request's `audio` is what the music goes on from.

Nothing was published but the paper. Its joint space is MuLan's; here, one that comes with the weights, or that of
`blocks.joint_embedding` on random ones. Its semantic tokens are of w2v-BERT; here units of random projection
(`blocks.random_units`). `Sampling.temperature` multiplies those of the paper: 1.0, 0.95 and 0.4. Beyond 30 s, where the
paper has strides of 15 s, the stages just go on. The log-likelihood is that of the semantic tokens, told nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from codecbench.audio import Clip
from codecbench.models.audiolm import AudioLM, Size
from codecbench.models.base import Card, OperatingPoint, Request, Stream

if TYPE_CHECKING:
    from torch import Tensor, nn

    from codecbench.models.blocks.audiolm import AudioLMShape

TOLD, MELODY = (12, 1024), (24, 512)
"""Codebooks and entries of what the model is told, and of melodies."""


class MusicLM(AudioLM):
    """MusicLM, with 0.43 G parameters a stage in the paper's size."""

    card = Card(
        name="musiclm", kind="lm", family="MusicLM", track="official", sample_rate=24_000, channels=1,
        points=(OperatingPoint("6kbps", 6.0, 12),), streams=(Stream(1024, 50),) * 12, tasks=("music", "continuation"),
        unpublished=True, training_data=("280 000 h of music (Google)",), paper="arXiv:2301.11325",
    )  # fmt: skip
    size = Size(
        layers=24, unit_hop=960, strides=(3, 4, 5, 8), temperatures=(1.0, 0.95, 0.4), deduplicated=False
    )  # fmt: skip

    @classmethod
    def build(cls, seed: int) -> nn.ModuleDict:
        """The networks with random weights from `seed`; torch's own random state is left as it was."""
        import torch

        from codecbench.models.blocks import joint_embedding

        networks = super().build(seed)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            told = joint_embedding.JointEmbedder(cls.card.sample_rate or 0, *TOLD, *MELODY)
        joint_embedding.enliven(told, seed)
        networks["told"] = told
        return networks

    @classmethod
    def shape(cls) -> AudioLMShape:
        """The stages' shape."""
        from codecbench.models.blocks.vocabulary import Range

        return replace(super().shape(), given=(Range("told", TOLD[1], TOLD[0]), Range("melody", MELODY[1], MELODY[0])))

    @classmethod
    def tokeniser(cls, seed: int) -> nn.Module:
        """Semantic tokens: takes samples ``[T]``, gives units ``[F]``."""
        from codecbench.models.blocks.random_units import RandomProjectionUnits

        return RandomProjectionUnits(cls.size.units, cls.card.sample_rate or 0, cls.size.unit_hop, seed)

    @classmethod
    def reach(cls) -> int:
        """Samples of the shortest clip that has a semantic token."""
        return cls.size.unit_hop

    def told(self, request: Request) -> Mapping[str, Tensor]:
        """Tokens of the text or else of the music, and of the melody if there is one."""
        import torch

        embedder, found = self.networks["told"], {}
        with torch.inference_mode():
            if request.text and request.text.strip():
                found["told"] = embedder.text(request.text)
            elif request.audio is not None:
                found["told"] = embedder.audio(self._samples(request.audio))
            if request.reference is not None:
                found["melody"] = embedder.melody(self._samples(request.reference))
        return found

    def _samples(self, clip: Clip) -> Tensor:
        import torch

        return torch.tensor(clip.samples[0], device=self._device)


SYSTEMS = (MusicLM,)
