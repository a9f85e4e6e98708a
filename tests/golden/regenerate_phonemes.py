# /// script
# requires-python = ">=3.11"
# dependencies = ["eng-to-ipa", "espeakng-loader", "inflect", "phonemizer", "unidecode"]
# ///
# Its libraries are not installed beside the benchmark, so:
# mypy: ignore-errors
"""Write how the open implementations of VALL-E and VALL-E X read English texts.

Run with ``uv run tests/golden/regenerate_phonemes.py VALLE VALLEX``, where ``VALLE`` is a checkout of
https://github.com/lifeiteng/vall-e at 9c69096 and ``VALLEX`` one of https://github.com/Plachtaa/VALL-E-X at 3faaf8c.
Nothing here imports the benchmark. Libraries that reading does not need are stubbed.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import espeakng_loader
from phonemizer.backend.espeak.wrapper import EspeakWrapper

FOLDER = Path(__file__).parent
STUBS = ("torch", "torchaudio", "encodec", "encodec.utils", "lhotse", "lhotse.features", "lhotse.utils")
TEXTS = (
    "Hello world", "To get up and running quickly just follow the steps below.",
    "Mr. Smith paid $1,234.50 in 1999, on the 3rd of May 2005.", "It costs £20 or $0.50 or $1.01 or $5, well...",
    "all the little bells, full tilt! 2000 3001 1100 2012 3.14 10,000 42nd", "Dr. St. John Co. ltd.",
    "Ça va? “Quotes” — dash", "$1.2.3 each", "the year 1905", "Twenty-two jolly judges chuckle.", "xqll is no word",
)  # fmt: skip


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def main(valle: str, vallex: str) -> None:
    for name in STUBS:
        sys.modules[name] = MagicMock()
    sys.modules["lhotse.features"].FeatureExtractor = object
    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    tokenizer = load(Path(valle, "valle/data/tokenizer.py"))
    english = load(Path(vallex, "utils/g2p/english.py"))
    for name in ("japanese", "mandarin"):
        sys.modules[f"utils.g2p.{name}"] = MagicMock()
    for name in ("utils", "utils.g2p"):
        sys.modules[name] = ModuleType(name)
    sys.modules["utils.g2p.english"] = english
    cleaners = load(Path(vallex, "utils/g2p/cleaners.py"))
    reader = tokenizer.TextTokenizer()
    found = {
        "espeak": {text: tokenizer.tokenize_text(reader, text) for text in TEXTS},
        "ipa": {text: re.sub(" ", "_", cleaners.cje_cleaners(f"_[EN]{text}[EN]")[0]) for text in TEXTS},
    }
    (FOLDER / "phonemes.json").write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
