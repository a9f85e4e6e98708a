"""The datasets by name, and what a dataset may be called on the command line.

=============================  ====================================================================================
``demo``                       a registered dataset, from the cache
``librispeech/test-other``     a subset of one; without it, the first
``librispeech:/data/LS``       a registered dataset's layout, in a folder of yours
``hf:owner/name:config:split`` a dataset of the Hugging Face hub, from the cache
``some/folder``                every recording in a folder, or its ``manifest.csv`` or ``manifest.jsonl``
``some/list.csv``              a manifest, CSV or JSON Lines
=============================  ====================================================================================
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from codecbench.benchmark.datasets import corpora, demo, digits, hub, pairs, protocols
from codecbench.benchmark.datasets.base import Channels, Dataset, DatasetCard, Source, Utterance, fold
from codecbench.benchmark.datasets.manifest import MANIFESTS, read_folder, read_manifest
from codecbench.benchmark.datasets.staging import prepare
from codecbench.errors import UsageError, did_you_mean
from codecbench.paths import cache_dir
from codecbench.recording import DataError, printable

if TYPE_CHECKING:
    from codecbench.download import Progress

log = logging.getLogger(__name__)


@cache
def _sources() -> dict[str, Source]:
    """Ours, then those of the entry points ``codecbench.datasets``."""
    found: dict[str, Source] = {}
    points = [point.load() for point in entry_points(group="codecbench.datasets")]
    for source in (demo.SOURCE, *corpora.SOURCES, *digits.SOURCES, *protocols.SOURCES, *pairs.SOURCES, *points):
        if source.card.name in found:
            raise UsageError(f"dataset '{source.card.name}' is registered twice; uninstall one of the packages")
        found[source.card.name] = source
    return found


def names() -> list[str]:
    """The registered datasets."""
    return list(_sources())


def describe(name: str) -> DatasetCard:
    """The card of the registered dataset `name`, or of a subset ``NAME/SUBSET``. Downloads nothing.

    Raises:
        UsageError: No such dataset or subset.
    """
    return replace(_find(name)[0].card, name=name)


def metrics_of(spec: str) -> tuple[str, ...]:
    """What is measured on the dataset `spec` where nothing else is asked for; nothing of one that is not registered."""
    source = _sources().get(spec.partition(":")[0].partition("/")[0])
    return source.card.metrics if source else ()


def path(name: str) -> Path | None:
    """The folder of a registered or hub dataset in the cache; None if it is not there.

    Raises:
        UsageError: No such dataset or subset.
    """
    source, _, folder = _find(name)
    return folder if source.complete(folder) else None


def get(name: str, progress: Progress | None = None) -> Path:
    """Download and prepare a registered or hub dataset, unless it is there; returns its folder in the cache.

    Args:
        name: ``NAME``, ``NAME/SUBSET`` or ``hf:...``.
        progress: Called with what is done, and what there is (None if unknown): bytes or files.

    Raises:
        UsageError: No such dataset, or one that only its user can download.
        InfrastructureError: The download or the disk failed.
    """
    source, subset, folder = _find(name)
    fill = source.fill
    if fill is None:
        raise UsageError(f"'{name}' cannot be downloaded by codecbench; see {source.card.url}, then use {name}:FOLDER")
    prepare(folder, lambda empty: fill(empty, subset, progress), source.complete)
    return folder


def open_dataset(spec: str, *, channels: Channels | None = None, known_bad: Sequence[str] = ()) -> Dataset:
    """The dataset that `spec` names; the forms are those of this module's table.

    Args:
        spec: What is wanted. A small registered dataset (``demo``) is prepared if it is not there.
        channels: Another policy than that of the card for recordings with several channels.
        known_bad: Ids of utterances to leave out.

    Raises:
        UsageError: No such dataset, it has to be downloaded first, or its files or manifest are wrong.
        InfrastructureError: The dataset cannot be prepared.
    """
    card, read, folder = _resolve(spec)
    if channels:
        card = replace(card, channels=channels)
    bad = frozenset(known_bad)
    return Dataset(card, _selected(card.name, read(folder, bad), bad))


Reader = Callable[[Path, frozenset[str]], Iterable[Utterance]]


def _resolve(spec: str) -> tuple[DatasetCard, Reader, Path]:
    """The card, the reader and the folder (or manifest) of `spec`."""
    name, colon, where = spec.partition(":")
    if colon and name in _sources():
        source, folder = _sources()[name], Path(where).expanduser()
        if not folder.is_dir():
            raise DataError(f"no such folder: {printable(where)} (in '{printable(spec)}')")
        part = f"/{folder.name}" if folder.name in source.card.subsets else ""
        return replace(source.card, name=name + part), lambda f, _: source.read(f), folder
    if name == "hf" or spec.partition("/")[0] in _sources():
        return _cached(spec)
    folder = Path(spec).expanduser()
    whole = folder.resolve()
    named = whole.parent.name if whole.name in MANIFESTS else whole.stem if folder.is_file() else whole.name
    card = DatasetCard(printable(os.fsencode(named).decode("utf-8", "surrogateescape")))
    if folder.is_dir():
        return card, read_folder, folder
    if folder.is_file() and folder.suffix.lower() in (".csv", ".jsonl"):
        return card, read_manifest, folder
    if folder.is_file():
        raise DataError(f"{printable(spec)} is no dataset: name a folder, or a manifest that ends in .csv or .jsonl")
    if "/" in spec or folder.suffix:
        raise DataError(f"no such folder or manifest: {printable(spec)}")
    raise did_you_mean(printable(spec), names(), "dataset")


def _cached(spec: str) -> tuple[DatasetCard, Reader, Path]:
    source, _, folder = _find(spec)
    if not source.complete(folder):
        if not source.automatic:
            get_it = f"codecbench data get {spec}" if source.fill else f"download it from {source.card.url}"
            own = "" if spec.startswith("hf:") else f", or name a folder that has it: {spec.partition('/')[0]}:FOLDER"
            raise UsageError(f"the dataset '{spec}' is not here: {get_it}{own}")
        log.warning("preparing the dataset '%s' in %s", spec, folder)
        get(spec)
    return source.card, lambda f, _: source.read(f), folder


def _find(name: str) -> tuple[Source, str, Path]:
    """The source of a registered or hub dataset with the card of its subset, the subset, and the folder."""
    if name.startswith("hf:"):
        return hub.source(name), "", hub.folder(name)
    base, slash, subset = name.partition("/")
    if base not in _sources():
        raise did_you_mean(printable(name), names(), "dataset")
    source = _sources()[base]
    subsets = source.card.subsets
    if slash and subset not in subsets:
        has = f"its subsets are {', '.join(subsets)}" if subsets else "it has no subsets"
        raise UsageError(f"'{base}' has no subset '{printable(subset)}': {has}")
    subset = subset or (subsets[0] if subsets else "")
    if subset:
        source = replace(source, card=replace(source.card, name=f"{base}/{subset}"))
    return source, subset, cache_dir("datasets", base, *([subset] if subset else []))


def _selected(name: str, utterances: Iterable[Utterance], known_bad: frozenset[str]) -> tuple[Utterance, ...]:
    """The utterances without the known bad ones; refuses a dataset that has none, or two with one id."""
    kept: dict[str, Utterance] = {}
    for utterance in utterances:
        if utterance.id in known_bad:
            continue
        other = kept.setdefault(fold(utterance.id), utterance)
        if other is not utterance:
            files = " and ".join(printable(str(u.path)) for u in (other, utterance))
            raise DataError(f"dataset '{name}': two recordings have the id '{utterance.id}': {files}")
    if not kept:
        raise DataError(f"dataset '{name}' has no utterances")
    return tuple(kept.values())
