"""Table T4: every setting that matters, its value, and where it comes from."""

import argparse
from pathlib import Path

import pandas as pd
import yaml

from sspo.cli import run
from sspo.config import load_json
from sspo.provenance import write_record

# Sections that say nothing where another one stands in their place.
REPLACED = {"task": "math_data", "model": "checkpoint", "pretrain": "checkpoint"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=Path, required=True, help="YAML: key -> source")
    parser.add_argument("--settings", type=Path, required=True, help="the experiment's settings")
    parser.add_argument("--output", type=Path, required=True, help="CSV to write")
    arguments = parser.parse_args()
    sources = yaml.safe_load(arguments.sources.read_text(encoding="utf-8"))
    settings = load_json(arguments.settings)
    shared = [("", key, look_up(settings, key), sources.get(key)) for key in shared_keys(sources)]
    rows = [row for row in shared if row[2] is not None]
    for method, entry in settings["methods"].items():
        source = sources.get(f"methods.{method}.params", "ours")
        changes = {
            k: v for k, v in entry.items() if k in ("trainer", "advantages", "rollout", "train")
        }
        rows.append((method, entry["objective"], show(entry["params"]), source))
        rows += [(method, section, show(values), "ours") for section, values in changes.items()]
    frame = pd.DataFrame(rows, columns=["method", "key", "value", "source"])
    frame.to_csv(arguments.output, index=False)
    write_record(
        arguments.output.with_suffix(".provenance.json"),
        __file__,
        inputs=[arguments.sources, arguments.settings],
        outputs=[arguments.output],
    )


def shared_keys(sources: dict[str, str]) -> list[str]:
    return [key for key in sources if not key.startswith("methods.")]


def look_up(settings: dict, key: str) -> str | None:
    """The value at a dotted key as text, or None when the experiment has no use for such a key."""
    value = settings
    if REPLACED.get(key.split(".")[0]) in settings:
        return None
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    return show(value)


def show(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {show(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(show, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    run(main)
