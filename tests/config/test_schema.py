"""The generated schema gives every key a meaning and refuses unknown ones; the committed one is current."""

from __future__ import annotations

import json

import pytest

from sspo.config.describe import json_schema, settings_table
from support.paths import PROFILES, ROOT
from support.profiles import read

SCHEMA = json_schema()


def keys_of(schema: dict, path: str = ""):
    """(path, property) of everything a profile may hold, references resolved."""
    for name, part in schema.get("properties", {}).items():
        yield f"{path}{name}", part
        inner = next((one for one in part.get("anyOf", []) if one.get("type") != "null"), part)
        named = [*inner.get("patternProperties", {}).values()]
        for one, where in (
            (inner, f"{path}{name}."),
            *((n, f"{path}{name}.<name>.") for n in named),
        ):
            if "$ref" in one:
                yield from keys_of(SCHEMA["$defs"][one["$ref"].rpartition("/")[2]], where)


def test_every_key_has_a_meaning():
    found = [*keys_of(SCHEMA)]
    assert len(found) > 150
    sections = {path for path, part in found if "$ref" in part}  # described by their own keys
    assert [
        path for path, part in found if "description" not in part and path not in sections
    ] == []


def test_every_section_refuses_unknown_keys():
    assert all(part["additionalProperties"] is False for part in SCHEMA["$defs"].values())


def test_the_committed_schema_and_table_are_those_of_the_settings():
    committed = ROOT / "workflow" / "schemas" / "config.schema.json"
    assert json.loads(committed.read_text(encoding="utf-8")) == SCHEMA, "run `make schema`"
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert settings_table(read("default.yaml")) in page, "run `make schema`"


@pytest.mark.parametrize("profile", sorted(PROFILES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_profile_names_the_schema_for_editors(profile):
    first = profile.read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=../workflow/schemas/config.schema.json"
