# /// script
# requires-python = ">=3.11"
# dependencies = ["bitarray", "hydra-core", "numpy", "omegaconf", "sacrebleu", "scikit-learn", "torch", "torchaudio"]
# ///
# Its libraries are not installed beside the benchmark, so:
# mypy: ignore-errors
"""Write the golden values of unit vocoders and unit language models from their authors' code.

Run with ``uv run tests/golden/regenerate_units.py TEXTLESSLIB FAIRSEQ PROMPT RESYNTHESIS``, checkouts of
https://github.com/facebookresearch/textlesslib at ba33d66, https://github.com/facebookresearch/fairseq at 3d262bb,
https://github.com/ga642381/SpeechPrompt-v2 at 401e91d and
https://github.com/facebookresearch/speech-resynthesis at dbb92c8. Nothing here imports the benchmark. ``units.json``
has the names and shapes of tiny checkpoints, ``units.npz`` what the models gave with them filled by ``checkpoints.py``.
"""

from __future__ import annotations

import builtins
import dataclasses
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import torch
from checkpoints import content

FOLDER = Path(__file__).parent
SEED, GAIN = 5, 1.0
VOCODER = {
    "resblock": "1", "upsample_rates": [5, 4, 2], "upsample_kernel_sizes": [11, 8, 4], "upsample_initial_channel": 16,
    "resblock_kernel_sizes": [3, 7, 11], "resblock_dilation_sizes": [[1, 3, 5]] * 3, "num_embeddings": 20,
    "embedding_dim": 8, "model_in_dim": 8, "code_hop_size": 40, "sampling_rate": 16000,
}  # fmt: skip
DURATION = {
    "encoder_embed_dim": 8, "var_pred_hidden_dim": 12, "var_pred_kernel_size": 3, "var_pred_dropout": 0.5,
}  # fmt: skip
VOCODERS = {
    "plain": VOCODER | {"dur_predictor_params": DURATION},
    "voices": VOCODER | {
        "model_in_dim": 24, "multispkr": "from_input", "num_speakers": 4, "multistyle": "from_input", "num_styles": 3,
    },
    "pitch": VOCODER | {"model_in_dim": 16, "f0": True, "f0_quant_num_bin": 6},
    "continuous": VOCODER | {"model_in_dim": 9, "f0": True},
}  # fmt: skip


def filled(model: torch.nn.Module, shapes: dict, name: str) -> torch.nn.Module:
    """`model` with the weights that the tests will have, and its names and shapes put down."""
    own = {key: list(value.shape) for key, value in model.state_dict().items() if value.is_floating_point()}
    shapes[name] = own
    weights = {key: torch.from_numpy(value) for key, value in content(own, SEED, GAIN).items()}
    model.load_state_dict(weights, strict=False)
    return model.eval().requires_grad_(False)


def load(name: str, path: Path, package: str | None = None) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    if package:
        module.__package__ = package
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def vocoders(textlesslib: Path, shapes: dict, found: dict) -> None:
    folder = textlesslib / "textless/vocoders/hifigan"
    package = ModuleType("hifigan")
    package.__path__ = [str(folder)]
    sys.modules["hifigan"] = package
    load("hifigan.resblock", folder / "resblock.py")
    generator = load("hifigan.generator", folder / "generator.py").CodeGenerator
    random = np.random.RandomState(SEED)
    units = torch.from_numpy(random.randint(0, 20, 12))
    found["units"] = units
    for name, config in VOCODERS.items():
        model = filled(generator(config), shapes, name)
        inputs = {"code": units[None]}
        if config.get("multispkr"):
            inputs |= {"spkr": torch.tensor([[2]]), "style": torch.tensor([[1]])}
        if name == "pitch":
            inputs["f0"] = torch.from_numpy(random.randint(0, 6, (1, 24)))
        if name == "continuous":
            inputs["f0"] = torch.from_numpy(random.standard_normal((1, 12)).astype(np.float32))
        if "f0" in inputs:
            found[f"{name}_f0"] = inputs["f0"][0]
        found[name] = model(**inputs)[0, 0]
        if name == "plain":
            log = model.dur_predictor(model.dict(units[None]))
            found["durations"] = torch.clamp(torch.round(torch.exp(log) - 1).long(), min=1)[0]
            found["spoken"] = model(code=units[None], dur_prediction=True)[0, 0]


