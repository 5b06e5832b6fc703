"""(a) Time RL batches of the default run in the native trainer and in TRL's GRPOTrainer.

Model, prompts, batch sizes, optimizer, lengths and threads are the same. Every measurement has a fresh
process. The kinds alternate, so that a busy moment of the machine slows all of them down. Throughput is
sampled response tokens divided by the seconds of rollout and updates together.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from setting import MODELS, spread, write

WARM_UP = 3  # rollouts that are not counted
# Kind -> worker script and where it gets the old log-probabilities (TRL's worker ignores that).
KINDS = {"trl": ("trl", ""), "native": ("native", "auto"), "scored": ("native", "policy")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="finished default pipeline")
    parser.add_argument("--output", type=Path, required=True, help="folder for batch.json")
    parser.add_argument("--rounds", type=int, default=5, help="processes of each kind")
    parser.add_argument("--rollouts", type=int, default=12, help="rollouts per process")
    paths = parser.parse_args()
    rows = []
    for threads in sorted({1, min(2, os.cpu_count() or 1)}):
        for policy in (name for name, place in MODELS.items() if (paths.results / place).is_dir()):
            rows.append(compare(paths.results, policy, threads, paths.rounds, paths.rollouts))
            write(paths.output, "batch", rows)


def compare(
    results: Path, policy: str, threads: int, rounds: int, rollouts: int
) -> dict[str, object]:
    """Tokens per second of each kind over alternating processes, and the native kinds' ratios to TRL."""
    speeds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind, values in speeds.items():
            values.append(throughput(kind, results, policy, threads, rollouts))
    row: dict[str, object] = {"policy": policy, "threads": threads}
    for kind, values in speeds.items():
        row[f"{kind}_tokens_per_s"] = spread(values)
        if kind != "trl":
            ratios = [n / t for n, t in zip(values, speeds["trl"], strict=True)]
            row[f"{kind}_over_trl"] = spread(ratios)
    return row


def throughput(kind: str, results: Path, policy: str, threads: int, rollouts: int) -> float:
    """Median tokens per second of one fresh process."""
    name, old_logprobs = KINDS[kind]
    worker = Path(__file__).with_name(f"worker_{name}.py")
    done = subprocess.run(
        [sys.executable, worker, results, policy, str(threads), str(rollouts), old_logprobs],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(f"error: {worker.name} failed: {done.stderr.strip().splitlines()[-1]}")
    measured = json.loads(done.stdout.strip().splitlines()[-1])
    pairs = zip(measured["tokens"], measured["seconds"], strict=True)
    return statistics.median([tokens / seconds for tokens, seconds in pairs][WARM_UP:])


if __name__ == "__main__":
    main()
