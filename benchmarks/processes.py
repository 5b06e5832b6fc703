"""Time the start of a process and two runs side by side; (f) find the share of a pipeline that is work.

- start: seconds from a fresh interpreter until the policy can be used (imports, model, tokenizer).
- parallel: tokens per second of two native workers at once over those of one alone; 2 is perfect.
- pipeline: seconds of all jobs (Snakemake's benchmark files) over wall seconds times cores, for a fresh
  run of a profile in a temporary folder.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from batch import throughput
from setting import Setting, spread, write

START = """
import sspo.training.setup, sspo.training.trainer
from sspo.models.policy import load_model, load_tokenizer
load_model({0!r}), load_tokenizer({0!r})
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="finished default pipeline")
    parser.add_argument("--output", type=Path, required=True, help="folder for processes.json")
    parser.add_argument("--profile", default="smoke", help="profile of config to time")
    parser.add_argument("--rounds", type=int, default=5)
    paths = parser.parse_args()
    rows = []
    for measure in (
        lambda: start(paths.results, paths.rounds),
        lambda: parallel(paths.results, paths.rounds),
        lambda: pipeline(paths.profile),
    ):
        rows.append(measure())
        write(paths.output, "processes", rows)


def start(results: Path, rounds: int) -> dict[str, object]:
    row: dict[str, object] = {"measure": "start"}
    folder = str(Setting(results).model)
    for name, code in (("torch_only", "import torch"), ("policy_ready", START.format(folder))):
        seconds = []
        for _ in range(rounds):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
            seconds.append(time.perf_counter() - began)
        row[f"{name}_s"] = spread(seconds)
    return row


def parallel(results: Path, rounds: int) -> dict[str, object]:
    def one(_: int) -> float:
        return throughput("native", results, "start", 1, 12)

    gains = []
    for _ in range(rounds):
        alone = one(0)
        with ThreadPoolExecutor(2) as pool:
            gains.append(sum(pool.map(one, range(2))) / alone)
    return {"measure": "parallel", "speed_of_two_over_one": spread(gains)}


def pipeline(profile: str) -> dict[str, object]:
    """Seconds of all jobs and wall seconds of a fresh run."""
    cores = os.cpu_count() or 1
    root = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "clone", "--quiet", root, folder], check=True)
        environment = os.environ | {"PYTHONPATH": str(Path(folder, "src"))}
        command = ["snakemake", "--cores", str(cores), "--configfile"]
        command.append(f"config/{profile}.yaml")
        began = time.perf_counter()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"error: the {profile} pipeline failed: {done.stderr[-2000:]}")
        wall = time.perf_counter() - began
        files = sorted(Path(folder).glob("results/**/benchmarks/**/*.tsv"))
        work = sum(seconds_of(file) for file in files)
    return {
        "measure": "pipeline",
        "profile": profile,
        "cores": cores,
        "jobs": len(files),
        "wall_s": wall,
        "work_s": work,
        "work_over_wall_times_cores": work / (wall * cores),
    }


def seconds_of(file: Path) -> float:
    """Wall seconds of a job, from its benchmark file."""
    with open(file, encoding="utf-8") as lines:
        return sum(float(row["s"]) for row in csv.DictReader(lines, delimiter="\t"))


if __name__ == "__main__":
    main()
