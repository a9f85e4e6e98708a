"""The training loop: it learns, goes on where it was killed, and says what is wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from codecbench.audio import Audio, Clip
from codecbench.benchmark.commands.train import train as command
from codecbench.errors import CodecbenchError, InvalidSystem, UsageError
from codecbench.models import small
from codecbench.models.base import LoadOptions
from codecbench.models.training import state
from codecbench.models.training.data import Augmentation, Corpus
from codecbench.models.training.loop import Progress, train, trainable
from codecbench.models.training.objective import Objective, reconstruct
from codecbench.models.training.recipe import RECIPES, Recipe, adapted
from codecbench.models.training.trainer import Trainer, piece_length

RATE = small.SAMPLE_RATE
PLAIN = Augmentation(gain=(0.0, 0.0), speed=(1.0, 1.0), mixing=0.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, make_speech: Callable[..., Audio]) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "deep").mkdir()
    soundfile.write(folder / "one.wav", make_speech(12_000, RATE, seed=1), RATE)
    soundfile.write(folder / "deep" / "two.flac", make_speech(30_000, 24_000, seed=2), 24_000)
    stereo = np.stack([make_speech(9_000, 8_000, seed=3), make_speech(9_000, 8_000, seed=4)], axis=1)
    soundfile.write(folder / "three.wav", stereo, 8_000)
    (folder / "notes.txt").write_text("not audio")
    return folder


def tiny(codec: str, **changes: Any) -> Recipe:
    """A recipe of seconds: short pieces, small discriminators."""
    widths = {"residual_stft": 2, "melgan_scales": 4, "stft": 2}
    recipe = RECIPES[codec]
    discriminators = {name: widths[name] for name in recipe.discriminators if name in widths}
    settings: dict[str, Any] = {"steps": 20, "batch": 2, "seconds": 0.12, "warm_up": 2, "save_every": 5}
    return replace(recipe, **{**settings, "discriminators": discriminators, "adversarial_from": 0.4, **changes})


def same(one: Path, other: Path) -> None:
    first, second = load_file(one), load_file(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


KILLED = """
import os, signal, sys, torch
from pathlib import Path
torch.set_num_threads(1)
from codecbench.models.training.loop import train
from tests.models.test_training import tiny
def tell(progress):
    if progress.step == 13:
        os.kill(os.getpid(), signal.SIGKILL)
