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
    missing = [text for run in runs for text in missing_packages(run)]
    if evaluation.engine == "vllm":
        need = ("vllm", "evaluation.engine = 'vllm' but vLLM", "make vllm", "engine torch")
        missing += _absent([need])
    if missing:
        raise ConfigError(missing[0])


def missing_packages(run: RunConfig) -> list[str]:
    """What a run needs and is not installed, each with the key that asks for it and the fix."""
    return _absent(_needs(run))


def _absent(needs: Iterable[tuple[str, str, str, str]]) -> list[str]:
    return [
        f"{what} is not installed; run `{target}` or choose {otherwise}"
        for package, what, target, otherwise in needs
        if importlib.util.find_spec(package) is None
    ]


def _needs(run: RunConfig) -> Iterable[tuple[str, str, str, str]]:
    where = f"methods.{run.method}"
    if run.trainer == "trl":
        yield "trl", f"{where}: trainer = 'trl' but TRL", "make trl", "trainer native"
    if run.rollout.engine == "vllm":
        yield "vllm", f"{where}: rollout.engine = 'vllm' but vLLM", "make vllm", "engine torch"
    if run.lora.rank:
        yield "peft", f"lora.rank = {run.lora.rank} but peft", "make lora", "rank 0"
