"""GSLM and TWIST in a tiny size, against `transformers` on equal weights, from files in the released layouts."""

from __future__ import annotations

import json
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from codecbench import tolerant_torchaudio
from codecbench.audio import Clip
from codecbench.errors import InvalidSystem
from codecbench.models import gslm, twist
from codecbench.models.base import LoadOptions, Request, Sampling
from codecbench.models.blocks.unit_generation import generate, loglikelihood
from codecbench.models.blocks.unit_vocoder import UnitVocoder, UnitVocoderShape, from_config
from codecbench.models.checks.runner import check
from codecbench.models.checks.subject import Options
from codecbench.models.registry import find

tolerant_torchaudio.load()  # `transformers` imports it plainly

SYSTEMS = Path(__file__).parents[1] / "rogues" / "tiny_units.py"
NAMES = ("TinyGSLM", "TinyTwist", "TinyTwistLlama")


def system(name: str) -> Any:
    return find(f"{SYSTEMS}:{name}")


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> Any:
    return system(request.param).load(LoadOptions(random_seed=0))


def noise(seconds: float, seed: int = 0) -> Clip:
    samples = 0.2 * np.random.default_rng(seed).standard_normal((1, int(16_000 * seconds)))
    return Clip(samples.astype(np.float32) * np.sin(np.arange(samples.size) / 900, dtype=np.float32), 16_000)


def likeliest(_request: int, logits: Tensor) -> Tensor:
    return logits.argmax(dim=-1)


def transformers_of(model: Any) -> Any:
    """The same language model in `transformers`."""
    from transformers import AutoConfig, AutoModelForCausalLM, XGLMConfig

    if isinstance(model, gslm.GSLM):
        size, layers, heads, hidden = model.size
        config = XGLMConfig(
            vocab_size=104, d_model=size, num_layers=layers, attention_heads=heads, ffn_dim=hidden,
            activation_function="relu", scale_embedding=True,
        )  # fmt: skip
    else:
        facts = dict(model.config)
        config = AutoConfig.for_model(facts.pop("model_type"), pad_token_id=1, eos_token_id=1, **facts)
    oracle = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    own = model.lm.state_dict()
    taken = 0
    from codecbench import weights
    from codecbench.models.blocks.unit_lm import TRANSFORMERS_NAMES

    for name, tensor in oracle.state_dict().items():
        (mapped,) = weights.rename_keys({name: tensor}, TRANSFORMERS_NAMES)
        if "embed_positions.weights" not in name:
            tensor.copy_(own[mapped])
            taken += 1
    assert taken >= len(own) - 1
    return oracle


def test_greedy_units_against_transformers(model: Any) -> None:
    prompt = model.encode(noise(1.0))
    assert len(prompt) > 5
    tokens = model.tokens(prompt)
    oracle = transformers_of(model)
    (found,) = model.extend([prompt], 12, likeliest)
    own = tokens
    for _ in range(12):
        logits = oracle(own[None]).logits[0, -1]
        masked = torch.full_like(logits, -torch.inf)
        masked[model._allowed] = logits[model._allowed]
        own = torch.cat([own, masked.argmax()[None]])
        if int(own[-1]) == model.symbols.end:
            break
    assert found.tolist() == own[len(tokens) :].tolist()


def test_likelihood_against_transformers(model: Any) -> None:
    clip = noise(1.0)
    tokens = model.tokens(model.encode(clip))
    loss = float(transformers_of(model)(tokens[None], labels=tokens[None]).loss)
    (score,) = model.loglikelihood([clip])
    assert score.tokens == len(tokens) - 1
    assert score.nats == pytest.approx(-loss * score.tokens, rel=1e-4)
    assert score.seconds == 1.0


def test_windows_overlap_by_one_token(model: Any) -> None:
    tokens = model.tokens(model.encode(noise(1.0)))
    parts = [model.lm.loglikelihood(tokens[None, s : s + 4])[0] for s in range(0, len(tokens) - 1, 3)]
    found = loglikelihood(model.lm, tokens, 4)
    assert len(found) == len(tokens) - 1
    torch.testing.assert_close(found, torch.cat(parts))
    torch.testing.assert_close(loglikelihood(model.lm, tokens, 5000), model.lm.loglikelihood(tokens[None])[0])


