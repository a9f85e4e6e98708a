"""The metrics by name. A new metric is one file, and one line here."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from codecbench.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from codecbench.metrics.base import Metric

FAMILIES = (
    "codecbench.metrics.pesq",
    "codecbench.metrics.stoi",
    "codecbench.metrics.mel",
    "codecbench.metrics.spectral",
    "codecbench.metrics.si_sdr",
    "codecbench.metrics.pitch",
    "codecbench.metrics.recognition",
    "codecbench.metrics.speaker",
    "codecbench.metrics.dnsmos",
    "codecbench.metrics.generation",
    "codecbench.metrics.digits",
    "codecbench.metrics.pairs",
    "codecbench.metrics.diversity",
    "codecbench.metrics.perplexity",
    "codecbench.metrics.prompt_wer",
    "codecbench.metrics.seedtts",
    "codecbench.metrics.bleu",
    "codecbench.metrics.fad",
    "codecbench.metrics.sound",
)


@cache
def all_metrics() -> dict[str, Metric]:
    """Every registered metric: those of `FAMILIES`, then those of the entry points ``codecbench.metrics``."""
    found: dict[str, Metric] = {}
    modules = [import_module(name) for name in FAMILIES]
    modules += [point.load() for point in entry_points(group="codecbench.metrics")]
    for module in modules:
        for metric in module.METRICS:
            if metric.name in found:
                raise UsageError(f"metric '{metric.name}' is registered twice; rename the one in {module.__name__}")
            found[metric.name] = metric
    return found


def find(spec: str) -> Metric:
    """The metric that `spec` names: ``NAME``, ``NAME:VARIANT``, and either with ``@codec``.

    Raises:
        UsageError: No such metric or variant.
    """
    body, _, frame = spec.partition("@")
    name, _, variant = body.partition(":")
    if name not in all_metrics():
        raise did_you_mean(name, sorted(all_metrics()), "metric")
    metric = all_metrics()[name]
    if variant:
        if metric.variant is None:
            raise UsageError(f"metric '{name}' has no variants: write '{name}', not '{spec}'")
        metric = metric.variant(variant)
    if frame and frame != "codec":
        raise UsageError(f"unknown frame '{frame}' in metric '{spec}': the frames are NAME and NAME@codec")
    return metric.in_codec_frame() if frame else metric
