"""YAML files as plain data, without what YAML lets pass in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from sspo.config.errors import ConfigError
from sspo.config.reading import JsonDict


class _UniqueKeys(yaml.CSafeLoader):
    """Refuses a key that is given twice, of which YAML would keep the last one in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is given twice; remove one", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path) -> JsonDict:
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file is missing, no YAML mapping, or gives a key twice.
    """
    try:
        values = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except (OSError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: cannot be read ({reason}); fix it") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds no keys; start it from default.yaml")
    return values
