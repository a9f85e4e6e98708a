"""SpeechGen (arXiv:2306.02207): speech from speech, by prompts of a language model of units that stays as it is.

Unit mBART hears 1000 units of a multilingual HuBERT without repetitions, and tells others until its token for the end;
a vocoder predicts their durations and speaks them. One prompt is learnt for each task: to go on from speech, or to
translate it to English. Each is two, of the encoder and of the decoder, at the input and in every layer.

Neither code nor prompts were published: what the paper leaves open is settled as in SpeechPrompt's code, and the
decoder begins with the end, as fairseq's do. ``--weights FOLDER`` names a folder with ``unit_mBART.pt`` (and its
``dict.txt``, if its units are not in order), the files of ``speech_resynthesis_mhubert1000`` unless they are in the
cache, and a prompt a task, ``continuation.pt`` and ``s2st.pt``: the states of a list of two
`blocks.unit_mbart.SidePrompt`. A task without a file cannot be asked for. Likelihoods are those of a clip's units where
the encoder hears nothing and no prompt stands before them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from codecbench import weights
from codecbench.audio import Clip
from codecbench.errors import InvalidSystem
from codecbench.models import unit_files
from codecbench.models.base import Card, Likelihood, LoadOptions, Request, Response, Sampling, SpeechLM, Stream, Task
from codecbench.models.gslm import END, SPECIAL, symbols
from codecbench.models.limits import check_clip, check_request, check_sampling
from codecbench.models.speech_resynthesis import Mhubert1000

if TYPE_CHECKING:
    from torch import Tensor

    from codecbench.models.blocks.unit_mbart import SidePrompt, UnitMBart
    from codecbench.models.blocks.unit_vocoder import UnitVocoder
    from codecbench.models.blocks.units import Tokeniser

UNITS, RATE = 1000, 50
STREAM = Stream(UNITS, RATE)
TASKS: tuple[Task, ...] = ("continuation", "s2st")
LANGUAGES = ("en",)
Prompts = Mapping[Task, "Sequence[SidePrompt]"]


class SpeechGen(SpeechLM):
    """SpeechGen on unit mBART."""

    card = Card(
        name="speechgen", kind="lm", family="SpeechGen", track="official", sample_rate=16_000, channels=1,
        points=(unit_files.point(STREAM),), streams=(STREAM,), tasks=TASKS, unpublished=True, paper="arXiv:2306.02207",
        training_data=("VoxPopuli (unlabelled English, Spanish and French)", "LJSpeech", "the task's own"),
    )  # fmt: skip
    size: ClassVar[Mapping[str, Any]] = {}
    """Of mBART, as of `blocks.unit_mbart.MBartShape`."""
    features: ClassVar[Mapping[str, Any]] = Mhubert1000.features
    """Of HuBERT, as of `blocks.units.Features`."""
    vocoder_shape: ClassVar[Mapping[str, Any]] = {"duration": (128, 3)}
    """Of the vocoder on random weights, as of `blocks.unit_vocoder.UnitVocoderShape`."""
    length: ClassVar[int] = 200
    """Steps of a prompt on random weights."""
    use_cache = True
    """False computes all steps anew for each: the same, and slower."""

    def __init__(
        self, lm: UnitMBart, tokeniser: Tokeniser, vocoder: UnitVocoder, ids: Sequence[int], prompts: Prompts,
        device: str,
    ) -> None:  # fmt: skip
        import torch

        from codecbench.models.blocks.inference import ready

        sides = [side for both in prompts.values() for side in both]
        self._parameters = sum(p.numel() for part in (lm, tokeniser, vocoder, *sides) for p in part.parameters())
        self.lm = lm.requires_grad_(False).eval().to(device)
        self._tokeniser = tokeniser.requires_grad_(False).eval().to(device)
        self._vocoder, self._device = ready(vocoder, device), device
        self._prompts = {
            task: [side.requires_grad_(False).to(device) for side in both] for task, both in prompts.items()
        }
        self._ids = torch.tensor(ids, device=device)
        self._unit_of = torch.zeros(lm.shape.vocabulary, dtype=torch.long, device=device)
        self._unit_of[self._ids] = torch.arange(UNITS, device=device)
        self._allowed = torch.zeros(lm.shape.vocabulary, dtype=torch.bool, device=device)
        self._allowed[self._ids] = True
        self._allowed[END] = True

    @classmethod
    def load(cls, options: LoadOptions) -> SpeechGen:
        """Load prompts and the files of what they are for, or random weights."""
        import torch

        from codecbench.models.blocks.unit_lm import enliven
        from codecbench.models.blocks.unit_mbart import MBartShape, SidePrompt, UnitMBart

        if (seed := options.random_seed) is not None:
            parts = unit_files.random_parts(cls.features, UNITS, cls.vocoder_shape, seed)
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                net = MBartShape(SPECIAL + UNITS, **cls.size)
                lm = UnitMBart(net)
                sizes = cls.length, net.dimension, net.layers
                prompts = {task: [SidePrompt(*sizes), SidePrompt(*sizes)] for task in TASKS}
            enliven(lm)
            return cls(lm, *parts, range(SPECIAL, SPECIAL + UNITS), prompts, options.device)
        return cls.read(weights.unpublished(cls.card.name, options.weights), options.device)

    @classmethod
    def read(cls, folder: Path, device: str) -> SpeechGen:
        """The model of the files in `folder`.

        Raises:
            InvalidSystem: One is missing or damaged, or is another model's.
        """
        from codecbench.models.blocks import unit_mbart
        from codecbench.models.inert import read_fairseq

        paths = []
        for file in Mhubert1000.card.weights:
            given = folder / file.name
            paths.append(weights.resolve(Mhubert1000.card.name, file, given if given.exists() else None))
        checkpoint = folder / "unit_mBART.pt"
        state, lines = read_fairseq(checkpoint)
        own = unit_mbart.own_names(state)
        try:
            ids = symbols(lines or [str(unit) for unit in range(UNITS)], UNITS).units
            lm = unit_mbart.UnitMBart(unit_mbart.MBartShape(len(own["embedding.weight"]), **cls.size))
        except (KeyError, ValueError) as error:
            raise InvalidSystem(f"{checkpoint} is no mBART of units: {error}") from error
        weights.load_state(lm, own, checkpoint)
        prompts = {task: read_prompts(folder / f"{task}.pt") for task in TASKS if (folder / f"{task}.pt").is_file()}
        if not prompts:
            raise InvalidSystem(f"{folder} holds no prompt: neither continuation.pt nor s2st.pt")
        return cls(lm, *Mhubert1000.read(paths), ids, prompts, device)

    def parameters(self) -> int:
        """Number of learnt parameters of all networks and prompts, without the k-means codebook."""
        return self._parameters

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Response]:
        """Speech that goes on from each request's audio, or says it in English."""
        check_sampling(sampling)
        for request in requests:
            check_request(self.card, request, frame=self._tokeniser.net.reach, languages=LANGUAGES)
            if request.task not in self._prompts:
                raise ValueError(
                    f"there is no prompt for the task '{request.task}'; there is {', '.join(self._prompts)}"
                )
        from codecbench.models.blocks.sampling import drawer

        draw = drawer(requests, sampling)
        frames = int(sampling.max_seconds * RATE + 1e-6)
        return [
            self._respond(request, frames, lambda logits, b=b: draw(b, logits)) for b, request in enumerate(requests)
        ]

    def loglikelihood(self, items: Sequence[Clip]) -> list[Likelihood]:
        """Log-likelihood of each clip's units without repetitions, by the decoder alone."""
        for clip in items:
            check_clip(self.card, clip, self._tokeniser.net.reach)
        return [self._score(clip) for clip in items]

    def encode(self, clip: Clip) -> Tensor:
        """Tokens ``[N]`` of a clip, without repetitions."""
        import torch

        from codecbench.models.blocks.units import deduplicate

        with torch.inference_mode():
            units = self._tokeniser(torch.tensor(clip.samples[0], device=self._device))
            return self._ids[deduplicate(units)[0]]

    def decode(self, units: Tensor) -> Clip:
        """What `units` ``[N]`` sound like."""
        import torch

        rate = self.card.sample_rate or 0
        if not len(units):
            return Clip(np.zeros((1, 0), np.float32), rate)
        with torch.inference_mode():
            samples = self._vocoder(units.repeat_interleave(self._vocoder.durations(units)))
        return Clip(np.ascontiguousarray(samples[None].cpu().numpy()), rate)

    def _respond(self, request: Request, frames: int, draw: Any) -> Response:
        import torch

        from codecbench.models.blocks.unit_mbart import tell

        heard = self._closed(self.encode(request.audio) if request.audio else None)
        longest = self.lm.shape.longest
        if len(heard) > longest:
            raise ValueError(f"the audio has {len(heard) - 1} units; {self.card.name} hears {longest - 1}")
        found = tell(
            self.lm, heard, min(frames, longest), self._prompts[request.task], end=END, allowed=self._allowed,
            draw=draw, use_cache=self.use_cache,
        )  # fmt: skip
        ended = found[-1:] == [END]
        units = self._unit_of[torch.tensor(found[:-1] if ended else found, dtype=torch.long, device=self._device)]
        whole, hop = self.decode(units), self._tokeniser.net.hop
        return Response(
            Clip(whole.samples[:, : frames * hop].copy(), whole.sample_rate), tokens=len(found), ended=ended
        )

    def _closed(self, tokens: Tensor | None) -> Tensor:
        """`tokens` and the end; the end alone for none."""
        import torch

        end = torch.tensor([END], device=self._device)
        return end if tokens is None else torch.cat([tokens, end])

    def _score(self, clip: Clip) -> Likelihood:
        import torch

        tokens, longest = self.encode(clip), self.lm.shape.longest
        nats = 0.0
        with torch.inference_mode():
            memory = self.lm.hear(self._closed(None)[None])
            for start in range(0, len(tokens), longest):
                own = tokens[start : start + longest]
                logits = self.lm(torch.cat([self._closed(None), own[:-1]])[None], memory)[0].log_softmax(dim=-1)
                nats += float(logits.gather(-1, own[:, None]).double().sum())
        return Likelihood(nats, len(tokens), clip.duration)


def read_prompts(path: Path) -> list[SidePrompt]:
    """The prompts of encoder and decoder in a file.

    Raises:
        InvalidSystem: It is damaged, or holds something else.
    """
    from codecbench.models.blocks.unit_mbart import SidePrompt

    found = []
    state = weights.read_state_dict(path)
    for side in ("0.", "1."):
        own = {name.removeprefix(side): tensor for name, tensor in state.items() if name.startswith(side)}
        if not {"inputs", "keys"} <= own.keys():
            raise InvalidSystem(f"{path} holds no prompts of an encoder and a decoder")
        length, dimension = own["inputs"].shape
        prompt = SidePrompt(length, dimension, len(own["keys"]))
        weights.load_state(prompt, own, path)
        found.append(prompt)
    return found


SYSTEMS = (SpeechGen,)
