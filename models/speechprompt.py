"""SpeechPrompt (arXiv:2203.16773) and its second version (arXiv:2303.00733): GSLM made to classify, by a prompt.

The language model stays as it is; what is learnt for a task is a prompt at its input and in every layer, and the vector
of the separator after the clip's units. The first version answers with units that stand for labels. The second has a
linear layer over the vocabulary whose outputs are classes. Temperature 0 is the release's decoding. Only labels and the
end can be drawn, where the release may also draw a unit without a label.

No prompts were published. ``--weights FOLDER`` names a folder with ``prompt.pt``, in the second version's format or as
`blocks.prompts.tune` leaves it, and ``labels.json``, its ``verbalizer.json``: the unit or the number of the class for
each label. GSLM's and HuBERT's files are taken from that folder, or from the cache
(``codecbench weights get gslm_hubert100``). Likelihoods are those of GSLM, without the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from codecbench import weights
from codecbench.errors import InvalidSystem
from codecbench.models import unit_files
from codecbench.models.base import Card, LoadOptions, Request, Response, Sampling
from codecbench.models.gslm import END, GSLM, SPECIAL
from codecbench.models.unit_speech import Networks

if TYPE_CHECKING:
    from torch import Tensor

    from codecbench.models.blocks.prompts import SoftPrompt

SEPARATOR = 0
LONGEST = 16
"""Labels of an answer."""


def _card(name: str, paper: str) -> Card:
    return replace(
        GSLM.card, name=name, family="SpeechPrompt", tasks=("slu",), weights=(), weights_licence="", unpublished=True,
        streaming=False, batches=False, paper=paper,
        training_data=("Libri-Light (clean, 6 000 h)", "LibriSpeech", "the task's own"),
    )  # fmt: skip


class SpeechPrompt(GSLM):
    """The first version: labels are units."""

    card = _card("speechprompt", "arXiv:2203.16773")
    length: ClassVar[int] = 180
    """Steps of the prompt on random weights."""
    classes: ClassVar[int] = 12
    """Labels on random weights."""
    linear: ClassVar[bool] = False

    def __init__(self, networks: Networks, prompt: SoftPrompt, labels: Mapping[str, str], device: str) -> None:
        import torch

        from codecbench.models.blocks.prompts import PromptedLM

        super().__init__(networks, device)
        prompt.requires_grad_(False).eval().to(device)
        self.prompted = PromptedLM(self.lm, prompt)
        self._parameters += sum(p.numel() for p in prompt.parameters())
        of = {label: self._output(value, prompt.classes) for label, value in labels.items()}
        self._labels = {output: label for label, output in of.items()}
        self._answers = torch.zeros(SPECIAL + prompt.classes if prompt.classes else self.lm.shape.vocabulary).bool()
        self._answers[[END, *self._labels]] = True
        self._answers = self._answers.to(device)

    @classmethod
    def load(cls, options: LoadOptions) -> SpeechPrompt:
        """Load a prompt and the files of GSLM, or random weights."""
        import torch

        from codecbench.models.blocks.prompts import SoftPrompt

        if (seed := options.random_seed) is not None:
            networks = cls.build(seed)
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                shape = networks.lm.shape
                sizes = (cls.classes, shape.vocabulary) if cls.linear else ()
                prompt = SoftPrompt(cls.length, shape.backbone.dimension, shape.backbone.layers, *sizes)
            return cls(networks, prompt, {f"label {n}": str(n) for n in range(cls.classes)}, options.device)
        folder = weights.unpublished(cls.card.name, options.weights)
        paths = []
        for file in GSLM.card.weights:
            given = folder / file.name
            paths.append(weights.resolve(GSLM.card.name, file, given if given.exists() else None))
        labels = unit_files.read_json(folder / "labels.json")
        try:
            return cls(cls.read(*paths), read_prompt(folder / "prompt.pt"), labels, options.device)
        except ValueError as error:
            raise InvalidSystem(f"{folder} has labels that do not fit: {error}") from error

    def heard(self, units: Tensor) -> Tensor:
        """What the prompted model hears of `units` ``[N]``: the start, the units and the separator."""
        import torch

        tokens = self.tokens(units)
        return torch.cat([tokens, tokens.new_tensor([SEPARATOR])])

    def _answer(
        self, requests: Sequence[Request], sampling: Sampling, draw: Callable[[int, Tensor], Tensor]
    ) -> list[Response]:
        """The labels of each request's audio, likeliest or drawn, with spaces between."""
        del sampling
        return [self._label(request, partial(draw, b)) for b, request in enumerate(requests)]

    def _label(self, request: Request, draw: Callable[[Tensor], Tensor]) -> Response:
        from codecbench.models.blocks.prompts import answer

        units = self.encode(request.audio) if request.audio else None
        if units is None or len(units) + 2 + LONGEST > self.longest:
            raise ValueError(
                f"the audio has more units than the {self.longest - 2 - LONGEST} that {self.card.name} hears"
            )
        found = answer(
            self.prompted, self.heard(units), LONGEST, allowed=self._answers, draw=draw, use_cache=self.use_cache,
        )  # fmt: skip
        text = " ".join(self._labels[output] for output in found if output != END)
        return Response(text=text, tokens=len(found), ended=found[-1] == END)

    def _output(self, value: str, classes: int) -> int:
        """The token, or the output of the verbaliser, that `value` of ``labels.json`` stands for.

        Raises:
            ValueError: It is no number, or there is no such unit or class.
        """
        number, count = int(value), classes or len(self.symbols.units)
        if not 0 <= number < count:
            raise ValueError(f"a label is {number}, where there are {count}")
        return SPECIAL + number if classes else self.symbols.units[number]


class SpeechPromptV2(SpeechPrompt):
    """The second version: a linear verbaliser, and a shorter prompt."""

    card = _card("speechprompt_v2", "arXiv:2303.00733")
    length, linear = 5, True


def read_prompt(path: Path) -> SoftPrompt:
    """The prompt in a file: a checkpoint of the second version, or the state of a `blocks.prompts.SoftPrompt`.

    Raises:
        InvalidSystem: It is not there or damaged, or holds no prompt.
    """
    from codecbench.models.blocks import prompts
    from codecbench.models.inert import load_torch

    try:
        state = load_torch(path)
        if "inputs" in state:
            verbaliser = state.get("verbaliser.weight")
            sizes = (len(verbaliser) - SPECIAL, verbaliser.shape[1]) if verbaliser is not None else ()
            length, dimension = state["inputs"].shape
            prompt = prompts.SoftPrompt(length, dimension, len(state["keys"]), *sizes)
            weights.load_state(prompt, state, path)
            return prompt
        return prompts.from_released(state["model"])
    except Exception as error:  # a damaged file makes its reader raise anything
        raise InvalidSystem(f"{path} holds no prompt: {str(error).splitlines()[0] or type(error).__name__}") from error


SYSTEMS = (SpeechPrompt, SpeechPromptV2)