@pytest.mark.parametrize("sampling", [Sampling(temperature=0, max_seconds=0.4), Sampling(top_k=20, max_seconds=0.4)])
def test_neither_company_nor_cache_change_anything(model: Any, sampling: Sampling) -> None:
    requests = [Request("continuation", audio=noise(seconds, seed)) for seed, seconds in enumerate((0.5, 1.1, 0.3))]
    together = model.generate(requests, sampling)
    model.use_cache = False
    try:
        alone = [model.generate([request], sampling)[0] for request in requests]
    finally:
        model.use_cache = True
    for a, b in zip(together, alone, strict=True):
        assert a.tokens == b.tokens
        assert a.ended == b.ended
        assert a.audio.length % model.hop == 0
        assert a.audio.length <= 0.4 * 16_000
        np.testing.assert_array_equal(a.audio.samples, b.audio.samples)


def test_the_end_ends_one_request_alone() -> None:
    model = system("TinyGSLM").load(LoadOptions(random_seed=0))
    prompts = [torch.tensor([2, 5, 6]), torch.tensor([2, 7, 8, 9])]
    calls = {0: 0, 1: 0}

    def draw(request: int, logits: Tensor) -> Tensor:
        calls[request] += 1
        assert float(logits[0]) == -torch.inf  # `<s>` is no unit
        return torch.tensor(2 if (request, calls[request]) == (0, 3) else 50 + calls[request])

    found = generate(model.lm, prompts, 6, allowed=model._allowed, end=2, draw=draw)
    assert [own.tolist() for own in found] == [[51, 52, 2], [51, 52, 53, 54, 55, 56]]
    assert calls == {0: 3, 1: 6}
    asked = Request("continuation", audio=noise(0.1))
    ended = model._respond(asked, torch.tensor([1, 2]), found[0], 100)
    cut = model._respond(asked, torch.tensor([1, 2]), found[1], 100)
    assert (ended.ended, ended.tokens, cut.ended, cut.tokens) == (True, 3, False, 6)
    none = model._respond(asked, torch.tensor([1, 2]), torch.tensor([2]), 100)
    assert (none.ended, none.audio.length) == (True, 0)


def test_a_prompt_that_fills_the_context_is_refused(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(model), "longest", 8)
    with pytest.raises(ValueError, match=r"units; .* hears 7"):
        model.generate([Request("continuation", audio=noise(1.0))], Sampling())


def test_company_that_nearly_fills_the_context(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request's room is its own, whatever the longest of the batch has."""
    clips = [noise(0.3), noise(1.0, 1)]
    lengths = [len(model.tokens(model.encode(own))) for own in clips]
    monkeypatch.setattr(type(model), "longest", lengths[1] + 2)
    requests = [Request("continuation", audio=own) for own in clips]
    sampling = Sampling(temperature=0, max_seconds=0.4)
    together = model.generate(requests, sampling)
    alone = [model.generate([request], sampling)[0] for request in requests]
    assert [own.tokens for own in together] == [own.tokens for own in alone]
    assert together[1].tokens <= 2


def write_parts(folder: Path, files: Any, entries: int, convs: int) -> None:
    """HuBERT, codebook and vocoder of a release; they are checked elsewhere."""
    from transformers import HubertConfig, HubertModel

    hubert, codebook, checkpoint, config = (folder / file.name for file in files)
    facts: dict[str, Any] = {
        "resblock": "1", "upsample_rates": [5, 4, 4, 2, 2] if convs == 7 else [5, 4, 4, 4, 2],
        "upsample_kernel_sizes": [11, 8, 8, 4, 4] if convs == 7 else [11, 8, 8, 8, 4], "upsample_initial_channel": 32,
        "resblock_kernel_sizes": [3, 7, 11], "resblock_dilation_sizes": [[1, 3, 5]] * 3, "num_embeddings": entries,
        "embedding_dim": 16, "dur_predictor_params": {"var_pred_hidden_dim": 8, "var_pred_kernel_size": 3},
    }  # fmt: skip
    config.write_text(json.dumps(facts))
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = HubertModel(HubertConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, conv_dim=[8] * convs,
            conv_kernel=[10, 3, 3, 3, 3, 2, 2, 2][:convs], conv_stride=[5, 2, 2, 2, 2, 2, 2, 2][:convs],
            num_feat_extract_layers=convs, num_conv_pos_embedding_groups=4,
        ))  # fmt: skip
        spoken = UnitVocoder(from_config(facts))
    if hubert.suffix == ".safetensors":
        model.save_pretrained(folder / "model")
        shutil.move(folder / "model" / "model.safetensors", hubert)
    else:
        torch.save(model.state_dict(), hubert)
    np.save(folder / "km.npy", np.random.default_rng(0).standard_normal((entries, 16)).astype(np.float32))
    joblib = pytest.importorskip("joblib")
    joblib.dump(Codebook(np.load(folder / "km.npy")), codebook)
    torch.save({"generator": vocoder_names(spoken)}, checkpoint)


