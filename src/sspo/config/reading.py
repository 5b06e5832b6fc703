"""Plain data into checked, frozen sections, and back; every error is one line with the fix."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_core import PydanticCustomError

from sspo.config.errors import ConfigError

JsonDict = dict[str, Any]


class Section(BaseModel):
    """A part of the configuration: frozen, every key known, no value converted in silence."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def changed(self, **changes: Any) -> Self:
        """A copy with other values, checked again; a mapping changes an inner section key by key.

        Raises:
            ConfigError: as ``parse``.
        """
        values = dict(self)
        for name, value in changes.items():
            inner = values.get(name)
            if isinstance(inner, Section) and isinstance(value, Mapping):
                values[name] = inner.changed(**value)
            else:
                values[name] = value
        return parse(type(self), plain(values))


T = TypeVar("T", bound=Section)


def setting(meaning: str, **limits: Any) -> Any:
    """A key of a section: what it means, and pydantic's limits (``ge``, ``gt``, ``pattern`` ...)."""
    return Field(description=meaning, **limits)


def optional_setting(meaning: str, default: object, **limits: Any) -> Any:
    """A key that may be left out; ``plain`` leaves it out where it has its default.

    So a new key does not change the config files of runs that do without it.
    """
    return Field(default, description=meaning, exclude_if=lambda value: value == default, **limits)


def partial(kind: type[Section]) -> type[Section]:
    """Some of a section's keys; the whole section is checked again once they are merged."""
    fields: dict[str, Any] = {
        name: (
            Annotated[(field.annotation, Field(description=field.description), *field.metadata)],
            None,
        )
        for name, field in kind.model_fields.items()
    }
    return create_model(f"{kind.__name__}Changes", __base__=Section, **fields)


def refuse(text: str) -> PydanticCustomError:
    """The error that a section's own check raises where values do not go together.

    The text begins with a key of the section, in front of which the message puts the section's place.
    """
    return PydanticCustomError("combination", "{text}", {"text": text})


def parse(kind: type[T], data: Mapping[str, object], where: str = "") -> T:
    """Build a section from plain data.

    Args:
        kind: the section.
        data: what JSON can hold; of JSON, because there a list is a tuple and 1 is a number.
        where: goes in front of the message.

    Raises:
        ConfigError: an unknown or missing key or an impossible value; names the key and what it means.
    """
    try:
        return kind.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        raise ConfigError(f"{where}{_explain(error, kind)}") from None


def read(kind: type[T], path: str | Path) -> T:
    """Read a section from a JSON file.

    Raises:
        ConfigError: as ``parse`` and ``load_json``; the message begins with the file.
    """
    return parse(kind, load_json(path), f"{path}: ")


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


def plain(value: object) -> Any:
    """The data of sections, of nested mappings and of sequences, ready for JSON."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> JsonDict:
    """Mappings merge, anything else is replaced: as Snakemake does with several config files."""
    result = dict(values)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def _explain(error: ValidationError, kind: type[Section]) -> str:
    """One line: the key, its value, what it should be, and what it means."""
    errors = error.errors(include_url=False)
    # A misspelt key is missing as well: the misspelling says more.
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    path = [part for part in first["loc"] if part != "[key]"]
    where = "".join(map(_step, path)).removeprefix(".") or "top level"
    if first["type"] == "missing":
        return f"{where}: missing; add it{_meaning(kind, path)}"
    if first["type"] == "extra_forbidden":
        known = _schema_at(kind, path[:-1])[0].get("properties", {})
        return f"{where}: unknown key; known keys: {', '.join(known)}"
    if first["type"] == "combination":
        return first["msg"] if where == "top level" else f"{where}.{first['msg']}"
    value, hint = first["input"], ""
    if first["type"] == "float_type" and isinstance(value, str) and _is_number(value):
        hint = "; YAML takes 1e-4 for text, write 1.0e-4"
    return f"{where} = {value!r}: {first['msg']}{hint}{_meaning(kind, path)}"


def _step(part: str | int) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    return f".{part}" if part.isprintable() else f".{part!r}"


def _meaning(kind: type[Section], path: Sequence[str | int]) -> str:
    found = _schema_at(kind, path)[1]
    return f" ({found})" if found else ""


def _schema_at(kind: type[Section], path: Sequence[str | int]) -> tuple[JsonDict, str]:
    """The JSON schema at a key, and the description nearest to it."""
    root = kind.model_json_schema()
    schema, description = root, ""
    for part in path:
        items = schema.get("prefixItems", [{}])[0] if "prefixItems" in schema else {}
        inner = schema.get("items", items) if isinstance(part, int) else {}
        if not isinstance(part, int):
            others = [*schema.get("patternProperties", {}).values()]
            others.append(schema.get("additionalProperties", {}))
            inner = schema.get("properties", {}).get(part, others[0])
        inner = inner if isinstance(inner, dict) else {}
        description = inner.get("description", description)
        inner = next((one for one in inner.get("anyOf", []) if one.get("type") != "null"), inner)
        schema = root["$defs"][inner["$ref"].rpartition("/")[2]] if "$ref" in inner else inner
    return schema, description


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