def patch(fairseq: Path) -> None:
    """Make fairseq import under a recent Python: its dataclasses have defaults that are no longer allowed."""
    import torch._dynamo  # noqa: F401 - whose own dataclasses must stay as they are

    plain = dataclasses.dataclass

    def dataclass(cls: type | None = None, **options: object) -> object:
        def wrap(own: type) -> type:
            return plain(own, **(options | {"unsafe_hash": True} if own.__module__.startswith("fairseq") else options))

        return wrap if cls is None else wrap(cls)

    dataclasses.dataclass = dataclass
    for name in {"float", "int", "bool", "object"} - set(vars(np)):
        setattr(np, name, getattr(builtins, name))
    sys.path.insert(0, str(fairseq))


def arguments(**more: object) -> SimpleNamespace:
    """A tiny Transformer decoder's."""
    return SimpleNamespace(
        dropout=0.1, attention_dropout=0.1, decoder_layerdrop=0.0, share_decoder_input_output_embed=True,
        decoder_embed_dim=16, decoder_input_dim=16, decoder_output_dim=16, decoder_ffn_embed_dim=24, decoder_layers=3,
        decoder_attention_heads=2, max_target_positions=64, no_scale_embedding=False, quant_noise_pq=0,
        quant_noise_pq_block_size=8, quant_noise_scalar=0, decoder_learned_pos=False,
        no_token_positional_embeddings=False, layernorm_embedding=False, decoder_normalize_before=True,
        no_decoder_final_norm=False, activation_fn="relu", checkpoint_activations=False, adaptive_softmax_cutoff=None,
        tie_adaptive_weights=False, base_layers=0, cross_self_attention=False, offload_activations=False,
        min_params_to_wrap=1 << 30, **more,
    )  # fmt: skip


def dialogue(shapes: dict, found: dict) -> None:
    from fairseq.data import Dictionary
    from fairseq.models.speech_dlm import SpeechDLM
    from fairseq.models.speech_dlm.modules.speech_dlm_decoder import CrossChannelTransformerDecoder
    from fairseq.models.speech_dlm.sequence_generator import multichannel_sequence_generator as generator

    dictionary = Dictionary()
    for unit in range(30):
        dictionary.add_symbol(str(unit))
    embedding = torch.nn.Embedding(34, 16, 1)
    options = arguments(
        decoder_cross_layers=2, main_and_cross_weights="1,0", duration_prediction="true", delayed_duration_target="true"
    )
    decoder = CrossChannelTransformerDecoder(options, dictionary, embedding, ["A", "B"], no_encoder_attn=True)
    model = SpeechDLM(decoder)
    filled(model, shapes, "dialogue")
    decoder.output_duration_prediction[0].bias.fill_(2.0)
    random = np.random.RandomState(SEED)
    tokens = torch.from_numpy(random.randint(4, 34, (2, 1, 12)))
    tokens[1, 0, 3:7] = tokens[1, 0, 2]
    tokens[:, :, 0] = 2
    found["dialogue_tokens"] = tokens
    with torch.no_grad():
        out, _ = decoder({"A": tokens[0], "B": tokens[1]})
        found["dialogue_logits"] = torch.stack([out[c][c]["pred_token"] for c in "AB"])
        found["dialogue_durations"] = torch.stack([out[c][c]["pred_duration"][..., 0] for c in "AB"])
        own = generator.MultichannelSequenceGenerator([model], {"A": dictionary, "B": dictionary}, 1, max_len_b=40)
        prefix = {"A": tokens[0, :, 1:], "B": tokens[1, :, 1:]}
        (best,) = own.generate([model], {"net_input": {"src_tokens": prefix}}, prefix_tokens=prefix)[0]
    found["dialogue_greedy"] = best["tokens"].T


def prosody(shapes: dict, found: dict) -> None:
    from fairseq.models.transformer_ulm import MultiStreamTransformerDecoder
    from fairseq.tasks.speech_ulm_task import UnitDictionary

    units, durations, pitches = (UnitDictionary(n_units=count) for count in (20, 6, 8))
    random = np.random.RandomState(SEED)
    tokens = torch.from_numpy(random.randint(0, 24, (2, 11)))
    tokens[tokens == units.pad()] = 3
    found["prosody_tokens"] = tokens
    for name in ("discrete", "continuous"):
        discrete = name == "discrete"
        others = [torch.nn.Embedding(len(each), 16) if discrete else None for each in (durations, pitches)]
        sizes = [len(units), len(durations) if discrete else 1, len(pitches) if discrete else 1]
        embedding = torch.nn.Embedding(len(units), 16, units.pad())
        decoder = MultiStreamTransformerDecoder(arguments(), units, embedding, others, True, sizes)
        filled(decoder, shapes, f"prosody_{name}")
        lasts = torch.from_numpy(random.randint(0, 10, (2, 11)))
        heights = torch.from_numpy(random.randint(0, 12, (2, 11)))
        if not discrete:
            lasts, heights = lasts.float(), torch.from_numpy(random.standard_normal((2, 11)).astype(np.float32))
        found[f"{name}_lasts"], found[f"{name}_heights"] = lasts, heights
        with torch.no_grad():
            out, _ = decoder((tokens, lasts, heights), features_only=True)
        found[f"{name}_out"] = torch.cat(out, dim=-1)


