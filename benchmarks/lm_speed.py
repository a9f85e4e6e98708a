r"""A step of our language models beside `transformers`, with a cache and without, alone and in a batch.

Both hold the same random weights in one process, and take turns, step by step or answer by answer; medians count. The
processor's time is what other programs on the machine disturb least; the wall's stands beside it.

- *Step*: one more step of MusicGen's Transformer, when so many seconds of audio are in the cache; ours and that of
  `MusicgenForCausalLM`, whose cache is its default.
- *Answer*: everything that `generate` does to a step on average: the Transformer, guidance and drawing.
- *Cache*: seconds of processor for an answer of so many seconds, with the cache and without.
- *Batch*: so many requests answered in one call, and one after another.

    pip install transformers
    OMP_NUM_THREADS=1 python benchmarks/lm_speed.py --shape 1024 24 16
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from codecbench import tolerant_torchaudio
from codecbench.models.base import Request, Sampling
from codecbench.models.blocks import codebook_generation, codebook_lm, patterns
from codecbench.models.blocks.codebook_lm import CodebookLM, CodebookLMShape
from codecbench.models.blocks.inference_lm import ready_lm
from codecbench.models.blocks.sampling import drawer

CODEBOOKS, SIZE, RATE, WORDS = 4, 2048, 50, 12
Times = tuple[float, float]
"""Seconds of the processor and of the wall."""


def pair(dimension: int, layers: int, heads: int, *, compiled: bool) -> tuple[CodebookLM, Any]:
    """Our network and that of `transformers`, on the same weights."""
    tolerant_torchaudio.load()  # `transformers` imports it plainly
    from transformers import MusicgenDecoderConfig, MusicgenForCausalLM

    config = MusicgenDecoderConfig(
        hidden_size=dimension, num_hidden_layers=layers, num_attention_heads=heads, ffn_dim=4 * dimension,
        num_codebooks=CODEBOOKS, vocab_size=SIZE, max_position_embeddings=2048,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = MusicgenForCausalLM(config).eval().requires_grad_(False)
    shape = CodebookLMShape(codebook_lm.musicgen(dimension, layers, heads), CODEBOOKS, SIZE, dimension)
    ours = CodebookLM(shape)
    state = codebook_lm.from_transformers(dict(theirs.state_dict()))
    ours.load_state_dict(state | {"text.weight": torch.eye(dimension), "text.bias": torch.zeros(dimension)})
    return ready_lm(ours, "cpu", compiled=compiled, rows=4), theirs


def clocked(action: Callable[[], object]) -> Times:
    """How long `action` takes."""
    processor, wall = time.process_time(), time.perf_counter()
    action()
    return time.process_time() - processor, time.perf_counter() - wall


def in_turns(actions: Sequence[Callable[[], object]], repeats: int) -> list[Times]:
    """The medians of each of `actions`, which take turns."""
    found: list[list[Times]] = [[] for _ in actions]
    for turn in range(repeats + 1):  # the first is to warm up
        for action, times in zip(actions, found, strict=True):
            measured = clocked(action)
            times += [measured] if turn else []
    clocks = [zip(*times, strict=True) for times in found]
    return [(statistics.median(processor), statistics.median(wall)) for processor, wall in clocks]


def our_steps(network: CodebookLM, batch: int, text: Tensor, codes: Tensor) -> Iterator[Tensor]:
    """Logits of one step after another, after `codes` ``[B, K, F]``."""
    memory = network.listen(list(text))
    cache = network.backbone.cache(batch, codes.shape[2] + 200)
    logits = network(codes, cache=cache, memory=memory)
    while True:
        yield logits[:, :, -1]
        logits = network(logits[:, :, -1:].argmax(dim=-1), cache=cache, memory=memory)


def their_steps(network: Any, text: Tensor, codes: Tensor) -> Iterator[Tensor]:
    """As `our_steps`, by `transformers`."""
    told = {"encoder_hidden_states": text, "use_cache": True}
    out = network(input_ids=codes.flatten(0, 1), **told)
    while True:
        logits = out.logits[:, -1].view(-1, CODEBOOKS, SIZE)
        yield logits
        latest = logits.argmax(dim=-1).view(-1, 1)
        out = network(input_ids=latest, past_key_values=out.past_key_values, **told)


def their_answer(network: Any, text: Tensor, frames: int, sampling: Sampling) -> Callable[[], object]:
    """An answer of `frames` by `transformers`."""
    rows = torch.full((CODEBOOKS * len(text), 1), SIZE)
    if sampling.guidance != 1:
        text = torch.cat([text, torch.zeros_like(text)])
    return lambda: network.generate(
        inputs=rows, encoder_hidden_states=text, encoder_attention_mask=torch.ones(text.shape[:2], dtype=torch.long),
        do_sample=True, top_k=sampling.top_k, guidance_scale=sampling.guidance if sampling.guidance != 1 else None,
        max_length=frames + CODEBOOKS, num_return_sequences=1,
        pad_token_id=SIZE, bos_token_id=SIZE, decoder_start_token_id=SIZE,
    )  # fmt: skip


def our_answer(
    network: CodebookLM, text: Tensor, frames: int, sampling: Sampling, *, use_cache: bool = True
) -> Callable[[], object]:
    """An answer of `frames` by ours to each of `text` ``[B, M, C]``."""
    draw = drawer([Request("music", text=str(b)) for b in range(len(text))], sampling)
    nothing = torch.zeros(CODEBOOKS, 0, dtype=torch.long)
    return lambda: codebook_generation.generate(
        network, [nothing] * len(text), list(text), frames, layout=lambda count: patterns.delay(CODEBOOKS, count),
        draw=draw, guidance=sampling.guidance, use_cache=use_cache,
    )  # fmt: skip


def versus(what: str, times: Sequence[Times], per: int = 1) -> str:
    """A row: milliseconds of ours and theirs, processor and wall, and how many times as fast ours is."""
    ours, theirs = times
    cells = [f"{1000 * seconds / per:.1f}" for seconds in (ours[0], theirs[0], ours[1], theirs[1])]
    return f"| {what} | {cells[0]} | {cells[1]} | {theirs[0] / ours[0]:.2f} | {cells[2]} | {cells[3]} |"


@torch.inference_mode()
def main() -> None:
    """Measure, and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(1024, 24, 16), help="dimension, layers, heads")
    parser.add_argument("--seconds", type=float, nargs="*", default=(0.0, 20.0), help="of audio in the cache")
    parser.add_argument("--steps", type=int, default=20, help="of each on the clock")
    parser.add_argument("--answer", type=float, default=2.0, help="seconds of an answer; 0 to leave it out")
    parser.add_argument(
        "--uncached", type=float, default=0.0, help="seconds of an answer without a cache; 0: leave out"
    )
    parser.add_argument("--batch", type=int, default=0, help="requests in one call; 0 to leave it out")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--repeats", type=int, default=3, help="of answers")
    asked = parser.parse_args()
    ours, theirs = pair(*asked.shape, compiled=asked.compile)
    size = sum(p.numel() for p in theirs.parameters()) / 1e6
    where = (
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads; torch {torch.__version__}"
    )
    print(f"{size:.0f} M parameters (dimension, layers, heads: {asked.shape}); {where}\n")
    print("| | ours, ms of processor | theirs | times as fast | ours, ms of wall | theirs |\n|---|--:|--:|--:|--:|--:|")
    text = torch.randn(1, WORDS, asked.shape[0])
    for rows in (1, 2):
        for seconds in asked.seconds:
            codes = torch.randint(0, SIZE, (rows, CODEBOOKS, 1 + int(seconds * RATE)))
            both = text.repeat(rows, 1, 1)
            pairs = our_steps(ours, rows, both, codes), their_steps(theirs, both, codes)
            far = float((next(pairs[0]) - next(pairs[1])).abs().max())
            times = in_turns([lambda steps=steps: next(steps) for steps in pairs], asked.steps)  # type: ignore[misc]
            print(versus(f"step after {seconds:g} s, batch {rows} (logits within {far:.0e})", times), flush=True)
    frames = int(asked.answer * RATE)
    for guidance in (1.0, 3.0) if frames else ():
        sampling = Sampling(top_k=250, guidance=guidance)
        actions = our_answer(ours, text, frames, sampling), their_answer(theirs, text, frames, sampling)
        times = in_turns(actions, asked.repeats)
        what = f"step of an answer of {asked.answer:g} s, guidance {guidance:g}"
        print(versus(what, times, per=frames + CODEBOOKS - 1), flush=True)
    sampling = Sampling(top_k=250, guidance=3.0)
    if frames := int(asked.uncached * RATE):
        ways = [our_answer(ours, text, frames, sampling, use_cache=kept) for kept in (True, False)]
        compared(f"{asked.uncached:g} s of audio", "with the cache", "without", *map(clocked, ways))
    if asked.batch:
        texts, frames = torch.randn(asked.batch, WORDS, asked.shape[0]), int((asked.answer or 2.0) * RATE)
        singly = [our_answer(ours, own[None], frames, sampling) for own in texts]
        ways = [our_answer(ours, texts, frames, sampling), lambda: [one() for one in singly]]
        compared(f"{asked.batch} requests", "in one call", "one after another", *in_turns(ways, asked.repeats))


def compared(what: str, here: str, there: str, a: Times, b: Times) -> None:
    """A line on two ways to do one thing."""
    print(f"\n{what}: {a[0]:.2f} s of processor {here}, {b[0]:.2f} s {there}: {b[0] / a[0]:.1f} times", flush=True)


if __name__ == "__main__":
    main()
