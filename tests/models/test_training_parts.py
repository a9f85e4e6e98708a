"""Codebooks that learn, quantiser dropout, losses and the balancer, by hand and by their properties."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from codecbench.models.blocks.factorised import ResidualFactorisedVQ
from codecbench.models.blocks.grouped import GroupedResidualVQ
from codecbench.models.blocks.learning import MovingAverage, Quantised
from codecbench.models.blocks.quantise import EuclideanCodebook, ResidualVQ
from codecbench.models.training import losses, mel
from codecbench.models.training.balancer import Balancer
from codecbench.models.training.discriminators import Jury, Verdict
from codecbench.models.training.discriminators_spectral import (
    MultiBandSTFT,
    MultiResolution,
    MultiScaleSTFT,
    ResidualSTFT,
)  # fmt: skip
from codecbench.models.training.discriminators_wave import MultiPeriod, MultiScale, audiodec, hifigan, melgan
from codecbench.models.training.dropout import QuantiserDropout


def codebook(entries: list[list[float]], rule: MovingAverage) -> EuclideanCodebook:
    book = EuclideanCodebook(len(entries), len(entries[0]))
    book.embed.copy_(torch.tensor(entries))
    book.learn(rule)
    return book.train()


def hear(book: EuclideanCodebook, *vectors: list[float]) -> Tensor:
    codes: Tensor = book(torch.tensor([vectors]), torch.tensor([True]))[0]
    return codes


def test_moving_averages_equal_those_by_hand() -> None:
    book = codebook([[0.0, 0.0], [10.0, 0.0]], MovingAverage(decay=0.9, kmeans=0, dead_below=0, epsilon=0))
    codes = hear(book, [1.0, 0.0], [0.0, 1.0], [9.0, 0.0])
    assert codes.tolist() == [[0, 0, 1]]
    # Counts 0.9 · 1 + 0.1 · 2 and 0.9 · 1 + 0.1 · 1, sums 0.1 · (1, 1) and 0.9 · (10, 0) + 0.1 · (9, 0).
    torch.testing.assert_close(book.embed, torch.tensor([[0.1 / 1.1, 0.1 / 1.1], [9.9, 0.0]]))


def test_smoothing_keeps_the_total_count() -> None:
    book = codebook([[1.0], [5.0]], MovingAverage(decay=0.0, kmeans=0, dead_below=0, epsilon=0.5))
    hear(book, [1.0], [1.0], [1.0], [5.0])
    # Counts 3 and 1 become 3.5 / 5 · 4 and 1.5 / 5 · 4.
    torch.testing.assert_close(book.embed, torch.tensor([[3 / 2.8], [5 / 1.2]]))


@pytest.mark.parametrize("mode", ["eval", "unused"])
def test_codebooks_learn_only_in_training_and_from_examples_that_use_them(mode: str) -> None:
    book = codebook([[0.0], [1.0]], MovingAverage(kmeans=0))
    before = book.embed.clone()
    if mode == "eval":
        book.eval()
        hear(book, [0.4], [3.0])
        assert torch.equal(book.embed, before)
    else:
        x = torch.tensor([[[0.4]], [[100.0]]])
        book(x, torch.tensor([True, False]))
        assert float(book.embed.max()) < 2


def test_dead_entries_are_replaced_by_vectors_of_the_batch() -> None:
    torch.manual_seed(0)
    book = codebook([[0.0], [1e6], [2e6]], MovingAverage(decay=0.5, kmeans=0, dead_below=0.6, epsilon=0))
    batch = [[0.1], [0.2], [0.3], [0.4]]
    hear(book, *batch)
    assert book.averages is not None
    assert any(torch.isclose(book.embed[1], torch.tensor(value)).item() for value in batch)
    assert any(torch.isclose(book.embed[2], torch.tensor(value)).item() for value in batch)
    # A replaced entry has the count of an average one, 4 / 3, and so is not replaced in the next batch.
    torch.testing.assert_close(book.averages.counts, torch.tensor([2.5, 4 / 3, 4 / 3]))


def test_living_entries_stay() -> None:
    book = codebook([[0.0], [1.0]], MovingAverage(decay=0.5, kmeans=0, dead_below=1.0, epsilon=0))
    hear(book, [0.0], [0.0], [1.0], [1.0])
    torch.testing.assert_close(book.embed, torch.tensor([[0.0], [1.0]]))


def test_kmeans_starts_the_codebook_once_and_finds_clusters() -> None:
    torch.manual_seed(1)
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    x = (centres.repeat(50, 1) + 0.1 * torch.randn(200, 2))[None]
    # Lloyd's algorithm may merge clusters from an unlucky start; four entries a cluster do not all miss one.
    book = codebook([[0.0, 0.0]] * 16, MovingAverage(kmeans=20, dead_below=0))
    book(x, torch.tensor([True]))
    assert torch.cdist(centres, book.embed).min(dim=1).values.max() < 0.5
    started = book.embed.clone()
    book(x + 100, torch.tensor([True]))
    assert (book.embed - started).abs().max() < 60  # averaged, not started anew


def quantisers() -> list[Callable[[], nn.Module]]:
    def euclidean() -> nn.Module:
        module = ResidualVQ(4, 16, 8)
        module.learn(MovingAverage(kmeans=5, dead_below=0.01))
        return module

    def by_gradient() -> nn.Module:
        module = ResidualVQ(4, 16, 8)
        module.learn(None)
        for layer in module.layers:
            nn.init.normal_(layer.embed)
        return module

    def grouped() -> nn.Module:
        module = GroupedResidualVQ(2, 2, 16, 8)
        module.learn(MovingAverage(kmeans=5, dead_below=0.01))
        return module

    return [euclidean, by_gradient, grouped]


@pytest.mark.parametrize("make", quantisers())
def test_straight_through_gradient_is_the_identity(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    module, x = make(), torch.randn(3, 8, 20, requires_grad=True)
    weights = torch.randn(3, 8, 20)
    result: Quantised = module(x, torch.tensor([4, 2, 4]))
    assert not torch.allclose(result.frames, x)
    (gradient,) = torch.autograd.grad((weights * result.frames).sum(), x)
    torch.testing.assert_close(gradient, weights)


@pytest.mark.parametrize("make", [*quantisers(), lambda: ResidualFactorisedVQ(4, 16, 8, 4)])
@pytest.mark.parametrize("paths", [1, 3])
def test_training_and_inference_agree(make: Callable[[], nn.Module], paths: int) -> None:
    torch.manual_seed(0)
    module, x = make(), torch.randn(3, 8, 20)
    module(x)
    module.eval()
    module.paths = paths  # type: ignore[assignment]
    result = module(x)
    codes = module.encode(x)  # type: ignore[operator]
    assert torch.equal(result.codes, codes)
    torch.testing.assert_close(result.frames, module.decode(codes))  # type: ignore[operator]
    fewer = module(x, torch.full((3,), 2))
    assert fewer.codes.shape[1] == 2


def test_each_example_gets_the_frames_of_its_own_codebooks() -> None:
    torch.manual_seed(0)
    for module in (quantisers()[0](), ResidualFactorisedVQ(4, 16, 8, 4)):
        x = torch.randn(3, 8, 20)
        module(x)
        module.eval()
        mixed = module(x, torch.tensor([1, 4, 2])).frames
        for i, count in enumerate((1, 4, 2)):
            torch.testing.assert_close(mixed[i], module(x, torch.full((3,), count)).frames[i])


@torch.no_grad()
def test_factorised_codebooks_start_where_the_nearest_direction_is_the_nearest_point() -> None:
    torch.manual_seed(0)
    frames = 1 + torch.randn(1, 24, 4000) * torch.linspace(2, 0.2, 24)[:, None]
    module = ResidualFactorisedVQ(4, 64, 24, 8)
    module.start(frames)
    first, before = module.layers[0], frames.var(-1).sum()
    points = first.in_proj(frames)[0].t()
    nearest = torch.cdist(points, first.codebook.weight).argmin(1)
    assert (first.encode(frames)[0][0] == nearest).float().mean() > 0.98
    for count in range(1, 5):
        left = (frames - module.decode(module.encode(frames, count))).pow(2).sum(1).mean()
        assert left < 0.8 * before
        before = left


def test_commitment_moves_the_input_and_gradient_codebooks_move_to_it() -> None:
    torch.manual_seed(0)
    module, x = quantisers()[1](), torch.randn(2, 8, 10, requires_grad=True)
    result = module(x)
    torch.testing.assert_close(result.commitment, result.codebook)
    (moved,) = torch.autograd.grad(result.commitment, x, retain_graph=True)
    assert moved.abs().sum() > 0
    (none,) = torch.autograd.grad(result.codebook, x, allow_unused=True, retain_graph=True)
    assert none is None or none.abs().sum() == 0
    result.codebook.backward()
    assert all(layer.embed.grad is not None for layer in module.layers)  # type: ignore[union-attr]


@settings(deadline=None)
@given(
    st.integers(1, 16), st.integers(1, 32), st.floats(0, 1), st.booleans(),
    st.lists(st.integers(1, 40), max_size=4), st.integers(0, 99),
)  # fmt: skip
def test_dropout_stays_within_the_codebooks(
    batch: int, codebooks: int, share: float, together: bool, choices: list[int], seed: int
) -> None:
    rule = QuantiserDropout(share, tuple(choices), together)
    numbers = rule.draw(batch, codebooks, torch.Generator().manual_seed(seed))
    assert numbers.shape == (batch,)
    assert int(numbers.min()) >= 1
    assert int(numbers.max()) <= codebooks
    drawn = int(batch * share)
    assert numbers[drawn:].eq(codebooks).all()
    if together:
        assert len(set(numbers[:drawn].tolist())) <= 1
    if choices:
        assert set(numbers[:drawn].tolist()) <= {min(choice, codebooks) for choice in choices}


def test_dropout_is_uniform() -> None:
    numbers = QuantiserDropout(1.0).draw(8000, 8, torch.Generator().manual_seed(0))
    counts = torch.bincount(numbers, minlength=9)[1:]
    assert (counts - 1000).abs().max() < 120


@given(st.floats(0.1, 10), st.floats(0.1, 10), st.floats(1e-3, 1e3))
@settings(deadline=None, max_examples=30)
def test_balancers_ratios_hold_whatever_the_scales(first: float, second: float, scale: float) -> None:
    output = torch.linspace(-1, 1, 50).view(1, 1, -1).requires_grad_()
    target = torch.zeros(1, 1, 50)
    target[..., 25:] = 1  # the two losses' gradients do not overlap
    one = scale * (output * (1 - target)).pow(2).sum()
    other = (output * target).pow(3).abs().sum()
    gradient = Balancer({"one": first, "other": second}, norm=2.0).gradient({"one": one, "other": other}, output)
    assert float(gradient[..., :25].norm()) == pytest.approx(2 * first / (first + second), rel=1e-3)
    assert float(gradient[..., 25:].norm()) == pytest.approx(2 * second / (first + second), rel=1e-3)


def test_balancer_goes_on_from_its_state() -> None:
    def step(balancer: Balancer, seed: int) -> Tensor:
        output = torch.randn(2, 1, 30, generator=torch.Generator().manual_seed(seed)).requires_grad_()
        return balancer.gradient({"a": output.abs().sum(), "b": output.exp().mean()}, output)

    whole, resumed = Balancer({"a": 1, "b": 2}), Balancer({"a": 1, "b": 2})
    step(whole, 0)
    resumed.restore(whole.state())
    assert torch.equal(step(whole, 1), step(resumed, 1))
    assert not torch.equal(step(whole, 2), step(Balancer({"a": 1, "b": 2}), 2))


def verdict(logit: float, feature: float) -> Verdict:
    return Verdict(torch.full((2, 3), float(logit)), [torch.full((2, 4), float(feature))])


def test_adversarial_losses_by_hand() -> None:
    fake, real = [verdict(0.25, 1.0)], [verdict(0.75, 4.0)]
    assert float(losses.fool(fake, "hinge")) == pytest.approx(-0.25)
    assert float(losses.fool(fake, "squares")) == pytest.approx(0.75**2)
    assert float(losses.tell_apart(fake, real, "hinge")) == pytest.approx(1.25 + 0.25)
    assert float(losses.tell_apart(fake, real, "squares")) == pytest.approx(0.25**2 + 0.25**2)
    assert float(losses.tell_apart([verdict(-2, 0)], [verdict(2, 0)], "hinge")) == 0
    assert float(losses.match_features(fake, real)) == pytest.approx(3.0)
    assert float(losses.match_features(fake, real, relative=True)) == pytest.approx(0.75)


FORMS = [mel.dac(), mel.encodec(), mel.soundstream(), mel.hifigan()]


@pytest.mark.parametrize("form", FORMS)
def test_mel_distances_are_zero_for_equals_and_have_gradients_in_silence(form: mel.MelForm) -> None:
    assert FORMS
    distance = mel.MelDistance(form, 16_000)
    x = 0.1 * torch.randn(1, 1, 4000, generator=torch.Generator().manual_seed(0))
    assert float(distance(x, x)) == 0
    far, near = float(distance(2 * x, x)), float(distance(1.1 * x, x))
    assert 0 < near < far
    silence = torch.zeros(1, 1, 4000, requires_grad=True)
    distance(silence, x).backward()
    assert silence.grad is not None
    assert silence.grad.isfinite().all()


def test_distillation_prefers_what_follows_its_target() -> None:
    target = torch.randn(2, 4, 30, generator=torch.Generator().manual_seed(0))
    assert float(losses.distil(3 * target, target)) == pytest.approx(-float(nn.functional.logsigmoid(torch.ones(()))))
    assert losses.distil(-target, target) > losses.distil(target, target)


DISCRIMINATORS: list[Callable[[], nn.Module]] = [
    lambda: MultiScaleSTFT((256, 128), width=4), lambda: MultiBandSTFT((256, 128), width=4),
    lambda: MultiResolution(width=4), lambda: ResidualSTFT(256, width=4), lambda: MultiPeriod((2, 3), width=2),
    lambda: MultiScale(hifigan(16)), lambda: MultiScale(audiodec(16)), lambda: MultiScale(melgan(4)),
    lambda: Jury(MultiPeriod((2,), width=2), MultiScaleSTFT((128,), width=4), levelled=True),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(DISCRIMINATORS)))
def test_discriminators_learn_to_tell_apart(number: int) -> None:
    assert DISCRIMINATORS
    generator = torch.Generator().manual_seed(0)
    module = DISCRIMINATORS[number]()
    optimiser = torch.optim.Adam(module.parameters(), 1e-3)
    history = []
    for _ in range(8):
        real = 0.3 * torch.sin(torch.arange(2001) * 0.3 + 6 * torch.rand(2, 1, 1, generator=generator))
        fake = 0.2 * torch.randn(2, 1, 2001, generator=generator)
        loss = losses.tell_apart(module(fake), module(real), "hinge")
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        history.append(float(loss.detach()))
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert sum(later < earlier for earlier, later in pairwise(history)) >= 5
    assert history[-1] < history[0]
