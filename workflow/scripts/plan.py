"""Print what an experiment costs: jobs, tokens, hours, memory and disk; refuse what cannot fit."""

import argparse
import sys
from pathlib import Path

from sspo.config.errors import ConfigError
from sspo.pipeline.script import run
from sspo.planning.jobs import Job, Rates, by_kind, hours, sampled_tokens, trained_tokens
from sspo.planning.memory import disk_bytes, gib, largest_job, total
from sspo.planning.plan import Planned, parse_cores, read_plan

BUSY = 1.2  # a step this many times as long as its own work is worth a word


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, nargs="+", required=True, help="profiles to merge")
    parser.add_argument("--rates", type=Path, required=True, help="what measure_step.py wrote")
    parser.add_argument("--cores", default="all", help="as Snakemake is given")
    parser.add_argument("--gpus", type=int, help="as Snakemake is given, if it is")
    arguments = parser.parse_args()
    planned = read_plan(arguments.config, parse_cores(arguments.cores), arguments.gpus)
    rates = planned.rates(arguments.rates)
    print_jobs(planned, rates)
    print_time(planned, rates)
    print_memory(planned, rates)
    print_disk(planned)
    for reason in planned.refusals[:-1]:
        print(f"error: {planned.profile}: {reason}", file=sys.stderr)
    if planned.refusals:
        raise ConfigError(f"{planned.profile}: {planned.refusals[-1]}")


def print_jobs(planned: Planned, rates: Rates | None) -> None:
    """A row per kind of job and regime, tokens and hours with every response at its cap."""
    layout = "{:<28} {:>5} {:>11} {:>15} {:>15} {:>9}"
    print(f"{planned.profile}: jobs, and tokens and hours if every response has its longest length")
    print(layout.format("", "jobs", "responses", "sampled tokens", "trained tokens", "hours"))
    rows = {" ".join(key).strip(): group for key, group in by_kind(planned.jobs).items()}
    for name, jobs in [*rows.items(), ("all", planned.jobs)]:
        cells = (
            f"{sum(job.work.sampled for job in jobs):,}",
            f"{sampled_tokens(jobs):,}",
            f"{trained_tokens(jobs):,}",
            f"{serial_hours(planned, rates, jobs):.2f}" if rates else "",
        )
        print(layout.format(name, len(jobs), *cells))
    if planned.uncounted:
        print(f"not counted, as the data are not here yet: {', '.join(planned.uncounted)}")
    print("not counted: exact study, tables, figures")


def print_time(planned: Planned, rates: Rates | None) -> None:
    """Hours one after another and side by side, at most and at the length that was measured."""
    if rates is None:
        print(f"time: not calibrated: {planned.obstacle or 'no step was measured'}")
        return
    print(f"time: at most {spell(planned, rates)}")
    if rates.learned:
        shown = spell(planned, rates, rates.response_tokens)
        print(f"  at {rates.response_tokens:.0f} tokens a response, as measured: {shown}")
    print(
        f"  measured: {rates.sampled_per_second:,.0f} sampled and {rates.trained_per_second:,.0f} "
        f"trained tokens/s of one job, {rates.start_seconds:.1f} s to start"
    )
    if rates.slowdown > BUSY:
        print(
            f"  other work made that step {rates.slowdown:.1f} times as long; hours are without it"
        )


def spell(planned: Planned, rates: Rates, length: float = float("inf")) -> str:
    serial = serial_hours(planned, rates, planned.jobs, length)
    if planned.machine.device != "cpu":
        return f"{serial:.2f} GPU hours"
    return f"{serial:.2f} hours, {serial / planned.at_once:.2f} with {planned.at_once} jobs at once"


def serial_hours(
    planned: Planned, rates: Rates, jobs: list[Job], length: float = float("inf")
) -> float:
    parameters = {base: size.parameters for base, size in planned.sizes.items()}
    return hours(jobs, rates, parameters, length)


def print_memory(planned: Planned, rates: Rates | None) -> None:
    """The job that needs most, what it holds, and what there is."""
    for base in sorted({job.base for job in planned.jobs} - planned.sizes.keys()):
        source = planned.configs[base]["checkpoint"]["source"]
        print(
            f"unknown size: {base} ({source}) is not on this machine; its memory, disk are left out"
        )
    largest = largest_job(planned.jobs, planned.sizes, planned.machine)
    if largest is None:
        return
    job, parts = largest
    memory, device = planned.machine.memory, planned.machine.device
    has = gib(memory) if memory else "not here, so memory is not compared"
    at_once = f", {planned.at_once} at once {gib(planned.at_once * total(parts))}"
    print(f"memory: at most {gib(total(parts))} ({job.kind} {job.place}){at_once}; {device}: {has}")
    held = sorted(parts, key=lambda part: -part.size)
    print("  " + ", ".join(f"{part.name} {gib(part.size)}" for part in held))
    if rates:
        print(f"  the measured step of {planned.first_run.place} held {rates.memory_gib:.2f} GiB")


def print_disk(planned: Planned) -> None:
    needed = disk_bytes(planned.jobs, planned.sizes, planned.at_once)
    parts = ", ".join(f"{name} {gib(size)}" for name, size in needed.items())
    print(f"disk: {gib(sum(needed.values()))} ({parts}); room: {gib(planned.machine.disk)}")


if __name__ == "__main__":
    run(main)
