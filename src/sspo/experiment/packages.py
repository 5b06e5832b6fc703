"""Which optional packages an experiment needs; their absence is found before any run."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

from sspo.config.errors import ConfigError
from sspo.config.settings import RunConfig, TrackingConfig
from sspo.config.study import EvaluationConfig
from sspo.training.tracking import check_packages


def check_installed(
    runs: Iterable[RunConfig], evaluation: EvaluationConfig, tracking: TrackingConfig
) -> None:
    """Refuse what needs a package that is not installed.

    Raises:
        ConfigError: names the key that asks for it, and the fix.
    """
    check_packages(tracking)
    needs = [need for run in runs for need in _needs(run)]
    if evaluation.engine == "vllm":
        needs.append(("vllm", "evaluation.engine = 'vllm' but vLLM", "make vllm", "engine torch"))
    for package, what, target, otherwise in dict.fromkeys(needs):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"{what} is not installed; run `{target}` or choose {otherwise}")


def _needs(run: RunConfig) -> Iterable[tuple[str, str, str, str]]:
    where = f"methods.{run.method}"
    if run.trainer == "trl":
        yield "trl", f"{where}: trainer = 'trl' but TRL", "make trl", "trainer native"
    if run.rollout.engine == "vllm":
        yield "vllm", f"{where}: rollout.engine = 'vllm' but vLLM", "make vllm", "engine torch"
    if run.lora.rank:
        yield "peft", f"lora.rank = {run.lora.rank} but peft", "make lora", "rank 0"
