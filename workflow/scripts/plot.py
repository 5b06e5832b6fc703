"""Draw one figure: PNG, PDF beside it, and a JSON record of what it was made from."""

import argparse
from pathlib import Path

import pandas as pd

from sspo.config.errors import ConfigError
from sspo.config.reading import load_json
from sspo.figures.registry import FIGURES, FrameError, save
from sspo.pipeline.provenance import write_record
from sspo.pipeline.script import run


def main() -> None:
    arguments = parse()
    if arguments.figure not in FIGURES:
        known = ", ".join(FIGURES)
        raise ConfigError(f"--figure {arguments.figure}: unknown; choose one of {known}")
    inputs = dict(arguments.inputs)
    frames = {name: read_frame(path) for name, path in inputs.items()}
    try:
        figure = FIGURES[arguments.figure](frames, load_json(arguments.methods))
    except FrameError as error:
        raise ConfigError(f"{inputs.get(error.frame, '--inputs')}: {error}") from None
    stem = arguments.output.with_suffix("")
    save(figure, stem)
    write_record(
        stem.with_suffix(".json"),
        __file__,
        inputs=[arguments.methods, *inputs.values()],
        outputs=[stem.with_suffix(kind) for kind in (".png", ".pdf")],
        seeds=map(int, values_of("seed", frames)),
        figure=arguments.figure,
        runs=sorted(values_of("run", frames)),
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figure", required=True, help=f"one of {', '.join(FIGURES)}")
    parser.add_argument("--methods", required=True, help="JSON: method -> label, color")
    parser.add_argument("--inputs", required=True, nargs="+", metavar="FRAME=CSV", type=pair)
    parser.add_argument("--output", required=True, type=Path, help="the PNG to write")
    return parser.parse_args()


def values_of(column: str, frames: dict[str, pd.DataFrame]) -> set:
    """The values of a column in all frames that have it."""
    return {v for frame in frames.values() if column in frame for v in frame[column].dropna()}


def pair(text: str) -> tuple[str, str]:
    """FRAME=CSV as (frame, path)."""
    name, sign, path = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"{text!r}: write FRAME=CSV, e.g. metrics=metrics.csv")
    return name, path


def read_frame(path: str) -> pd.DataFrame:
    """A CSV file as a frame; a file without a header is a frame without rows."""
    try:
        # A setting may be called "None": only these three mean a missing value.
        return pd.read_csv(path, keep_default_na=False, na_values=["", "nan", "NaN"])
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except FileNotFoundError:
        raise ConfigError(f"{path}: file missing; run the rule that makes it") from None


if __name__ == "__main__":
    run(main)
