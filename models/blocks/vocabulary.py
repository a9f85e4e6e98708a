"""Text, semantic and acoustic tokens, tasks and languages as ids of one vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Range:
    """Ids of one kind: `size` of each of its `codebooks`, which follow each other as the codebooks of a frame do."""

    name: str
    size: int
    codebooks: int = 1


@dataclass(frozen=True)
class Vocabulary:
    """Named ranges of ids, one after another from 0: codebook k of a range starts k times its size after the range.

    Attributes:
        ranges: In the order of their ids.
        follows: What may come after a range, once its frame is complete: names, its own too if it may go on.
    """

    ranges: tuple[Range, ...]
    follows: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [part.name for part in self.ranges]
        if len(set(names)) != len(names) or any(part.size < 1 or part.codebooks < 1 for part in self.ranges):
            raise ValueError("ranges have names of their own, and at least one codebook and one id")
        unknown = {*self.follows, *(name for after in self.follows.values() for name in after)} - set(names)
        if unknown:
            raise ValueError(f"no range is called {', '.join(sorted(unknown))}")

    @property
    def size(self) -> int:
        """``N``, the number of ids."""
        return sum(part.size * part.codebooks for part in self.ranges)

    def part(self, name: str) -> tuple[Range, int]:
        """The range called `name`, and its first id; KeyError if there is none."""
        start = 0
        for part in self.ranges:
            if part.name == name:
                return part, start
            start += part.size * part.codebooks
        raise KeyError(name)

    def ids(self, name: str, codes: Tensor) -> Tensor:
        """Ids ``[..., K, F]`` of the `codes` ``[..., K, F]`` of the first K codebooks of a range.

        Raises:
            ValueError: There are more codebooks than the range has, or a code is outside its codebook.
        """
        part, start = self.part(name)
        if codes.shape[-2] > part.codebooks:
            raise ValueError(f"'{name}' has {part.codebooks} codebooks, not {codes.shape[-2]}")
        if bool(((codes < 0) | (codes >= part.size)).any()):
            raise ValueError(f"a code of '{name}' is outside [0, {part.size})")
        return codes + start + part.size * torch.arange(codes.shape[-2], device=codes.device)[:, None]

    def codes(self, name: str, ids: Tensor) -> Tensor:
        """Codes ``[..., K, F]`` of `ids` ``[..., K, F]``: the inverse of `ids`; it refuses other ids."""
        part, start = self.part(name)
        codes = ids - start - part.size * torch.arange(ids.shape[-2], device=ids.device)[:, None]
        self.ids(name, codes)
        return codes

    def where(self, token: int) -> tuple[str, int, int]:
        """Range, codebook and code of the id `token`; ValueError if there is no such id."""
        start = 0
        for part in self.ranges:
            if 0 <= token - start < part.size * part.codebooks:
                return part.name, *divmod(token - start, part.size)
            start += part.size * part.codebooks
        raise ValueError(f"the id {token} is outside [0, {start})")

    def mask(self, name: str, codebook: int = 0) -> Tensor:
        """Booleans ``[N]``: the ids of a `codebook` of the range `name`."""
        part, start = self.part(name)
        if not 0 <= codebook < part.codebooks:
            raise ValueError(f"'{name}' has no codebook {codebook}; it has {part.codebooks}")
        mask = torch.zeros(self.size, dtype=torch.bool)
        mask[start + codebook * part.size : start + (codebook + 1) * part.size] = True
        return mask

    def allowed(self, previous: int) -> Tensor:
        """Booleans ``[N]``: the ids that may follow the id `previous` in the flat pattern.

        Within a frame that is its next codebook; after its last one, the first codebook of whatever `follows`.
        """
        name, codebook, _ = self.where(previous)
        if codebook + 1 < self.part(name)[0].codebooks:
            return self.mask(name, codebook + 1)
        masks = [self.mask(after) for after in self.follows.get(name, ())]
        return torch.stack(masks).any(dim=0) if masks else torch.zeros(self.size, dtype=torch.bool)
