"""Dataclasses to JSON values and back, every type checked: how a card crosses from one process to another."""

from __future__ import annotations

import types
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints


def to_plain(value: Any) -> Any:
    """`value`, a dataclass of dataclasses, tuples, paths and plain values, as JSON values."""
    if is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def from_plain(kind: Any, value: Any, where: str = "") -> Any:
    """The value of type `kind` that `to_plain` made `value` from.

    Raises:
        ValueError: It is of another type; the message says which field.
    """
    if is_dataclass(kind):
        return _dataclass(cast("type", kind), value, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal and value in arguments:
        return value
    if origin in (Union, types.UnionType):
        return _union(arguments, value, where)
    if origin is tuple and isinstance(value, list):
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) == len(value):
            return tuple(
                from_plain(k, item, f"{where}[{i}]") for i, (k, item) in enumerate(zip(kinds, value, strict=True))
            )
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is float and type(value) in (int, float):
        return value
    if isinstance(kind, type) and type(value) is kind:
        return value
    raise ValueError(f"{where or 'the value'} is {str(value)[:40]!r}, not of type {getattr(kind, '__name__', kind)}")


def _dataclass(kind: type, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{where or kind.__name__} is no mapping")
    hints = get_type_hints(kind)
    if unknown := value.keys() - hints.keys():
        raise ValueError(f"{where or kind.__name__} has no field '{min(unknown)}'")
    try:
        return kind(
            **{name: from_plain(hints[name], item, f"{where}.{name}".strip(".")) for name, item in value.items()}
        )
    except TypeError as error:
        raise ValueError(f"{where or kind.__name__}: {error}") from error


def _union(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    for kind in arguments:
        if kind is not type(None):
            try:
                return from_plain(kind, value, where)
            except ValueError:
                continue
    raise ValueError(f"{where or 'the value'} is {str(value)[:40]!r}, of none of its types")
