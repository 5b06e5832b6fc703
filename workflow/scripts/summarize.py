"""Tidy tables over all runs: metrics.csv (a row per run and step) and evaluations.csv (long)."""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd

from sspo.cli import run
from sspo.config import load_json
from sspo.datasets import read_jsonl
from sspo.evaluation import problem_scores
from sspo.provenance import write_record
from sspo.statistics import mean_interval, proportion_interval

SHARES = ("greedy", "pass@", "maj@", "truncated")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="folder of the results")
    parser.add_argument("--output", type=Path, required=True, help="folder for the tables")
    parser.add_argument("--runs", nargs="+", required=True, help="names of the runs")
    arguments = parser.parse_args()
    evaluation = arguments.results / "evaluation" / "config.json"
    pass_at = load_json(evaluation)["evaluation"]["pass_at"]
    folders = {name: arguments.results / "runs" / name for name in arguments.runs}
    configs = {name: load_json(folder / "config.json") for name, folder in folders.items()}

    steps = [tag(configs[name], row) for name in folders for row in read_metrics(folders[name])]
    pd.DataFrame(steps).to_csv(arguments.output / "metrics.csv", index=False)
    base = {"run": "base", "method": "base", "seed": 0}
    rows = [tag(base, row) for row in evaluate(arguments.results / "base", pass_at)]
    for name, folder in folders.items():
        rows += [tag(configs[name], row) for row in evaluate(folder, pass_at)]
    pd.DataFrame(rows).to_csv(arguments.output / "evaluations.csv", index=False)

    inputs = [evaluation, arguments.results / "base" / "completions.jsonl.gz"]
    for folder in folders.values():
        inputs += [folder / f for f in ("config.json", "metrics.jsonl", "completions.jsonl.gz")]
    write_record(
        arguments.output / "provenance.json",
        __file__,
        inputs=inputs,
        outputs=[arguments.output / name for name in ("metrics.csv", "evaluations.csv")],
        seeds={config["seed"] for config in configs.values()},
        runs=list(folders),
    )


def tag(config: dict, row: dict) -> dict:
    """The row with its run, method and seed in front."""
    return {key: config[key] for key in ("run", "method", "seed")} | row


def read_metrics(folder: Path) -> list[dict]:
    return read_jsonl(folder / "metrics.jsonl")


def evaluate(folder: Path, pass_at: list[int]) -> list[dict]:
    """Mean and 95 % interval over problems of every score, split by split."""
    scores: dict[tuple[str, str], list[float]] = defaultdict(list)
    for record in read_jsonl(folder / "completions.jsonl.gz"):
        for metric, score in problem_scores(record, pass_at).items():
            scores[record["split"], metric].append(score)
    rows = []
    for (split, metric), values in scores.items():
        if metric.startswith(SHARES):
            interval = proportion_interval(values, np.random.default_rng(0))
        else:
            interval = mean_interval(values)
        rows.append(
            {
                "split": split,
                "metric": metric,
                "value": interval.mean,
                "low": interval.low,
                "high": interval.high,
            }
        )
    return rows


if __name__ == "__main__":
    run(main)