class Codebook:
    """What scikit-learn's k-means looks like to joblib."""

    def __init__(self, centres: Any) -> None:
        self.cluster_centers_ = centres


def vocoder_names(vocoder: UnitVocoder) -> dict[str, Tensor]:
    """The vocoder's state under the release's names."""
    plain = {"unit.": "dict.", "first.": "conv_pre.", "last.": "conv_post.", "resample.": "ups."}
    later = {"duration.convs.0.": "dur_predictor.conv1.0.", "duration.convs.1.": "dur_predictor.conv2.0.",
             "duration.norms.0.": "dur_predictor.ln1.", "duration.norms.1.": "dur_predictor.ln2.",
             "duration.last.": "dur_predictor.proj."}  # fmt: skip
    found = {}
    for name, tensor in vocoder.state_dict().items():
        new = name
        for old, other in (plain | later).items():
            new = other + new.removeprefix(old) if new.startswith(old) else new
        if new.startswith("fields."):
            _, field, _, branch, rest = new.split(".", 4)
            kind, rest = rest.split(".", 1)
            kinds = {"dilated": "convs1", "plain": "convs2"}
            new = f"resblocks.{3 * int(field) + int(branch)}.{kinds[kind]}.{rest}"
        found[new] = tensor
    return found


def gslm_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {"decoder.version": torch.tensor([3.0]), "decoder.embed_positions._float_tensor": torch.zeros(1)}
    parts = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj"}
    for name, tensor in state.items():
        new = name.replace("backbone.layers", "layers").replace("backbone.norm", "layer_norm")
        for own, other in parts.items():
            new = new.replace(f".attention.{own}.", f".self_attn.{other}.")
        new = new.replace(".attention_norm.", ".self_attn_layer_norm.").replace(".feed_norm.", ".final_layer_norm.")
        new = new.replace(".feed.inner.", ".fc1.").replace(".feed.outer.", ".fc2.")
        new = new.replace("embedding.", "embed_tokens.").replace("head.", "output_projection.")
        found[f"decoder.{new}"] = tensor
    return found