train("encodec-small", Path(sys.argv[1]), Path(sys.argv[2]), tiny("encodec-small"), tell=tell)
"""


@pytest.mark.slow
def test_a_killed_training_goes_on_as_if_nothing_had_happened(data: Path, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = train("encodec-small", data, tmp_path / "whole", tiny("encodec-small"))
        root = Path(__file__).parents[2]
        done = subprocess.run([sys.executable, "-c", KILLED, data, tmp_path / "killed"], cwd=root, check=False)
        assert done.returncode == -signal.SIGKILL
        steps = list[int]()
        resumed = train(
            "encodec-small", data, tmp_path / "killed", tiny("encodec-small"), tell=lambda p: steps.append(p.step)
        )
    finally:
        torch.set_num_threads(threads)
    assert steps == list(range(11, 21))
    same(whole, resumed)
    assert (tmp_path / "whole/losses.jsonl").read_bytes() == (tmp_path / "killed/losses.jsonl").read_bytes()
    final = [torch.load(tmp_path / name / "checkpoint.pt") for name in ("whole", "killed")]
    for part in ("network", "jury", "averages"):
        assert all(torch.equal(value, final[1][part][name]) for name, value in final[0][part].items())


def test_a_training_by_the_shipped_recipe_goes_on_from_its_checkpoint(data: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"steps": 4, "batch": 2, "seconds": 0.12, "starting_batches": 2, "quantised_from": 0.25}
    recipe = adapted(RECIPES["audiodec-small"], small.FOLDER / "recipe.yaml", **changes)
    assert recipe.optimiser == "muon"
    corpus = Corpus(data, RATE, piece_length(recipe), recipe.augmentation)

    def trainer() -> Trainer:
        return Trainer(small.SmallAudioDec, recipe, corpus, torch.device("cpu"), 0)

    whole, half, rest = trainer(), trainer(), trainer()
    losses = [whole.advance() for _ in range(4)]
    assert losses[0].keys() == {"low", "loudness", "outline", "commitment", "gradient"}
    half.advance(), half.advance()
    state.save(tmp_path, half.state())
    found = state.load(tmp_path, {})
    assert found is not None
    rest.restore(found)
    assert [rest.advance(), rest.advance()] == losses[2:]
    for name, value in rest.network.state_dict().items():
        assert torch.equal(value, whole.network.state_dict()[name]), name


@pytest.mark.parametrize("codec", [small.SmallSoundStream, small.SmallDAC])
def test_a_codec_is_trained_on_from_its_own_weights(codec: type[small.Small], data: Path, tmp_path: Path) -> None:
    name = codec.card.name
    earlier = int(small.metadata(small.FOLDER / f"{name}.safetensors")["steps"])
    changes: dict[str, Any] = {"steps": 2, "batch": 1, "seconds": 0.1, "starting_batches": 400, "quantised_from": 0.0}
    recipe = adapted(RECIPES[name], small.FOLDER / "recipe.yaml", start="itself", learning_rate=1e-9, **changes)
    path = train(name, data, tmp_path, recipe)
    facts = small.metadata(path)
    assert (int(facts["steps"]), facts["earlier_steps"]) == (earlier + 2, str(earlier))
    (now, before) = (codec.filled(LoadOptions(weights=weights)).state_dict() for weights in (path, None))
    for key in now.keys() & before.keys():
        if not key.startswith("quantiser."):  # codebooks start anew
            torch.testing.assert_close(now[key], before[key], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("codec", [small.SmallHiFiCodec, small.SmallDAC])
def test_codebooks_may_be_kept_and_searched_while_they_learn(codec: type[small.Small], data: Path) -> None:
    recipe = adapted(RECIPES[codec.card.name], small.FOLDER / "fifth.yaml", learning_rate=1e-9, seconds=0.3)
    assert (recipe.starting_batches, recipe.paths) == (0, 4)
    trainer = Trainer(codec, recipe, Corpus(data, RATE, piece_length(recipe), PLAIN), torch.device("cpu"), 0)
    before = {name: value.clone() for name, value in trainer.network.quantiser.state_dict().items()}
    trainer.advance()
    assert trainer.network.quantiser.paths == recipe.paths
    for name, value in trainer.network.quantiser.state_dict().items():
        if ".averages." not in name:
            assert (value - before[name]).norm() < 0.01 * before[name].norm(), name


def test_codebooks_forget_what_they_start_from_at_their_own_pace(data: Path) -> None:
    changes: dict[str, Any] = {"steps": 2, "batch": 2, "seconds": 0.2, "starting_batches": 60, "quantised_from": 0.0}
    recipe = adapted(RECIPES["soundstream-small"], small.FOLDER / "recipe.yaml", dropout_share=0.0, **changes)
    trainer = Trainer(small.SmallSoundStream, recipe, Corpus(data, RATE, piece_length(recipe), PLAIN),
                      torch.device("cpu"), 0)  # fmt: skip
    trainer.advance()
    for layer in trainer.network.quantiser.layers:
        assert float(layer.averages.counts.sum()) == pytest.approx(2 * 10, rel=1e-3)  # frames of one batch, not of 60


def test_another_seed_makes_another_training(data: Path, tmp_path: Path) -> None:
    losses = {}
    for seed in (0, 1):
        recipe = tiny("soundstream-small", steps=1, discriminators={})
        train("soundstream-small", data, tmp_path / str(seed), recipe, seed=seed)
        losses[seed] = json.loads((tmp_path / str(seed) / "losses.jsonl").read_text())["mel"]
    assert losses[0] != losses[1]


def test_the_loss_falls_and_the_weights_load(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    tone = 0.2 * np.sin(np.arange(RATE) * 0.1) + 0.1 * np.sin(np.arange(RATE) * 0.5)
    soundfile.write(data / "tone.wav", tone, RATE)
    recipe = tiny(
        "soundstream-small", steps=30, discriminators={}, learning_rate=2e-3, averaging=0.9, augmentation=PLAIN,
        dropout_share=0.0, save_every=1000,
    )  # fmt: skip
    told = list[Progress]()
    path = train("soundstream-small", data, tmp_path / "out", recipe, tell=told.append)
    mel = [progress.losses["mel"] for progress in told]
    assert np.mean(mel[-5:]) < 0.75 * np.mean(mel[:5])
    assert told[-1].seconds_left == 0
    assert {file.name for file in path.parent.iterdir()} >= {"checkpoint.pt", "losses.png", "losses.jsonl", path.name}
    facts = small.metadata(path)
    assert (facts["codec"], facts["steps"], facts["data"]) == ("soundstream-small", "30", data.name)
    assert small.label(facts) == f"small, trained here, 30 steps on 0 min of {data.name}"
    assert "| hardware |" in path.with_suffix(".md").read_text()
    codec = small.SmallSoundStream.load(LoadOptions(weights=path))
    clip = Clip(tone[None].astype(np.float32), RATE)
    codes = codec.encode([clip], codec.card.points[-1])
    assert codec.decode(codes)[0].shape == clip.samples.shape
    with pytest.raises(InvalidSystem, match="weights of soundstream-small, not of dac-small"):
        small.SmallDAC.load(LoadOptions(weights=path))


def test_samples_of_held_out_recordings(tmp_path: Path, make_speech: Callable[..., Audio]) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for i in range(20):
        soundfile.write(many / f"{i:02}.wav", make_speech(6_000, RATE, seed=i), RATE)
    train("soundstream-small", many, tmp_path / "out", tiny("soundstream-small", steps=2, discriminators={}))
    names = {path.name for path in (tmp_path / "out/samples").iterdir()}
    assert names == {"0-original.wav", "0-step-000002.wav", "step-000002.png"}
    last = json.loads((tmp_path / "out/losses.jsonl").read_text().splitlines()[-1])
    assert last["held-out mel"] > 0


@pytest.mark.parametrize("system", small.SYSTEMS, ids=lambda system: system.card.name)
def test_small_codecs_share_a_budget(system: type[small.Small]) -> None:
    assert len(small.FAMILIES) == 7
    assert trainable(system.card.name) is system
    codec = system.load(LoadOptions(random_seed=0))
    assert 1.44e6 <= codec.parameters() <= 1.76e6
    network: Any = system.network(0)
    assert 2 * sum(tensor.numel() for tensor in network.state_dict().values()) < 8e6
    assert system.card.points[-1].kbps == 4.0
    clip = Clip(0.1 * np.random.RandomState(0).standard_normal((1, 3_333)).astype(np.float32), RATE)
    codes = codec.encode([clip], system.card.points[-1])
    assert len(codes[0].streams) == 8
    assert codec.decode(codes)[0].shape == (1, 3_333)
    with pytest.raises(InvalidSystem, match=f"codecbench train {system.card.name} --data"):
        system.load(LoadOptions(weights=Path("nowhere.safetensors")))


@pytest.mark.slow
@pytest.mark.parametrize(
    "codec", [name for name in RECIPES if name != "encodec-small" and RECIPES[name].discriminators]
)
def test_every_recipe_makes_steps(codec: str, data: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPES[codec], steps=2, batch=1, seconds=0.2, adversarial_from=0.5, frozen_from=0.6)
    told = list[Progress]()
    path = train(codec, data, tmp_path, recipe, tell=told.append)
    assert set(recipe.weights) - {"codebook"} <= {"adversarial", "features", *told[0].losses}
    assert {"adversarial", "features", "discriminators"} <= told[-1].losses.keys()
    trainable(codec).load(LoadOptions(weights=path))


@pytest.mark.parametrize("codec", list(RECIPES))
def test_training_sees_what_decoding_gives(codec: str) -> None:
    assert RECIPES.keys() == {system.card.name for system in small.SYSTEMS}
    network: Any = trainable(codec).network(0).eval()
    x = 0.1 * torch.randn(1, 1, 10 * small.HOP, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made = reconstruct(network, x, None)
        codes = network.encode(x)
        assert torch.equal(made.quantised.codes, codes[..., : made.quantised.codes.shape[-1]])
        in_time = x.shape[-1] - getattr(network, "late", 0)
        torch.testing.assert_close(
            made.output[..., :in_time], network.decode(codes)[..., :in_time], rtol=1e-3, atol=1e-5
        )
        assert not made.output[..., in_time:].any()


def test_frozen_encoders_and_codebooks_stay(data: Path, tmp_path: Path) -> None:
    recipe = tiny("audiodec-small", steps=4, frozen_from=0.5, discriminators={"audiodec_periods": 2}, save_every=2)
    states = list[dict[str, Any]]()
    train("audiodec-small", data, tmp_path, replace(recipe, steps=4),
          tell=lambda p: states.append(torch.load(tmp_path / "checkpoint.pt")) if p.step == 3 else None)  # fmt: skip
    states.append(torch.load(tmp_path / "checkpoint.pt"))
    before, after = (state["network"] for state in states)
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder"}


def test_half_precision_on_a_cpu(data: Path, tmp_path: Path) -> None:
    recipe = tiny("soundstream-small", steps=3, precision="bfloat16")
    told = list[Progress]()
    train("soundstream-small", data, tmp_path, recipe, tell=told.append)
    assert all(np.isfinite(list(progress.losses.values())).all() for progress in told)


def test_pieces_depend_on_seed_and_step_alone(data: Path) -> None:
    def corpus(seed: int) -> Corpus:
        return Corpus(data, RATE, 3_200, Augmentation(mixing=0.5), seed)

    one, files = corpus(0).batch(7, 4)
    assert one.shape == (4, 1, 3_200)
    assert one.dtype == torch.float32
    assert one.abs().max() <= 1
    assert len(files) == 4
    assert torch.equal(one, corpus(0).batch(7, 4)[0])
    assert not torch.equal(one, corpus(0).batch(8, 4)[0])
    assert not torch.equal(one, corpus(1).batch(7, 4)[0])


def test_pieces_without_augmentation_are_of_the_recordings(data: Path) -> None:
    batch, files = Corpus(data, RATE, 3_200, PLAIN).batch(0, 8)
    original = soundfile.read(data / "one.wav", dtype="float32")[0]
    windows = np.lib.stride_tricks.sliding_window_view(original, 3_200)
    found = [piece for piece, path in zip(batch[:, 0].numpy(), files, strict=True) if path.name == "one.wav"]
    assert found
    assert np.abs(windows - found[0]).max(axis=1).min() < 1e-6


def test_mfccs_have_a_vector_a_frame() -> None:
    objective = Objective(RECIPES["speechtokenizer-small"], RATE, 320, 64)
    found = objective.coefficients(torch.randn(2, 1, 3_200, generator=torch.Generator().manual_seed(0)))
    assert found.shape == (2, 20, 10)
    assert found.mean(dim=-1).abs().max() < 1e-4


def test_errors_of_the_data(tmp_path: Path) -> None:
    recipe = tiny("soundstream-small")
    with pytest.raises(UsageError, match="no such folder of training data"):
        train("soundstream-small", tmp_path / "none", tmp_path / "out", recipe)
    with pytest.raises(UsageError, match=r"no audio files in .*training takes .*flac"):
        train("soundstream-small", tmp_path, tmp_path / "out", recipe)
    soundfile.write(tmp_path / "short.wav", np.zeros(800), RATE)
    with pytest.raises(UsageError, match=r"the longest of 1 recordings in .* has 0\.05 s, and training needs 0\.13 s"):
        train("soundstream-small", tmp_path, tmp_path / "out", recipe)
    with pytest.raises(UsageError, match="cannot train 'encodec_24khz': soundstream-small, encodec-small"):
        train("encodec_24khz", tmp_path, tmp_path / "out", recipe)


def test_what_is_no_number_stops_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "broken.wav", np.zeros(8_000), RATE)
    monkeypatch.setattr("codecbench.models.training.data.load", lambda *_: np.full(8_000, np.nan, np.float32))
    with pytest.raises(CodecbenchError, match=r"mel.* became no number at step 0 on broken\.wav"):
        train("soundstream-small", tmp_path, tmp_path / "out", tiny("soundstream-small"))
    assert not (tmp_path / "out/checkpoint.pt").exists()


def test_another_training_is_not_continued(data: Path, tmp_path: Path) -> None:
    recipe = tiny("soundstream-small", steps=1, discriminators={})
    train("soundstream-small", data, tmp_path, recipe)
    with pytest.raises(UsageError, match=r"another codec \(soundstream-small, not audiodec-small\): choose another"):
        train("audiodec-small", data, tmp_path, recipe)
    with pytest.raises(UsageError, match=r"another recipe \(learning_rate: 0\.0005, not 0\.1\)"):
        train("soundstream-small", data, tmp_path, replace(recipe, learning_rate=0.1))
    (tmp_path / "checkpoint.pt").write_bytes(b"damaged")
    with pytest.raises(UsageError, match=r"cannot be read .*delete it to start anew"):
        train("soundstream-small", data, tmp_path, recipe)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stpes: 3", "unknown setting stpes; known are steps, batch"),
        ("- 3", "holds no settings"),
        ("steps: many", "steps: Input should be a valid integer"),
        ("steps: 0", "steps, batch, save_every and paths are at least 1"),
        ("starting_batches: 0", "starting_batches is at least 1, unless trained codebooks are kept"),
        ("weights: {noise: 1}", "weights are of waveform, mel"),
        ("dropout_share: 2", "are from 0 to 1"),
        ("discriminators: {judge: 3}", "discriminators"),
        ("a: [", "cannot be read as YAML"),
        ("only: [dac-small]", "`only` holds settings by the names of systems"),
        ("only: {dak-small: {steps: 3}}", "`only` has settings for dak-small; known are soundstream-small"),
        ("only: {soundstream-small: {stpes: 3}}", "unknown setting stpes"),
    ],
)
def test_errors_of_the_settings(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(UsageError, match=message):
        adapted(RECIPES["soundstream-small"], tmp_path / "recipe.yaml", "soundstream-small")


def test_settings_for_single_systems(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "steps: 5\nweights: {mel: 1, low: 2}\naugmentation: {gain: [-6, 6], mixing: 0.05}\n"
        "only: {dac-small: {batch: 3, weights: {low: 4}, augmentation: {gain: [0, 0]}}}\n"
    )
    one, other = (adapted(RECIPES[name], path, name) for name in ("dac-small", "encodec-small"))
    assert (one.steps, one.batch, one.weights["mel"], one.weights["low"]) == (5, 3, 1, 4)
    assert (other.steps, other.batch, other.weights["mel"], other.weights["low"]) == (5, 8, 1, 2)
    assert (one.augmentation.gain, one.augmentation.mixing, other.augmentation.gain) == ((0, 0), 0.05, (-6, 6))


def test_pieces_may_all_be_as_loud(data: Path) -> None:
    corpus = Corpus(data, RATE, 1600, replace(PLAIN, rms=0.05))
    pieces = corpus.batch(0, 8)[0]
    torch.testing.assert_close(pieces.square().mean(dim=(1, 2)).sqrt(), torch.full((8,), 0.05), rtol=1e-3, atol=0)


def test_the_command(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recipe.yaml").write_text("batch: 1\nseconds: 0.1\naugmentation: {mixing: 0, speed: [1, 1]}\n")
    command("soundstream-small", data, tmp_path / "out", tmp_path / "recipe.yaml", 2, "cpu", 0, True)
    output = capsys.readouterr()
    assert output.out.strip() == str(tmp_path / "out/soundstream-small.safetensors")
    assert "step 2 of 2  0:00:00 left  mel " in output.err
    assert "adversarial" not in output.err