def prompted(speechprompt: Path, shapes: dict, found: dict) -> None:
    torch.Tensor.cuda = lambda self, *_: self  # which the code asks for everywhere
    from fairseq.data import Dictionary
    from fairseq.models.transformer import TransformerConfig

    code = load("prompt_decoder", speechprompt / "GSLM/prompt/fairseq_usr/transformer_prompt_decoder.py")
    dictionary = Dictionary()
    for unit in range(12):
        dictionary.add_symbol(str(unit))
    config = TransformerConfig()
    for name, value in vars(arguments()).items():
        if hasattr(config, name):
            setattr(config, name, value)
    config.decoder.embed_dim, config.decoder.input_dim, config.decoder.output_dim = 16, 16, 16
    config.decoder.ffn_embed_dim, config.decoder.layers, config.decoder.attention_heads = 24, 3, 2
    config.decoder.normalize_before, config.share_decoder_input_output_embed = True, True
    tables = [torch.nn.ModuleList(torch.nn.Embedding(4, 16) for _ in range(3)) for _ in range(2)]
    prompts = SimpleNamespace(
        deep_prompt=True, prompt_length=4, dec_input_prompt=torch.nn.Embedding(4, 16), dec_key_prompt=tables[0],
        dec_value_prompt=tables[1],
    )  # fmt: skip
    verbaliser = SimpleNamespace(linear_verbalizer=torch.nn.Linear(16, 4 + 3, bias=False), num_classes=3)
    decoder = code.TransformerDecoderPromptBase(
        config, dictionary, torch.nn.Embedding(16, 16, 1), prompts, torch.nn.Embedding(1, 16), verbaliser
    )
    filled(decoder, shapes, "prompted")
    random = np.random.RandomState(SEED)
    tokens = torch.from_numpy(random.randint(4, 16, (2, 9)))
    tokens[:, 0], tokens[0, 5], tokens[1, 7] = 2, 0, 0
    with torch.no_grad():
        found["prompted_tokens"], found["prompted_out"] = tokens, decoder(tokens)[0]


def pitch_codes(resynthesis: Path, shapes: dict, found: dict) -> None:
    sys.path.insert(0, str(resynthesis))
    from modules.jukebox import Encoder
    from modules.vq import Bottleneck

    torch.Tensor.cuda = lambda self, *_: self
    encoder = Encoder(1, 128, 1, [4], [2], width=32, depth=4, m_conv=1.0, dilation_growth_rate=3)
    model = torch.nn.Module()
    model.quantizer = torch.nn.Module()
    model.quantizer.encoder, model.quantizer.vq = encoder, Bottleneck(20, 128, 0.99, 1)
    filled(model, shapes, "pitch_codes")
    pitch = torch.from_numpy(np.random.RandomState(SEED).standard_normal(640).astype(np.float32))
    vectors = encoder(pitch[None, None])
    found["pitch_codes_in"], found["pitch_codes_vectors"] = pitch, vectors[0][0].T
    found["pitch_codes_out"] = model.quantizer.vq(vectors)[0][0][0]


def main() -> None:
    textlesslib, fairseq, speechprompt, resynthesis = map(Path, sys.argv[1:5])
    torch.set_num_threads(1)
    shapes, found = {}, {}
    vocoders(textlesslib, shapes, found)
    patch(fairseq)
    dialogue(shapes, found)
    prosody(shapes, found)
    prompted(speechprompt, shapes, found)
    pitch_codes(resynthesis, shapes, found)
    shapes["vocoders"] = VOCODERS
    shapes["seed"] = SEED
    (FOLDER / "units.json").write_text(json.dumps(shapes) + "\n")
    np.savez_compressed(FOLDER / "units.npz", **{key: np.asarray(value) for key, value in found.items()})


if __name__ == "__main__":
    main()
