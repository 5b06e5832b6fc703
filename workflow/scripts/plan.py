"""Print what an experiment costs: jobs, tokens, hours, memory and disk; refuse what cannot fit.

Hours come from one step of the first run, measured first unless --rates holds it for this configuration
and machine already. Where the device, the base model or the data are missing, there are no hours.
"""

import argparse
import os
import sys
from pathlib import Path

from sspo.config.errors import ConfigError
from sspo.config.reading import plain
from sspo.pipeline.files import write_json
from sspo.pipeline.script import run
from sspo.planning.calibration import calibrate
from sspo.planning.cost import Cost, read_cost
from sspo.planning.jobs import EVALUATE, LONGEST, Job, Rates, by_kind, hours, tokens
from sspo.planning.memory import by_memory, disk_bytes, gib, total

ROW = "{:<28} {:>5} {:>11} {:>15} {:>15} {:>9}"
SMALL = 0.01  # a part of less than this share of a job's memory is not shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, nargs="+", required=True, help="profiles to merge")
    parser.add_argument("--rates", type=Path, required=True, help="what was measured, or will be")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="as Snakemake is given")
    parser.add_argument("--gpus", type=int, default=1, help="as Snakemake is given")
    arguments = parser.parse_args()
    cost = read_cost(arguments.config, arguments.cores, arguments.gpus)
    rates = cost.rates(arguments.rates)
    if rates is None and not cost.obstacle:
        print(f"measuring one step of {cost.first_run.place} ...", flush=True)
        rates = calibrate(cost)
        write_json(arguments.rates, {"rates": plain(rates), "measured": cost.measured})
    print_jobs(cost, rates)
    print_time(cost, rates)
    print_memory(cost, rates)
    print_disk(cost)
    for reason in cost.refusals[:-1]:
        print(f"error: {cost.profile}: {reason}", file=sys.stderr)
    if cost.refusals:
        raise ConfigError(f"{cost.profile}: {cost.refusals[-1]}")


def print_jobs(cost: Cost, rates: Rates | None) -> None:
    """A row per kind of job and regime, tokens and hours with every response at its cap."""
    print(f"{cost.profile}: jobs, and tokens and hours if every response has its longest length")
    print(ROW.format("", "jobs", "responses", "sampled tokens", "trained tokens", "hours"))
    for name, jobs in {**by_kind(cost.jobs), "all": cost.jobs}.items():
        counts = (sum(job.sampled for job in jobs), *tokens(jobs))
        spent = f"{serial(cost, rates, jobs):.2f}" if rates else ""
        print(ROW.format(name, len(jobs), *(f"{count:,}" for count in counts), spent))
    if unknown := [job for job in cost.jobs if job.kind == EVALUATE and not job.sampled]:
        print(f"not counted, as the data are not here yet: responses of {len(unknown)} evaluations")
    print("not counted: exact study, tables, figures")


def print_time(cost: Cost, rates: Rates | None) -> None:
    """Hours one after another and side by side, at most and at the length that was measured."""
    if rates is None:
        print(f"time: not calibrated: {cost.obstacle}")
        return
    print(f"time: at most {spell(cost, rates)}")
    if rates.learned:
        shown = spell(cost, rates, rates.response_tokens)
        print(f"  at {rates.response_tokens:.0f} tokens a response, as measured: {shown}")
    print(
        f"  measured: {rates.sampled_per_second:,.0f} sampled and {rates.trained_per_second:,.0f} "
        f"trained tokens/s of one job, {rates.start_seconds:.1f} s to start"
    )


def spell(cost: Cost, rates: Rates, length: float = LONGEST) -> str:
    spent = serial(cost, rates, cost.jobs, length)
    if cost.machine.device != "cpu":
        return f"{spent:.2f} GPU hours"
    at_once = cost.machine.at_once
    return f"{spent:.2f} hours, {spent / at_once:.2f} with {at_once} jobs at once"


def serial(cost: Cost, rates: Rates, jobs: list[Job], length: float = LONGEST) -> float:
    return hours(jobs, rates, {b: size.parameters for b, size in cost.sizes.items()}, length)


def print_memory(cost: Cost, rates: Rates | None) -> None:
    """The job that needs most, what it holds, and what there is."""
    for base in sorted({job.base for job in cost.jobs} - cost.sizes.keys()):
        published = cost.configs[base]["checkpoint"]
        print(
            f"unknown size: {base} is not on this machine; its memory and disk are left out. `hf download "
            f"{published['source']} config.json --revision {published['revision']}` is enough for them"
        )
    for job, parts in by_memory(cost.jobs, cost.sizes, cost.machine)[:1]:
        memory, device, at_once = cost.machine.memory, cost.machine.device, cost.machine.at_once
        has = gib(memory) if memory else "not here, so memory is not compared"
        together = f"{at_once} at once {gib(at_once * total(parts))}"
        print(
            f"memory: at most {gib(total(parts))} ({job.kind} {job.place}), {together}; {device}: {has}"
        )
        held = sorted((p for p in parts if p.size > SMALL * total(parts)), key=lambda p: -p.size)
        print("  " + ", ".join(f"{part.name} {gib(part.size)}" for part in held))
    if rates:
        print(f"  the measured step of {cost.first_run.place} held {rates.memory_gib:.2f} GiB")


def print_disk(cost: Cost) -> None:
    needed = disk_bytes(cost.jobs, cost.sizes, cost.machine.at_once)
    parts = ", ".join(f"{name} {gib(size)}" for name, size in needed.items())
    print(f"disk: {gib(sum(needed.values()))} ({parts}); room: {gib(cost.machine.disk)}")


if __name__ == "__main__":
    run(main)
