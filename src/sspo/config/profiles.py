"""A YAML configuration against the JSON schema: one line that names the key and the fix."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from sspo.config.errors import ConfigError
from sspo.config.reading import JsonDict


def check_config(config: Mapping[str, object], schema: str | Path, source: str) -> None:
    """Refuse a YAML configuration with unknown keys, wrong types or impossible values.

    What a further base model changes is checked as part of the configuration that it results in.

    Args:
        config: the merged configuration.
        schema: path of the JSON schema (as YAML).
        source: file name for the message.

    Raises:
        ConfigError: one line with file, key, value and fix.
    """
    rules = yaml.safe_load(Path(schema).read_text(encoding="utf-8"))
    values = plain(config)
    _check_finite(values, source)
    error = best_match(Draft202012Validator(rules).iter_errors(values))
    if error is not None:
        raise ConfigError(f"{source}: {_explain(error, rules)}")
    rest = {key: value for key, value in values.items() if key != "bases"}
    for name, changes in values.get("bases", {}).items():
        check_config(merged(rest, changes), schema, f"{source}: bases.{name}")


def read_profiles(paths: Sequence[str | Path]) -> JsonDict:
    """Profiles of ``config``, each over those before it, all over ``default.yaml``; checked.

    Raises:
        ConfigError: as ``check_config``; or the file is missing or no YAML mapping.
    """
    files, config = [Path(path) for path in paths], {}
    for file in (files[0].with_name("default.yaml"), *files):
        try:
            values = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"{file}: cannot be read ({reason}); fix it") from None
        if not isinstance(values, dict):
            raise ConfigError(f"{file}: holds no keys; start it from default.yaml")
        config = merged(config, values)
    schema = Path(__file__).resolve().parents[3] / "workflow" / "schemas" / "config.schema.yaml"
    check_config(config, schema, str(files[-1]))
    return config


def plain(value: object) -> object:
    """Nested plain dicts and lists, whatever mapping types the workflow engine hands over."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def merged(values: JsonDict, changes: JsonDict) -> JsonDict:
    """Mappings merge, anything else is replaced: as Snakemake does with several config files."""
    result = dict(values)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def _check_finite(value: object, source: str, where: str = "") -> None:
    """JSON has no NaN and no infinity, and a schema's ranges let NaN through."""
    if isinstance(value, dict):
        for key, inner in value.items():
            # An objective judges its own parameters: an infinite clip is no clip.
            if key != "params":
                _check_finite(inner, source, f"{where}.{key}" if where else key)
    elif isinstance(value, list):
        for inner in value:
            _check_finite(inner, source, where)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{source}: {where} = {value}: must be a finite number")


def _describe(rules: JsonDict, path: Iterable[str | int]) -> str | None:
    """The description nearest to a key: beside a reference it wins over the referenced one."""
    schema, description = rules, None
    for part in path:
        properties = {**_resolve(rules, schema), **schema}
        if isinstance(part, int):
            schema = properties.get("items", {})
        else:
            named = properties.get("properties", {})
            schema = named.get(part, properties.get("additionalProperties", {}))
        description = schema.get("description", _resolve(rules, schema).get("description"))
    return description


def _resolve(rules: JsonDict, schema: JsonDict) -> JsonDict:
    return rules["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else {}


def _explain(error: ValidationError, rules: JsonDict) -> str:
    """One line: where, what was found, what would be right."""
    where = ".".join(map(str, error.absolute_path)) or "top level"
    if error.validator == "additionalProperties":
        known = ", ".join(error.schema.get("properties", {}))
        return f"{where}: {error.message.splitlines()[0]}; known keys: {known}"
    if error.validator == "required":
        return f"{where}: {error.message}; add it"
    meaning = _describe(rules, error.absolute_path)
    return f"{where} = {error.instance!r}: {_expected(error)}" + (
        f" ({meaning})" if meaning else ""
    )


def _expected(error: ValidationError) -> str:
    wanted = error.validator_value
    phrases = {
        "minimum": f"must be at least {wanted}",
        "exclusiveMinimum": f"must be above {wanted}",
        "maximum": f"must be at most {wanted}",
        "exclusiveMaximum": f"must be below {wanted}",
        "type": f"must be of type {wanted}",
        "enum": f"must be one of {wanted}",
        "minItems": f"needs at least {wanted} entries",
        "pattern": f"must match {wanted}",
    }
    return phrases.get(error.validator, error.message.splitlines()[0])
