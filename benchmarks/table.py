"""Gather the benchmark results in one file and print them as the table of docs/performance.md."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sspo.pipeline.provenance import provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, required=True, help="folder of the results")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    paths = parser.parse_args()
    names = ("batch", "kernels", "memory", "processes", "determinism")
    files = {name: paths.input / f"{name}.json" for name in names}
    results = {name: json.loads(file.read_text()) for name, file in files.items()}
    results["kernels"] = [kernel(b) for b in results["kernels"]["benchmarks"]]
    record = {**results, "provenance": provenance(list(files.values()))}
    paths.output.write_text(json.dumps(record, indent=1) + "\n")
    print("\n".join(rows(results)))


def kernel(benchmark: dict) -> dict[str, object]:
    """Name, seconds (median, smallest, largest), and what the benchmark reports besides."""
    stats = benchmark["stats"]
    times = {f"{key}_s": stats[key] for key in ("median", "min", "max")}
    row = {"name": benchmark["name"], "rounds": stats["rounds"], **times, **benchmark["extra_info"]}
    if "tokens" in row:
        row["tokens_per_s"] = row["tokens"] / stats["median"]
    return row


def rows(results: dict) -> list[str]:
    """The lines of the Markdown table."""
    lines = ["| What | Median | Smallest - largest |", "|---|---|---|"]
    for b in results["batch"]:
        where = f"policy at {b['policy']} of training, {b['threads']} thread(s)"
        for key, title in (
            ("trl_tokens_per_s", "TRL, tokens/s"),
            ("native_tokens_per_s", "native, tokens/s"),
            ("native_over_trl", "**native over TRL**"),
            ("scored_tokens_per_s", "native, `old_logprobs: policy`, tokens/s"),
            ("scored_over_trl", "**native, `old_logprobs: policy`, over TRL**"),
        ):
            digits = 2 if key.endswith("over_trl") else 0
            lines.append(line(f"RL batch, {where}: {title}", b[key], digits))
    for k in results["kernels"]:
        spread = {key: 1e3 * k[f"{key}_s"] for key in ("median", "min", "max")}
        rate = f" ({k['tokens_per_s']:,.0f} tokens/s)" if "tokens_per_s" in k else ""
        share = f", {k['fraction']:.0%} of the matmul rate" if "fraction" in k else ""
        lines.append(line(f"{k['name']}{rate}{share}, ms", spread, 1))
    for p in results["processes"]:
        for key, value in p.items():
            if isinstance(value, dict):
                lines.append(line(f"{p['measure']}: {key}", value, 2))
            elif isinstance(value, float):
                lines.append(f"| {p['measure']}: {key} | {value:.2f} | |")
    return lines


def line(title: str, spread: dict[str, float], digits: int) -> str:
    median, low, high = (f"{spread[k]:,.{digits}f}" for k in ("median", "min", "max"))
    return f"| {title} | {median} | {low} - {high} |"


if __name__ == "__main__":
    main()
