"""What a run keeps besides numbers, so that others can check and hear them: packed codes, outputs, transcripts.

Files stand in ``evidence/`` of the run folder, named by the SHA-256 of their content; ``evidence.parquet`` says whose
they are. Equal content is one file, so that a repeated or resumed run adds nothing.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np

from codecbench.audio import Audio, resample
from codecbench.benchmark.asking import Answer
from codecbench.benchmark.coding import Coded
from codecbench.benchmark.plan import Plan
from codecbench.benchmark.scoring import at_rate
from codecbench.benchmark.segments import disk_error
from codecbench.errors import InfrastructureError
from codecbench.metrics.base import Reference
from codecbench.models.bitstream import pack

FOLDER = "evidence"


class Evidence:
    """The files of one run.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER

    def put(self, data: bytes, kind: str) -> str:
        """Write `data`, unless it is there; returns its name, such as ``0a1b….flac``."""
        name = f"{hashlib.sha256(data).hexdigest()}.{kind}"
        path = self.path(name)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
                    file.write(data)  # not synced: a file that power loss tore is found by its name
                Path(file.name).chmod(0o644)
                Path(file.name).replace(path)
            except OSError as error:
                raise disk_error(error, path, len(data)) from error
        return name

    def get(self, name: str) -> bytes:
        """The content of `name`.

        Raises:
            InfrastructureError: It is absent, or not what its name says.
        """
        path = self.path(name)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InfrastructureError(f"{path} cannot be read ({error.strerror}): run the sweep again") from error
        if hashlib.sha256(data).hexdigest() != name.partition(".")[0]:
            raise InfrastructureError(
                f"{path} is damaged: its content has another hash than its name; delete it, run again"
            )
        return data

    def path(self, name: str) -> Path:
        """Where `name` lies."""
        return self.folder / name[:2] / name


class Keeper:
    """Keeps what the plan asks for."""

    def __init__(self, plan: Plan) -> None:
        self._codes = plan.keep_codes
        self._audible = {name: plan.audible(name) for name in plan.datasets}
        self._evidence = Evidence(plan.folder)

    def keep(self, dataset: str, utterance: str, coded: Coded, reference: Reference) -> dict[str, str]:
        """The names of the files kept of one item: ``codes``, ``output`` and ``reference``, as far as wanted."""
        kept = self.keep_codes(pack(coded.codes).to_bytes()) if self._codes else {}
        if self.hears(dataset, utterance):
            kept |= self._sounds(at_rate(coded, reference).samples, reference)
        return kept

    def keep_codes(self, packed: bytes) -> dict[str, str]:
        """The same of an item's `packed` codes alone."""
        return {"codes": self._evidence.put(packed, "codes")} if self._codes else {}

    def hears(self, dataset: str, utterance: str) -> bool:
        """Whether the outputs of this utterance are kept."""
        return utterance in self._audible[dataset]

    def keep_answer(self, dataset: str, utterance: str, answer: Answer, reference: Reference) -> dict[str, str]:
        """The same of an answer to a request, which has no codes; and no ``output`` if it is a text."""
        if answer.output is None or utterance not in self._audible[dataset]:
            return {}
        return self._sounds(resample(answer.output, answer.sample_rate, reference.sample_rate), reference)

    def _sounds(self, output: Audio, reference: Reference) -> dict[str, str]:
        kept = reference.memo(
            "kept", lambda: self._evidence.put(flac(reference.samples, reference.sample_rate), "flac")
        )
        return {"output": self._evidence.put(flac(output, reference.sample_rate), "flac"), "reference": kept}


def flac(samples: Audio, sample_rate: int) -> bytes:
    """Mono `samples` ``[T]`` as FLAC of 16 bits; what exceeds full scale is clipped, as any player would."""
    import soundfile

    buffer = io.BytesIO()
    whole = np.clip(np.round(samples.astype(np.float64) * 32_768), -32_768, 32_767).astype(np.int16)
    soundfile.write(buffer, whole, sample_rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def evidence_rows(items: dict[tuple[str, str, str, str], dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of ``evidence.parquet``: an item that kept anything, the names of its files, and its texts."""
    import json

    rows = []
    for (system, point, dataset, utterance), item in sorted(items.items()):
        files, texts = item.get("evidence", {}), item.get("texts", {})
        if files or texts:
            rows.append({
                "system": system, "point": point, "dataset": dataset, "utterance": utterance,
                "codes": files.get("codes"), "output": files.get("output"), "reference": files.get("reference"),
                "texts": json.dumps(texts, sort_keys=True, ensure_ascii=False) if texts else None,
            })  # fmt: skip
    return rows
