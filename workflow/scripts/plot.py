"""Draw one figure: PNG, PDF beside it, and a JSON record of what it was made from."""

import argparse
from pathlib import Path

import pandas as pd

from sspo.cli import run
from sspo.config import ConfigError, load_json
from sspo.files import write_json
from sspo.plotting import FIGURES, FrameError, save
from sspo.provenance import provenance


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
    runs = {name for frame in frames.values() if "run" in frame for name in frame["run"].dropna()}
    made_from = [arguments.methods, *inputs.values()]
    record = provenance(made_from, figure=arguments.figure, runs=sorted(runs))
    write_json(stem.with_suffix(".json"), record)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figure", required=True, help=f"one of {', '.join(FIGURES)}")
    parser.add_argument("--methods", required=True, help="JSON: method -> label, color")
    parser.add_argument("--inputs", required=True, nargs="+", metavar="FRAME=CSV", type=pair)
    parser.add_argument("--output", required=True, type=Path, help="the PNG to write")
    return parser.parse_args()


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
