"""What an experiment costs on this machine: its jobs beside what is made already, memory and disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from huggingface_hub.constants import SAFETENSORS_SINGLE_FILE

from sspo.config.names import base_places, data_place
from sspo.config.profile import read_profile
from sspo.config.reading import JsonDict, load_json, parse
from sspo.config.run import RunConfig
from sspo.experiment.expand import expand_profile
from sspo.experiment.packages import missing_packages
from sspo.pipeline.provenance import hardware
from sspo.planning.jobs import TRAIN, Job, Rates, jobs_at_once, list_jobs
from sspo.planning.memory import Machine, refusals
from sspo.planning.model_size import ModelSize, base_folder, base_size


@dataclass(frozen=True)
class Cost:
    """Everything that is to be said of an experiment before it runs."""

    profile: Path  # its file, the last of several
    results: Path  # folder of its results
    configs: dict[str, JsonDict]  # by place
    jobs: list[Job]  # that sample or train
    sizes: dict[str, ModelSize]  # by base model, where they are known
    machine: Machine  # this one

    @cached_property
    def first_run(self) -> Job:
        """The run of which a step is measured."""
        return next(job for job in self.jobs if job.kind == TRAIN)

    @cached_property
    def weights(self) -> Path | None:
        """The folder of weights that this run can start from, if there is one."""
        base = self.first_run.base
        folder = base_folder(self.configs[base], self.results / base)
        return folder if folder and any(folder.glob("*.safetensors")) else None

    @property
    def data(self) -> str:
        """The place of this run's problems."""
        return data_place(self.configs, self.first_run.base)

    @property
    def problems(self) -> Path:
        """The file of this run's problems, once they are made."""
        return self.results / self.data / "train.jsonl"

    @cached_property
    def refusals(self) -> list[str]:
        """Why it cannot run here, a line each."""
        return refusals(self.jobs, self.sizes, self.machine)

    @property
    def obstacle(self) -> str:
        """Why no step can be measured; empty where one can."""
        if self.machine.memory is None:
            return "no CUDA device here"
        if self.refusals:
            return "the plan does not fit"
        if self.first_run.config["rollout"]["engine"] == "vllm_server":
            return "it samples with a server, which has other work to do"
        if missing := missing_packages(parse(RunConfig, self.first_run.config)):
            return missing[0]
        base = self.configs[self.first_run.base]
        if ("checkpoint" in base or "pieces" in base) and not self.weights:
            return "the base model is not on this machine yet"
        if "splits" not in self.configs[self.data] and not self.problems.is_file():
            return "the problems are not on this machine yet (rule prepare_data)"
        return ""

    @property
    def measured(self) -> JsonDict:
        """What a measured step's rates hold for: one run's config, one base model, one machine."""
        return {
            "run": self.first_run.config,
            "base": self.configs[self.first_run.base],
            "weights": str(self.weights),
            "hardware": hardware(),
        }

    def rates(self, file: Path) -> Rates | None:
        """Rates that were measured for this experiment; None where there are none, or older ones."""
        found = load_json(file) if file.is_file() else {}
        if found.get("measured") != self.measured:
            return None
        return parse(Rates, found["rates"], f"{file}: ")


def read_cost(profiles: Sequence[Path], cores: int, gpus: int = 1) -> Cost:
    """The cost of profiles of ``config``, one over the other, on this machine.

    Snakemake has ``cores``, and ``gpus`` for all jobs together (profiles/default says 1).

    Raises:
        ConfigError: a profile that cannot run; names the key and the fix.
    """
    experiment, profile = read_profile(profiles), profiles[-1]
    configs = expand_profile(experiment, str(profile), installed=False)
    results, compute = Path(experiment.results_dir), experiment.compute
    jobs = list_jobs(configs, results)
    sizes = {base: base_size(configs[base], results / base) for base in base_places(configs)}
    limit = gpus if compute.device.startswith("cuda") else None
    machine = Machine(
        device=compute.device,
        memory=device_memory(compute.device),
        disk=_free_disk(results, jobs),
        at_once=jobs_at_once(jobs, cores, compute.threads, limit),
    )
    known = {base: size for base, size in sizes.items() if size}
    return Cost(profile, results, configs, jobs, known, machine)


def device_memory(device: str) -> float | None:
    """Bytes of the machine, or of a CUDA device; None where there is no such device."""
    if not device.startswith("cuda"):
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    if not torch.cuda.is_available():
        return None
    return float(torch.cuda.get_device_properties(device).total_memory)


def _free_disk(results: Path, jobs: list[Job]) -> float:
    """Bytes free where results go, with those that the experiment's models take there already."""
    existing = next(p for p in (results.absolute(), *results.absolute().parents) if p.exists())
    models = {results / job.place / "model" / SAFETENSORS_SINGLE_FILE for job in jobs}
    return shutil.disk_usage(existing).free + sum(m.stat().st_size for m in models if m.is_file())
