"""A plan as this machine sees it: the profile, what is made already, memory and disk."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
import yaml

from sspo.config.errors import ConfigError
from sspo.config.profile import read_profile
from sspo.config.reading import JsonDict, load_json, parse, plain
from sspo.experiment.expand import expand_profile
from sspo.pipeline.provenance import ROOT, hardware
from sspo.planning.jobs import RL, Job, Rates, base_places, jobs_at_once, plan_jobs, split_sizes
from sspo.planning.memory import Machine, refusals
from sspo.planning.model_size import WEIGHTS, ModelSize, base_folder, base_size

LOCAL_PROFILE = ROOT / "profiles" / "default" / "config.yaml"


@dataclass(frozen=True)
class Planned:
    """Everything that is to be said of an experiment before it runs.

    Attributes:
        profile: its file, the last of several.
        results: folder of its results.
        configs: place -> config.
        jobs: that sample or train.
        sizes: base model -> size, where it is known.
        machine: this one.
        at_once: jobs side by side.
        uncounted: splits whose problems are not known, as the data are not here yet.
    """

    profile: Path
    results: Path
    configs: dict[str, JsonDict]
    jobs: list[Job]
    sizes: dict[str, ModelSize]
    machine: Machine
    at_once: int
    uncounted: list[str]

    @property
    def first_run(self) -> Job:
        """The run of which a step is measured."""
        return next(job for job in self.jobs if job.kind in RL)

    @cached_property
    def base_folder(self) -> Path | None:
        """Weights that this run can start from, if there are some."""
        base = self.first_run.base
        return base_folder(self.configs[base], self.results / base)

    @property
    def has_base(self) -> bool:
        """Whether the first run's base model is on this machine."""
        return self.base_folder is not None

    @property
    def data_config(self) -> JsonDict:
        """Config of the problems of the first run."""
        return self.configs[_data_place(self.configs, self.first_run.base)]

    @property
    def train_file(self) -> Path:
        """The first run's problems, once they are made."""
        return self.results / _data_place(self.configs, self.first_run.base) / "train.jsonl"

    @cached_property
    def refusals(self) -> list[str]:
        """Why it cannot run here, a line each."""
        return refusals(self.jobs, self.sizes, self.machine, self.at_once)

    @property
    def obstacle(self) -> str:
        """Why no step can be measured; empty where one can."""
        if self.machine.memory is None:
            return "no CUDA device here"
        if self.refusals:
            return "the plan does not fit"
        if self.first_run.config["rollout"]["engine"] == "vllm_server":
            return "it samples with a server, which has other work to do"
        if not self.has_base and "checkpoint" in self.configs[self.first_run.base]:
            return "the base model is not on this machine yet"
        if "math_data" in self.data_config and not self.train_file.is_file():
            return "the problems are not on this machine yet (rule prepare_data)"
        return ""

    def rates_key(self) -> str:
        """What rates hold for: one run's config, one base model, one machine."""
        base = self.configs[self.first_run.base]
        parts = [self.first_run.config, base, str(self.base_folder), hardware()]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def rates(self, file: Path) -> Rates | None:
        """Rates that were measured for this plan; None where there are none, or older ones."""
        if not file.is_file():
            return None
        measured = load_json(file)
        if measured.get("key") != self.rates_key():
            return None
        return parse(Rates, measured["rates"], f"{file}: ")


def read_plan(profiles: Sequence[Path], cores: int, gpus: int | None = None) -> Planned:
    """The plan of profiles of ``config``, one over the other, on this machine.

    Args:
        profiles: the files.
        cores: for Snakemake.
        gpus: most GPUs for its jobs together; None for what its profile says.

    Raises:
        ConfigError: a profile that cannot run; names the key and the fix.
    """
    experiment, profile = read_profile(profiles), profiles[-1]
    config, configs = plain(experiment), expand_profile(experiment, str(profile))
    results = Path(config["results_dir"])
    counts = {base: _problems(configs, base, results) for base in base_places(configs)}
    jobs = plan_jobs(configs, counts)
    found = {base: base_size(configs[base], results / base) for base in counts}
    wanted = configs["evaluation"]["evaluation"]["splits"]
    compute = config["compute"]
    limit = (gpus or gpu_limit()) if compute["device"].startswith("cuda") else None
    machine = Machine(
        device=compute["device"],
        memory=device_memory(compute["device"]),
        cores=cores,
        disk=_free_disk(results, jobs),
    )
    return Planned(
        profile=profile,
        results=results,
        configs=configs,
        jobs=jobs,
        sizes={base: size for base, size in found.items() if size},
        machine=machine,
        at_once=jobs_at_once(jobs, cores, compute["threads"], limit),
        uncounted=sorted({s for sizes in counts.values() for s in wanted if s not in sizes}),
    )


def device_memory(device: str) -> float | None:
    """Bytes of the machine, or of a CUDA device; None where there is no such device."""
    if not device.startswith("cuda"):
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    if not torch.cuda.is_available():
        return None
    return float(torch.cuda.get_device_properties(device).total_memory)


def gpu_limit(profile: Path = LOCAL_PROFILE) -> int | None:
    """The most GPUs that a profile of Snakemake lends out at once; None where it sets no limit."""
    resources = yaml.safe_load(profile.read_text(encoding="utf-8")).get("resources", [])
    limits = dict(entry.split("=") for entry in resources)
    return int(limits["gpu"]) if "gpu" in limits else None


def parse_cores(text: str) -> int:
    """Snakemake's ``--cores``: a number, or "all".

    Raises:
        ConfigError: neither.
    """
    if text == "all":
        return os.cpu_count() or 1
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"CORES = {text!r}: give a number of at least 1, or all")
    return int(text)


def _data_place(configs: dict[str, JsonDict], base: str) -> str:
    return f"{base}/data" if f"{base}/data" in configs else "data"


def _problems(configs: dict[str, JsonDict], base: str, results: Path) -> dict[str, int]:
    """Problems per split: as the task says, for real data as ``prepare_data`` has counted them."""
    summary = results / _data_place(configs, base) / "summary.json"
    sizes = split_sizes(configs, base)
    return sizes or (load_json(summary)["problems"] if summary.is_file() else {})


def _free_disk(results: Path, jobs: list[Job]) -> float:
    """Bytes free where results go, with those that the plan's models take there already."""
    existing = next(p for p in (results.absolute(), *results.absolute().parents) if p.exists())
    models = {results / job.place / "model" / WEIGHTS for job in jobs}
    return shutil.disk_usage(existing).free + sum(m.stat().st_size for m in models if m.is_file())
