"""How long a finished pipeline would take with other numbers of cores, from what its jobs took.

    python benchmarks/cores.py --config config/default.yaml --results results --output results/bench

The graph is Snakemake's own (``--dag``), a job's seconds are those of its benchmark file, and a job starts
as soon as its inputs are there and a core is free, the ones with the longest work behind them first. No
schedule can be faster than the bound: all work over the cores, or the longest chain of jobs.
"""

from __future__ import annotations

import argparse
import heapq
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from processes import seconds_of
from setting import write

NODE = re.compile(r'^\s*(\d+)\[label = "([^"]*)"', re.MULTILINE)
EDGE = re.compile(r"^\s*(\d+) -> (\d+)", re.MULTILINE)
UNMEASURED = 0.5  # seconds of a job without a benchmark file, such as writing a config
CORES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

Jobs = Mapping[str, float]  # number of a job -> seconds
Edges = Mapping[str, set[str]]  # number of a job -> those that wait for it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True, help="a profile that has run")
    parser.add_argument("--results", type=Path, required=True, help="its results")
    parser.add_argument("--output", type=Path, required=True, help="folder for cores.json")
    paths = parser.parse_args()
    command = ["snakemake", "--forceall", "--dag", "--cores", "1", "--configfile", paths.config]
    graph = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    jobs = {number: seconds(label, paths.results) for number, label in NODE.findall(graph)}
    after: dict[str, set[str]] = {number: set() for number in jobs}
    for first, second in EDGE.findall(graph):
        after[first].add(second)
    work, longest = sum(jobs.values()), max(behind(jobs, after).values())
    rows = []
    for cores in CORES:
        wall = simulated(jobs, after, cores)
        bound = max(work / cores, longest)
        rows.append({"cores": cores, "wall_s": wall, "bound_s": bound, "speed_up": work / wall})
    write(paths.output, "cores", [{"jobs": len(jobs), "work_s": work, "longest_s": longest}, *rows])


def seconds(label: str, results: Path) -> float:
    """Seconds of a job: its label is the rule and, on further lines, its wildcards."""
    rule, *wildcards = label.split(r"\n")
    values = [wildcard.partition(": ")[2] for wildcard in wildcards]
    names = ["/".join([rule, *values]), "/".join([rule.removesuffix("_control"), *values]), rule]
    files = [results / "benchmarks" / f"{name}.tsv" for name in names]
    return next((seconds_of(file) for file in files if file.is_file()), UNMEASURED)


def behind(jobs: Jobs, after: Edges) -> dict[str, float]:
    """Seconds of the longest chain that begins with each job, itself included."""
    found: dict[str, float] = {}

    def visit(job: str) -> float:
        if job not in found:
            found[job] = jobs[job] + max(map(visit, after[job]), default=0.0)
        return found[job]

    for job in jobs:
        visit(job)
    return found


def simulated(jobs: Jobs, after: Edges, cores: int) -> float:
    """Seconds until the last job is done."""
    chains = behind(jobs, after)
    waits = {job: sum(job in followers for followers in after.values()) for job in jobs}
    ready = [(-chains[job], job) for job, count in waits.items() if not count]
    heapq.heapify(ready)
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < cores:
            _, job = heapq.heappop(ready)
            heapq.heappush(running, (now + jobs[job], job))
        now, done = heapq.heappop(running)
        for job in after[done]:
            waits[job] -= 1
            if not waits[job]:
                heapq.heappush(ready, (-chains[job], job))
    return now


if __name__ == "__main__":
    main()
