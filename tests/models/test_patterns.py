"""Token patterns: every code once, its context before it, and back; equal to the delay of transformers' MusicGen."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codecbench import tolerant_torchaudio
from codecbench.models.blocks import patterns
from codecbench.models.blocks.patterns import Context, Pattern

BUILDERS: dict[str, Callable[[int, int], Pattern]] = {
    "flat": patterns.flat,
    "parallel": patterns.parallel,
    "delay": patterns.delay,
    "delay of 3": lambda k, f: patterns.delay(k, f, [3 * i + 1 for i in range(k)]),
    "stereo delay": lambda k, f: patterns.delay(2 * k, f, [i // 2 for i in range(2 * k)]),
    "stack": patterns.stack,
    "stack-delay": patterns.stack_delay,
    "levels flat": lambda k, f: patterns.coarse_to_fine(k, f, [1] * k, ["flat"] * k),
    "levels at once": lambda k, f: patterns.coarse_to_fine(k, f, [1] * k, ["level"] * k),
    "AudioLM": lambda k, f: patterns.coarse_to_fine(3 * k, f, [k, 2 * k], ["flat", "flat"]),
    "VALL-E": lambda k, f: patterns.coarse_to_fine(1 + k, f, [1, k], ["flat", "level"]),
    "first, then parallel": lambda k, f: patterns.coarse_to_fine(1 + k, f, [1, k], ["flat", "parallel"]),
    "parallel, then levels": lambda k, f: patterns.coarse_to_fine(2 * k, f, [k, k], ["parallel", "level"]),
    "masked-parallel": lambda k, f: patterns.masked_parallel(k, f, [7] + [1] * (k - 1)),
}
EACH = pytest.mark.parametrize("build", [pytest.param(build, id=name) for name, build in BUILDERS.items()])
SIZES = given(codebooks=st.integers(1, 5), frames=st.integers(0, 40))


def promised(context: Context, codebook: int, frame: int, shape: torch.Size) -> torch.Tensor:
    """The codes that `context` says are there, one by one."""
    found = torch.zeros(shape, dtype=torch.bool)
    for k in range(shape[0]):
        for f in range(shape[1]):
            coarser, own = k < codebook, k == codebook
            before = {"none": False, "coarser": coarser, "own": coarser or own, "all": True}[context.past]
            found[k, f] = (
                (f == frame and context.coarser and coarser)
                or (f < frame and before)
                or (f > frame and context.future and coarser)
            )
    return found


def test_there_are_patterns() -> None:
    assert len(BUILDERS) == 14


@EACH
@SIZES
@settings(max_examples=15)
def test_every_code_has_one_place_and_comes_back(
    build: Callable[[int, int], Pattern], codebooks: int, frames: int
) -> None:
    pattern = build(codebooks, frames)
    k, f = pattern.at.shape
    assert {tuple(place) for place in pattern.order.tolist()} == {(i, j) for i in range(k) for j in range(f)}
    codes = torch.arange(2 * k * f).view(2, k, f)
    assert torch.equal(pattern.unflatten(pattern.flatten(codes)), codes)
    steps = pattern.at[tuple(pattern.order.T)]
    assert torch.equal(steps, steps.sort().values)
    assert not pattern.valid()[:, 0].any()
    if f:
        assert pattern.at.min() >= 1
        assert pattern.at.max() < pattern.steps
    if pattern.columns:
        packed = pattern.pack(codes, -1)
        assert packed.shape == (2, k, pattern.steps)
        assert torch.equal(packed[0] != -1, pattern.valid())
        assert torch.equal(pattern.unpack(packed), codes)
    else:
        with pytest.raises(ValueError, match="has no columns"):
            pattern.pack(codes, -1)


@EACH
@given(codebooks=st.integers(1, 4), frames=st.integers(1, 12), data=st.data())
@settings(max_examples=25)
def test_the_context_is_generated_before(
    build: Callable[[int, int], Pattern], codebooks: int, frames: int, data: st.DataObject
) -> None:
    pattern = build(codebooks, frames)
    k = data.draw(st.integers(0, pattern.at.shape[0] - 1))
    f = data.draw(st.integers(0, frames - 1))
    wanted = promised(pattern.context, k, f, pattern.at.shape)
    seen = pattern.visible(k, f)
    assert not (wanted & ~seen).any()
    assert not seen[k, f]


@pytest.mark.parametrize(
    ("pattern", "steps", "rows"),
    [
        (patterns.flat(4, 10), 40, 40),
        (patterns.parallel(4, 10), 10, 10),
        (patterns.delay(4, 10), 13, 13),
        (patterns.stack(4, 10), 40, 10),
        (patterns.stack_delay(4, 10), 13, 10),
        (patterns.coarse_to_fine(12, 10, [4, 8], ["flat", "flat"]), 120, 120),
        (patterns.coarse_to_fine(8, 10, [1, 7], ["flat", "level"]), 17, 0),
        (patterns.masked_parallel(12, 1500, [16, *[1] * 11]), 27, 0),
    ],
)
def test_steps_and_rows_of_the_cache(pattern: Pattern, steps: int, rows: int) -> None:
    assert pattern.steps - 1 == steps
    assert int(pattern.cached().sum()) == rows


def test_delay_by_hand() -> None:
    codes = torch.tensor([[1, 2, 3], [4, 5, 6]])
    assert patterns.delay(2, 3, [0, 2]).pack(codes, 9).tolist() == [[9, 1, 2, 3, 9, 9], [9, 9, 9, 4, 5, 6]]


def test_only_frames_that_are_complete_have_a_neighbour_that_starts_in_stack_delay() -> None:
    codebooks = 4
    pattern = patterns.stack_delay(codebooks, codebooks**2)
    starts = pattern.at[0]
    late = [f for f in range(1, codebooks**2) if f % codebooks]
    assert len(late) == 12
    assert all(pattern.visible(0, f)[:, f - 1].all() for f in late)
    assert (starts.diff().abs() >= codebooks - 1).all()
    own = patterns.stack_delay(2, 3, order=[2, 0, 1])
    assert own.at.tolist() == [[2, 3, 1], [3, 4, 2]]


@given(frames=st.integers(0, 2000), iterations=st.integers(1, 40))
@settings(deadline=None)
def test_the_cosine_schedule(frames: int, iterations: int) -> None:
    counts = patterns.cosine_counts(frames, iterations)
    assert len(counts) == iterations
    assert sum(counts) == frames
    assert min(counts) >= 0
    left = frames
    for i, count in enumerate(counts, 1):
        left -= count
        assert left <= frames * math.cos(math.pi / 2 * i / iterations) + 1e-6 < left + 1 + 1e-5


def test_the_cosine_schedule_by_hand() -> None:
    assert patterns.cosine_counts(100, 3) == [14, 36, 50]
    assert patterns.cosine_counts(8, 1) == [8]


def test_masked_parallel_takes_the_order_of_the_sampler() -> None:
    order = torch.tensor([[2, 0, 1], [1, 2, 0]])
    assert patterns.masked_parallel(2, 3, [3, 1], order).at.tolist() == [[2, 3, 1], [4, 4, 4]]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("frames", [4, 9])
def test_delay_is_that_of_transformers(channels: int, frames: int) -> None:
    tolerant_torchaudio.load()  # `transformers` imports it plainly
    transformers = pytest.importorskip("transformers")
    codebooks, pad = 4 * channels, 7
    config = transformers.MusicgenDecoderConfig(
        vocab_size=7, num_hidden_layers=1, ffn_dim=8, num_attention_heads=2, hidden_size=8, num_codebooks=codebooks,
        audio_channels=channels, pad_token_id=pad, bos_token_id=pad,
    )  # fmt: skip
    model = transformers.MusicgenForCausalLM(config)
    pattern = patterns.delay(codebooks, frames, [k // channels for k in range(codebooks)])
    start = torch.full((codebooks, 1), pad)
    _, mask = model.build_delay_pattern_mask(start, pad_token_id=pad, max_length=pattern.steps)
    assert torch.equal(mask == -1, pattern.valid())
    codes = torch.randint(0, pad, (codebooks, frames), generator=torch.Generator().manual_seed(0))
    prompted = torch.cat([start, codes], dim=1)
    _, known = model.build_delay_pattern_mask(prompted, pad_token_id=pad, max_length=pattern.steps)
    assert torch.equal(known, pattern.pack(codes, pad))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: patterns.flat(0, 3), "at least 1 and 0"),
        (lambda: patterns.delay(2, 3, [1, 0]), "none below the one before"),
        (lambda: patterns.delay(2, 3, [0]), "one each"),
        (lambda: patterns.stack_delay(2, 3, [0, 1, 1]), "each of 3 frames once"),
        (lambda: patterns.coarse_to_fine(3, 3, [1, 1], ["flat", "flat"]), "do not make 3 codebooks"),
        (lambda: patterns.masked_parallel(2, 3, [1, 0]), "at least 1"),
        (lambda: patterns.masked_parallel(1, 2, [1], torch.tensor([[0, 0]])), "each frame once"),
        (lambda: patterns.flat(2, 3).pack(torch.zeros(2, 4, dtype=torch.long), 0), r"takes \[2, 3\] here"),
        (lambda: patterns.flat(2, 3).unpack(torch.zeros(2, 6, dtype=torch.long)), r"takes \[2, 7\] here"),
        (lambda: patterns.flat(2, 3).unflatten(torch.zeros(5, dtype=torch.long)), r"takes \[6\] here"),
    ],
)
def test_refusals(make: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()
