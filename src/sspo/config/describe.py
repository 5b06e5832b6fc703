"""The JSON Schema for editors, and the table of all keys in the docs: both are made from the settings."""

from __future__ import annotations

from collections.abc import Iterator

from sspo.config.profile import Profile
from sspo.config.reading import JsonDict

LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minItems": "at least {} entries",
}


def json_schema() -> JsonDict:
    """The schema of a profile. No key is required: a profile holds only what it changes."""
    schema = Profile.model_json_schema()
    for part in (schema, *schema["$defs"].values()):
        part.pop("required", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def settings_table(default: JsonDict) -> str:
    """Every key of a profile as a Markdown table: what it holds, its default value, what it means.

    Args:
        default: the values of ``config/default.yaml``.
    """
    lines = ["| key | holds | default | meaning |", "|---|---|---|---|"]
    for key, part, meaning in _keys(json_schema(), json_schema()["$defs"], ""):
        found = _look_up(default, key)
        value = "" if found is None or isinstance(found, dict) else f"`{found}`"
        cells = (f"`{key}`", _holds(part), value, meaning)
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _keys(part: JsonDict, definitions: JsonDict, path: str) -> Iterator[tuple[str, JsonDict, str]]:
    """(key, its schema, its meaning) of every key that holds a value."""
    for name, given in part.get("properties", {}).items():
        inner = _resolved(given, definitions)
        key = f"{path}{name}"
        named = [*inner.get("patternProperties", {}).values()]
        entry = _resolved(named[0], definitions) if named else {}
        if "properties" in inner:
            yield from _keys(inner, definitions, f"{key}.")
        elif "properties" in entry:
            yield from _keys(entry, definitions, f"{key}.<name>.")
        else:
            yield key, inner, given.get("description", inner.get("description", ""))


def _resolved(part: JsonDict, definitions: JsonDict) -> JsonDict:
    part = next((one for one in part.get("anyOf", []) if one.get("type") != "null"), part)
    return definitions[part["$ref"].rpartition("/")[2]] if "$ref" in part else part


def _holds(part: JsonDict) -> str:
    """Type and range in words."""
    if "enum" in part:
        return ", ".join(f"`{choice}`" for choice in part["enum"])
    items = part.get("items") or next(iter(part.get("prefixItems", [])), None)
    name = str(part.get("type", ""))
    kind = {"array": "list", "object": "mapping"}.get(name, name)
    if items:
        kind += f" of {_holds(items)}"
    limits = [text.format(part[limit]) for limit, text in LIMITS.items() if limit in part]
    return ", ".join([kind, *limits])


def _look_up(values: JsonDict, key: str) -> object:
    found: object = values
    for part in key.split("."):
        if not isinstance(found, dict) or part not in found:
            return None
        found = found[part]
    return found
