"""Write the page of results that the report opens on: verdicts, figures, tables, environment, settings."""

import argparse
import os
from pathlib import Path

from jinja2 import Template

from sspo.config.reading import load_json
from sspo.figures.command import read_frame
from sspo.figures.overview import (
    as_yaml,
    environment_rows,
    figure_part,
    split_verdicts,
    table_part,
)
from sspo.pipeline.files import write_bytes
from sspo.pipeline.provenance import write_record
from sspo.pipeline.script import run

PATHS = {
    "claims": "claims.md",
    "environment": "environment.json",
    "settings": "settings of the profile",
    "runs": "runs.csv, for the names of the runs",
    "curves": "the interactive page, to link to",
    "template": "Jinja template of the page",
    "output": "the HTML to write",
}
LISTS = {
    "figures": "PNG files in the order to show, the most important one first",
    "tables": "Markdown files in the order to show",
    "captions": "reStructuredText of the figures and then of the tables",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, text in PATHS.items():
        parser.add_argument(f"--{name}", type=Path, required=True, help=text)
    for name, text in LISTS.items():
        parser.add_argument(f"--{name}", type=Path, required=True, nargs="+", help=text)
    parser.add_argument("--titles", required=True, nargs="+", help="of the same")
    given = parser.parse_args()
    shown = zip([*given.figures, *given.tables], given.titles, given.captions, strict=True)
    parts = [
        (figure_part if file in given.figures else table_part)(file, title, caption.read_text())
        for file, title, caption in shown
    ]
    verdicts, comparisons = split_verdicts(given.claims.read_text(encoding="utf-8"))
    page = Template(given.template.read_text(encoding="utf-8"), autoescape=True)
    text = page.render(
        verdicts=verdicts,
        comparisons=comparisons,
        figures=parts[: len(given.figures)],
        tables=parts[len(given.figures) :],
        environment=environment_rows(load_json(given.environment)),
        settings=as_yaml(load_json(given.settings)),
        runs=list(read_frame(given.runs)["run"]),
        curves=given.curves,
        link=lambda path: os.path.relpath(path, given.output.parent),
    )
    write_bytes(given.output, text.encode())
    write_record(
        given.output.with_suffix(".provenance.json"),
        __file__,
        inputs=[
            *(getattr(given, name) for name in PATHS if name not in ("curves", "output")),
            *(file for name in LISTS for file in getattr(given, name)),
        ],
        outputs=[given.output],
    )


if __name__ == "__main__":
    run(main)
