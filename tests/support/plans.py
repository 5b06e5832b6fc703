"""Jobs of shipped and of tiny experiments, for plans."""

from __future__ import annotations

import copy
from pathlib import Path

import yaml

from sspo.config.profile import check_profile
from sspo.config.reading import merged, plain
from sspo.data.tasks import CHARACTERS
from sspo.experiment.expand import expand_profile
from sspo.planning.jobs import TRAIN, Rates, list_jobs
from sspo.planning.memory import GIB, Machine, memory_parts
from sspo.planning.model_size import ModelSize, base_size
from support.paths import PROFILES

RATES = Rates(
    sampled_per_second=1000.0,
    trained_per_second=500.0,
    start_seconds=10.0,
    response_tokens=20.0,
    learned=True,
    parameters=27_488,
    memory_gib=0.5,
)


NOWHERE = Path("nowhere")  # no results


TORCH = {"engine": "torch"}


def read(name):
    return yaml.safe_load((PROFILES / name).read_text(encoding="utf-8"))


def expand(*changes):
    config = read("default.yaml")
    for change in changes:
        config = merged(config, change)
    return expand_profile(check_profile(copy.deepcopy(config), "test"), "test")


def jobs_of(configs):
    return list_jobs(configs, NOWHERE)


def bases(configs):
    return [p for p in configs if p == "base" or (p.startswith("bases/") and p.count("/") == 1)]


TINY = {
    "experiment": {"methods": ["grpo", "sspo"], "seeds": [0, 1], "control": True},
    "model": {"hidden_size": 32, "layers": 2, "heads": 1, "mlp_size": 64},
    "pretrain": {"supervised": {"steps": 10, "batch_size": 6}},
    "rollout": {"prompts_per_step": 4, "group_size": 3, "max_response_tokens": 50},
    "train": {"steps": 7, "updates_per_rollout": 2, "eval_every": 3},
    "validation": {"problems": 5, "samples": 2},
    "task": {"splits": {"test": {"size": 11}, "hard": {"size": 9}}},
    "evaluation": {"samples": 8},
}


BILLION = ModelSize(1_500_000_000, 1536, 28, 8960, 1536, 256, 151_936)


GPU = Machine("cuda", 80 * GIB, 1e15)


SMALL_GPU = Machine("cuda", 8 * GIB, 1e15)


def rl_job(*changes):
    configs = expand({"compute": {"device": "cuda", "dtype": "bfloat16"}}, *changes)
    return next(job for job in jobs_of(configs) if job.kind == TRAIN)


def parts_of(job, size=BILLION):
    return {part.name: part.size for part in memory_parts(job, size, GPU)}


def scratch_size(model):
    return base_size({"model": plain(model), "characters": CHARACTERS}, NOWHERE)