def test_gslm_of_released_files(tmp_path: Path) -> None:
    """The archive's dictionary has its units in another order, and a word that pads it."""
    model = system("TinyGSLM")
    write_parts(tmp_path, model.card.weights[1:], 100, 7)
    networks = model.build(3)
    order = np.random.default_rng(1).permutation(100)
    state = networks.lm.state_dict()
    table = torch.zeros(105, 32)
    table[:4], table[4:104] = state["embedding.weight"][:4], state["embedding.weight"][4:][torch.from_numpy(order)]
    state = state | {"embedding.weight": table, "head.weight": table}
    torch.save({"model": gslm_names(state), "args": None}, tmp_path / "checkpoint_best.pt")
    (tmp_path / "dict.txt").write_text("".join(f"{unit} 9\n" for unit in order) + "madeupword0000 0\n")
    archive = tmp_path / model.card.weights[0].name
    with tarfile.open(archive, "w:gz") as file:
        for name in ("checkpoint_best.pt", "dict.txt"):
            file.add(tmp_path / name, f"hubert100_lm/{name}")
    loaded = model.load(LoadOptions(weights=tmp_path))
    direct = model(networks, "cpu")
    units = torch.arange(0, 100, 7)
    expected = direct.lm(direct.tokens(units)[None])[0][:, direct._ids]
    torch.testing.assert_close(loaded.lm(loaded.tokens(units)[None])[0][:, loaded._ids], expected)
    assert loaded.symbols.end == 2
    assert loaded.generate([Request("continuation", audio=noise(0.5))], Sampling(max_seconds=0.2))[0].tokens > 0

    (tmp_path / "dict.txt").write_text("1 9\n")
    with tarfile.open(archive, "w:gz") as file:
        for name in ("checkpoint_best.pt", "dict.txt"):
            file.add(tmp_path / name, f"hubert100_lm/{name}")
    with pytest.raises(InvalidSystem, match="the dictionary lacks 99 of 100 units, such as 0"):
        model.load(LoadOptions(weights=tmp_path))


@pytest.mark.parametrize("name", ["TinyTwist", "TinyTwistLlama"])
@pytest.mark.parametrize("packed", [True, False])
def test_twist_of_released_files(tmp_path: Path, name: str, packed: bool) -> None:
    model = system(name)
    write_parts(tmp_path, model.card.weights[1:], 500, 8)
    built = model.load(LoadOptions(random_seed=3))
    oracle = transformers_of(built)
    oracle.config.offset = model.config["offset"]
    folder = tmp_path / model.card.weights[0].name.removesuffix(".zip")
    oracle.save_pretrained(folder)
    if packed:
        (folder / "model.safetensors").unlink()
        torch.save(oracle.state_dict(), folder / "pytorch_model.bin")
        with zipfile.ZipFile(f"{folder}.zip", "w") as file:
            for each in folder.iterdir():
                file.write(each, each.name)
        shutil.rmtree(folder)
    loaded = model.load(LoadOptions(weights=tmp_path))
    tokens = built.tokens(torch.arange(0, 500, 31))
    torch.testing.assert_close(loaded.lm(tokens[None]), built.lm(tokens[None]))
    assert loaded.symbols == built.symbols


def test_other_models_are_refused() -> None:
    with pytest.raises(ValueError, match="of the type gpt2, not opt or llama"):
        twist.shape({"hidden_size": 1, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 2,
                     "model_type": "gpt2"})  # fmt: skip
    with pytest.raises(ValueError, match="500 units from id 2 on do not fit into a vocabulary of 400"):
        twist.symbols({"offset": 2, "vocab_size": 400})


@pytest.mark.parametrize("card", [gslm.GSLM.card, *(each.card for each in twist.SYSTEMS)])
@pytest.mark.usefixtures("no_weights")
def test_missing_weights_name_the_command(card: Any) -> None:
    with pytest.raises(InvalidSystem, match=f"`codecbench weights get {card.name}`"):
        find(card.name).load(LoadOptions())


def test_released_sizes() -> None:
    """Parameters of the language models, without building them."""
    from codecbench.models.blocks.unit_lm import UnitLM, UnitLMShape
    from codecbench.models.blocks.unit_lm import gslm as backbone

    with torch.device("meta"):
        found = [sum(p.numel() for p in UnitLM(twist.shape(each.config)).parameters()) for each in twist.SYSTEMS]
        found.append(sum(p.numel() for p in UnitLM(UnitLMShape(backbone(), 104)).parameters()))
    assert [round(count / 1e6) for count in found] == [306, 1214, 6480, 151]
    assert UnitVocoderShape().hop == 320


@pytest.mark.parametrize("name", ["TinyGSLM", *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:])])
def test_every_check_of_language_models_passes(name: str) -> None:
    report = check(f"{SYSTEMS}:{name}", Options(random_seed=0))
    assert [result for result in report.results if not result.ok] == []
    assert report.result("cache_is_exact").outcome == "passed"
