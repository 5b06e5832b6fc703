"""What the scripts share that draw a figure or write a table."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from sspo.config.errors import ConfigError
from sspo.config.reading import load_json
from sspo.figures.registry import load, module_of
from sspo.pipeline.provenance import write_record


def parser(description: str, output: str) -> argparse.ArgumentParser:
    """The arguments of both scripts; the output's name says which figure or table is made."""
    command = argparse.ArgumentParser(description=description)
    command.add_argument("--methods", required=True, type=Path, help="JSON: method -> label, color")
    command.add_argument("--inputs", required=True, nargs="+", type=Path, help="CSV files")
    command.add_argument("--output", required=True, type=Path, help=output)
    return command


def make(
    arguments: argparse.Namespace, script: str, known: Iterable[str], save: Callable, *more: Path
) -> None:
    """Make a figure or table, and the record of what it was made from, ``more`` inputs included."""
    name = arguments.output.stem
    if name not in known:
        raise ConfigError(f"--output {arguments.output}: choose a name of {', '.join(known)}")
    frames = read_frames(arguments.inputs)
    made = load(name)(frames, load_json(arguments.methods))
    write_record(
        arguments.output.with_suffix(".json"),
        script,
        modules=[module_of(name)],
        inputs=[arguments.methods, *arguments.inputs, *more],
        outputs=save(made, arguments.output.with_suffix("")),
        seeds=map(int, values_of("seed", frames.values())),
        figure=name,
        runs=sorted(values_of("run", frames.values())),
    )


def read_frames(paths: Iterable[Path]) -> dict[str, pd.DataFrame]:
    """CSV files as frames by their names; those of one name, in different folders, as one frame."""
    parts: dict[str, list[pd.DataFrame]] = {}
    for path in paths:
        parts.setdefault(path.stem, []).append(read_frame(path))
    return {name: pd.concat(found, ignore_index=True) for name, found in parts.items()}


def values_of(column: str, frames: Iterable[pd.DataFrame]) -> set:
    """The values of a column in all frames that have it."""
    return {v for frame in frames if column in frame for v in frame[column].dropna()}


def read_frame(path: Path) -> pd.DataFrame:
    """A CSV file as a frame; a file without a header is a frame without rows."""
    try:
        # A setting may be called "None": only these three mean a missing value.
        return pd.read_csv(path, keep_default_na=False, na_values=["", "nan", "NaN"])
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except FileNotFoundError:
        raise ConfigError(f"{path}: file missing; run the rule that makes it") from None
