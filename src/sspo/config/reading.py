"""JSON into frozen dataclasses, checked against their type hints, and back.

Every error is one line that names the place and the fix.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Literal

from sspo.config.errors import ConfigError

JsonDict = dict[str, object]
T = typing.TypeVar("T")


def load_json(path: str | Path) -> JsonDict:
    """Read a JSON object.

    Raises:
        ConfigError: missing file, or not a JSON object.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: file missing; run the rule that makes it") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not valid JSON ({error}); run its rule again") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a JSON object, found {type(data).__name__}")
    return data


def from_json(kind: type[T], path: str | Path) -> T:
    """Read a JSON file into a config dataclass.

    Raises:
        ConfigError: unknown, missing or mistyped key; the message gives the file and the key's path.
    """
    data = load_json(path)
    try:
        return from_dict(kind, data)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def from_dict(kind: type[T], data: JsonDict, where: str = "") -> T:
    """Build a config dataclass from plain data, strictly.

    Raises:
        ConfigError: unknown, missing or mistyped key; the message gives the key's path.
    """
    hints = typing.get_type_hints(kind)
    for key in data:
        if key not in hints:
            raise ConfigError(f"{where}{key}: unknown key; known here: {', '.join(hints)}")
    for key in hints:
        if key not in data:
            raise ConfigError(f"{where}{key}: missing; add it")
    values = {key: _convert(hints[key], value, f"{where}{key}") for key, value in data.items()}
    return kind(**values)


def to_dict(config: object) -> JsonDict:
    """The plain data of a config dataclass, ready for JSON."""
    return dataclasses.asdict(config)


def _convert(hint: object, value: object, where: str) -> object:
    """Check one value against its type hint; tuples come as lists, floats may come as ints."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        if isinstance(value, dict):
            return from_dict(hint, value, f"{where}.")
    elif origin is Literal:
        if value in arguments:
            return value
    elif origin is tuple:
        if isinstance(value, list | tuple):
            kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
            if len(kinds) == len(value):
                pairs = zip(kinds, value, strict=True)
                return tuple(_convert(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(pairs))
    elif origin is dict:
        if isinstance(value, dict):
            return {k: _convert(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise ConfigError(f"{where} = {value!r}: expected {_name(hint)}")


def _name(hint: object) -> str:
    if typing.get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, typing.get_args(hint)))}"
    if isinstance(hint, types.GenericAlias):
        return str(hint)
    return getattr(hint, "__name__", str(hint))
