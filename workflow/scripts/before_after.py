"""What one run changed: curves and sample answers in a figure, accuracy before and after in a table."""

import gzip
import json
from pathlib import Path

import pandas as pd

from sspo.config.reading import load_json
from sspo.data.problems import read_problems
from sspo.figures.before_after import accuracy_table, answers_to_show, draw_before_after
from sspo.figures.style import save
from sspo.pipeline.files import write_bytes
from sspo.pipeline.provenance import write_record
from sspo.pipeline.script import parse_paths, run


def main() -> None:
    paths = parse_paths(
        __doc__,
        metrics="metrics.jsonl of the run",
        config="config of the run",
        looks="labels and colours of methods",
        before="completions of the base model",
        after="completions of the run's model",
        problems="the split whose first problems are shown",
        output="the PNG to write",
        table="the Markdown table to write",
    )
    look = load_json(paths.looks)[load_json(paths.config)["method"]]
    graded = {"before": completions(paths.before), "after": completions(paths.after)}
    splits = {s: {name: found[s] for name, found in graded.items()} for s in graded["before"]}
    shown = splits[paths.problems.stem]
    answers = answers_to_show(read_problems(paths.problems), shown["before"], shown["after"])
    figure = draw_before_after(
        pd.read_json(paths.metrics, lines=True), answers, look["label"], look["color"]
    )
    files = save(figure, paths.output.with_suffix(""))
    write_bytes(paths.table, accuracy_table(splits).encode())
    inputs = (paths.metrics, paths.config, paths.looks, paths.before, paths.after, paths.problems)
    write_record(
        paths.output.with_suffix(".json"), __file__, inputs=inputs, outputs=[*files, paths.table]
    )


def completions(file: Path) -> dict[str, list[dict]]:
    """Split -> records of a ``completions.jsonl.gz``."""
    found: dict[str, list[dict]] = {}
    for line in gzip.decompress(file.read_bytes()).decode().splitlines():
        record = json.loads(line)
        found.setdefault(record["split"], []).append(record)
    return found


if __name__ == "__main__":
    run(main)
