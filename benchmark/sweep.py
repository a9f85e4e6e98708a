"""A sweep is data: what to run on what, and what to measure. Validated before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from codecbench.errors import UsageError


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class Resources(_Strict):
    """What each worker takes of a cluster; the local engine does not ask.

    Attributes:
        cpus: Cores.
        gpus: GPUs; below 1, workers share one. By default one where the sweep's device is a GPU; none on a CPU.
        memory_gb: Memory, which is counted and not enforced; 0 does not count it.
    """

    cpus: float = Field(default=1, ge=0, allow_inf_nan=False)
    gpus: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    memory_gb: float = Field(default=0, ge=0, allow_inf_nan=False)

    @field_validator("gpus")
    @classmethod
    def _a_share_or_whole(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and value != int(value):
            raise ValueError("a share of one GPU (at most 1), or a whole number of them")
        return value


class ModelChoice(_Strict):
    """One system of a sweep: its name (or ``file.py:Class``), the points to run (all by default), its weights.

    `resources`, if given, are in place of the sweep's.
    """

    name: str
    points: tuple[str, ...] = ()
    weights: Path | None = None
    resources: Resources | None = None


class DatasetChoice(_Strict):
    """One dataset of a sweep: its name or path, the channel policy, and utterances known to be unusable."""

    name: str
    channels: Literal["downmix", "reject"] | None = None
    known_bad: tuple[str, ...] = ()


class SamplingChoice(_Strict):
    """How language models draw tokens; see `codecbench.models.base.Sampling`. Lengths are the requests' own."""

    temperature: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    top_k: int = Field(default=0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    guidance: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    seed: int = 0


class Sweep(_Strict):
    """Everything that decides what a run computes.

    Attributes:
        models: The systems.
        datasets: The datasets.
        metrics: Names of metrics; by default those that its datasets name, if they do.
        points: Of every model, only the points of these names; all by default.
        limit: Use the first so many utterances of each dataset.
        random_weights: Seed for the models that take weights.
        device: Torch device.
        compile: Run networks through `torch.compile`; see `codecbench.models.base.LoadOptions`.
        timeout: Seconds an item may take before its process is killed.
        batch: How many recordings a codec is given at once, see `codecbench.benchmark.batches`; and how many requests a
            language model whose card says that it takes `batches`.
        keep_codes: Keep the packed codes of every item with the run.
        keep_audio: Keep the outputs of so many utterances of each dataset with the run, to listen to.
        isolation: Where adapters run; see `codecbench.benchmark.isolation.levels`.
        audit: Encode and decode in different processes, in different orders.
        sampling: Of language models.
        resources: What each worker takes of a cluster.
    """

    models: tuple[ModelChoice, ...] = Field(min_length=1)
    datasets: tuple[DatasetChoice, ...] = Field(min_length=1)
    metrics: tuple[str, ...] = Field(min_length=1)
    points: tuple[str, ...] = ()
    limit: int | None = Field(default=None, ge=1)
    random_weights: int | None = Field(default=None, ge=0)
    device: str = "cpu"
    compile: bool = False
    timeout: float = Field(default=300, gt=0)
    batch: int = Field(default=1, ge=1, le=64)
    keep_codes: bool = False
    keep_audio: int = Field(default=0, ge=0)
    isolation: Literal["none", "process", "bwrap"] = "process"
    audit: bool = False
    sampling: SamplingChoice = SamplingChoice()
    resources: Resources = Resources()

    @field_validator("models", "datasets", mode="before")
    @classmethod
    def _names_alone(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [{"name": item} if isinstance(item, str) else item for item in value]
        return value


def read_sweep(path: Path | None, overrides: dict[str, Any]) -> Sweep:
    """The sweep of a YAML file (or none), with `overrides` (those that are not None) on top.

    Raises:
        UsageError: The file is missing, is no YAML, or holds something else than a sweep.
    """
    values = {**(_read_yaml(path) if path else {}), **{k: v for k, v in overrides.items() if v is not None}}
    where = str(path) if path else "the command line"
    if "metrics" not in values and (usual := _usual_metrics(values.get("datasets"))):
        values["metrics"] = usual
    try:
        return Sweep.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "missing":
            raise UsageError(f"{where}: '{field}' is missing; give --{field} or write it in the sweep") from None
        raise UsageError(f"{where}: '{field}': {first['msg']}") from None


def _usual_metrics(datasets: Any) -> list[str]:
    """The metrics that `datasets`, which are not validated yet, name themselves."""
    from codecbench.benchmark.datasets import registry

    chosen = datasets if isinstance(datasets, (list, tuple)) else []
    names = [choice.get("name") if isinstance(choice, dict) else choice for choice in chosen]
    return list(dict.fromkeys(metric for name in names for metric in registry.metrics_of(str(name))))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the sweep {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path}: a sweep is a mapping with 'models', 'datasets' and 'metrics'")
    return values
