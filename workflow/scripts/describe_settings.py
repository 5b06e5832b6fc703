"""Write what is made from the settings: the JSON Schema for editors, and the table of all keys."""

from sspo.config.describe import json_schema, settings_table
from sspo.config.yaml_files import read_yaml
from sspo.pipeline.files import write_bytes, write_json
from sspo.pipeline.script import parse_paths, run

HEAD = """# Every setting

A profile is a YAML file in `config/`, merged over `config/default.yaml`; it holds only what it changes.
This table is made from the pydantic models in `src/sspo/config` by `make schema`, and so is the JSON Schema
in `workflow/schemas/config.schema.json` that editors complete and check profiles with.

"""


def main() -> None:
    paths = parse_paths(
        __doc__, default="default profile", schema="JSON to write", table="Markdown to write"
    )
    write_json(paths.schema, json_schema())
    write_bytes(paths.table, (HEAD + settings_table(read_yaml(paths.default))).encode())


if __name__ == "__main__":
    run(main)
