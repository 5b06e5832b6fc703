"""Measure one step of a plan's first run on this machine; writes the rates that plan.py reads.

Nothing is measured twice: rates hold for one run's config, one base model and one machine. Where the
device, the base model or the data are missing, nothing is written and plan.py says why.
"""

import argparse
import tempfile
from contextlib import contextmanager
from pathlib import Path

from sspo.config.reading import parse, plain
from sspo.config.settings import PretrainConfig, RunConfig
from sspo.config.study import TaskConfig
from sspo.data.problems import Record, read_problems
from sspo.data.tasks import make_splits
from sspo.models.torch_setup import set_up_torch
from sspo.pipeline.files import write_json
from sspo.pipeline.provenance import hardware
from sspo.pipeline.script import run
from sspo.planning.plan import Planned, read_plan

PROBLEMS = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, nargs="+", required=True, help="profiles to merge")
    parser.add_argument("--output", type=Path, required=True, help="rates to write")
    paths = parser.parse_args()
    planned = read_plan(paths.config, cores=1)  # the step runs alone
    if planned.obstacle or planned.rates(paths.output):
        return
    from sspo.planning.calibration import (
        measure_step,  # here, as transformers takes seconds to import
    )

    config = parse(RunConfig, planned.first_run.config)
    set_up_torch(config.compute)
    print(f"measuring one step of {config.run} ...", flush=True)
    with base_model(planned) as folder:
        rates = measure_step(config, folder, problems(planned), learned=planned.has_base)
    write_json(
        paths.output,
        {
            "run": config.run,
            "rates": plain(rates),
            "hardware": hardware(),
            "key": planned.rates_key(),
        },
    )


@contextmanager
def base_model(planned: Planned):
    """The folder of the base model, or of a new one of its size."""
    if planned.has_base:
        yield planned.base_folder
        return
    from sspo.models.policy import build_model, save_model
    from sspo.models.tokenizer import character_tokenizer

    config = parse(PretrainConfig, planned.configs[planned.first_run.base])
    tokenizer = character_tokenizer(config.characters)
    with tempfile.TemporaryDirectory() as folder:
        save_model(build_model(config.model, len(tokenizer), config.seed), tokenizer, folder)
        yield Path(folder)


def problems(planned: Planned) -> list[Record]:
    """Training problems: those of the experiment where they are made already, else some like them."""
    if planned.train_file.is_file():
        return read_problems(planned.train_file)
    task = parse(TaskConfig, planned.data_config)
    split = task.splits["train"].changed(size=PROBLEMS)
    return make_splits(task.name, {"train": split}, task.style, 0)["train"]


if __name__ == "__main__":
    run(main)
