"""Tidy tables over all runs: metrics.csv (a row per run and step), evaluations.csv and scores.csv.gz.

The last two are long: a row per run, split and score, and per problem.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from sspo.config.names import BASE, MAIN, base_place
from sspo.config.reading import load_json
from sspo.data.problems import read_jsonl
from sspo.evidence.intervals import mean_interval, proportion_interval
from sspo.pipeline.provenance import write_record
from sspo.pipeline.script import run

SHARES = ("greedy", "pass@", "maj@", "truncated")
SCORES = ("pass@1", "greedy")  # kept problem by problem, for intervals over problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="folder of the results")
    parser.add_argument("--output", type=Path, required=True, help="folder for the tables")
    parser.add_argument("--runs", nargs="+", required=True, help="names of the runs")
    arguments = parser.parse_args()
    evaluation = arguments.results / "evaluation" / "config.json"
    pools = load_json(evaluation)["evaluation"]["pools"]
    folders = {name: arguments.results / "runs" / name for name in arguments.runs}
    configs = {name: load_json(folder / "config.json") for name, folder in folders.items()}

    steps = [tag(configs[name], row) for name in folders for row in read_metrics(folders[name])]
    pd.DataFrame(steps).to_csv(arguments.output / "metrics.csv", index=False)
    bases = {base_place(config["base"]): config["base"] for config in configs.values()}
    evaluated = {place: arguments.results / place for place in bases} | folders
    for place, base in bases.items():
        configs[place] = {"run": place, "method": BASE, "seed": 0, "regime": MAIN, "base": base}
    scores = {
        name: pooled(problem_rows(folder / "scores.csv.gz"), pools)
        for name, folder in evaluated.items()
    }
    summaries = {name: load_json(folder / "eval.json") for name, folder in evaluated.items()}
    rows = [
        tag(configs[name], row | missing(summaries[name], row["split"]))
        for name in evaluated
        for row in intervals(scores[name])
    ]
    pd.DataFrame(rows).to_csv(arguments.output / "evaluations.csv", index=False)
    long = pd.concat([frame.assign(**tag(configs[name], {})) for name, frame in scores.items()])
    long = long[long["metric"].isin(SCORES)]
    compression = {"method": "gzip", "mtime": 0}  # no time stamp: one config, one file
    long.to_csv(arguments.output / "scores.csv.gz", index=False, compression=compression)

    files = ("eval.json", "scores.csv.gz")
    inputs = [evaluation, *(folder / f for folder in evaluated.values() for f in files)]
    for folder in folders.values():
        inputs += [folder / f for f in ("config.json", "metrics.jsonl")]
    outputs = ("metrics.csv", "evaluations.csv", "scores.csv.gz")
    write_record(
        arguments.output / "provenance.json",
        __file__,
        inputs=inputs,
        outputs=[arguments.output / name for name in outputs],
        seeds={config["seed"] for config in configs.values()},
        runs=list(folders),
    )


def tag(config: dict, row: dict) -> dict:
    """The row with what identifies its run in front."""
    return {key: config[key] for key in ("run", "method", "regime", "base", "seed")} | row


def missing(summary: dict, split: str) -> dict:
    """How many problems of a split were left out of the data, where any were."""
    count = summary.get("left_out", {}).get(split)
    return {"left_out": count} if count else {}


def read_metrics(folder: Path) -> list[dict]:
    return read_jsonl(folder / "metrics.jsonl")


def problem_rows(path: Path) -> pd.DataFrame:
    """Every problem's scores: split, problem, metric, score."""
    wide = pd.read_csv(path, dtype={"split": str, "problem": str}, keep_default_na=False)
    long = wide.set_index(["split", "problem"]).rename_axis("metric", axis="columns").stack()
    return long.rename("score").reset_index()


def pooled(scores: pd.DataFrame, pools: dict[str, list[str]]) -> pd.DataFrame:
    """The scores, and again those of every pool's splits under its name; every problem counts once."""
    frames = [scores]
    for name, splits in pools.items():
        part = scores[scores["split"].isin(splits)]
        frames.append(part.assign(split=name, problem=part["split"] + "/" + part["problem"]))
    return pd.concat(frames, ignore_index=True)


def intervals(scores: pd.DataFrame) -> list[dict]:
    """Mean and 95 % interval over problems of every score, split by split."""
    rows = []
    for (split, metric), part in scores.groupby(["split", "metric"], sort=False):
        if metric.startswith(SHARES):
            interval = proportion_interval(part["score"], np.random.default_rng(0))
        else:
            interval = mean_interval(part["score"])
        values = {"value": interval.mean, "low": interval.low, "high": interval.high}
        rows.append({"split": split, "metric": metric, **values})
    return rows


if __name__ == "__main__":
    run(main)
