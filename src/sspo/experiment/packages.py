"""Which packages beside the locked ones an experiment needs; their absence is found before any run."""

from __future__ import annotations

import importlib.util
from collections.abc import Container, Iterable

from sspo.config.errors import ConfigError
from sspo.config.installed import check_packages
from sspo.config.profile import Profile
from sspo.config.reading import JsonDict, plain
from sspo.config.run import RunConfig
from sspo.config.settings import TrackingConfig
from sspo.config.study import EvaluationConfig
from sspo.experiment.runs import rl_runs


def without_missing(profile: Profile, source: str) -> tuple[Profile, list[str]]:
    """Leave out the optional methods that need a package which is not installed.

    Args:
        profile: the whole configuration.
        source: file name for messages.

    Returns:
        The rest of the profile, and a line on each method that was left out.

    Raises:
        ConfigError: a run that is impossible with all packages, or no method is left.
    """
    optional = {method for method in profile.experiment.methods if profile.methods[method].optional}
    try:
        runs = [run for run in rl_runs(profile) if run.method in optional] if optional else []
        missing = {run.method: text for run in runs for text in missing_packages(run)}
        if not missing:
            return profile, []
        rest = [method for method in profile.experiment.methods if method not in missing]
        if not rest:
            raise ConfigError(next(iter(missing.values())))
        changes: JsonDict = {"experiment": {"methods": rest}}
        if profile.tuning:
            changes["tuning"] = {"params": _without(missing, plain(profile.tuning.params))}
        changes["regimes"] = {
            name: _regime_without(missing, plain(regime))
            for name, regime in profile.regimes.items()
        }
        return profile.changed(**changes), [
            f"{method} is left out: {text}" for method, text in missing.items()
        ]
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def _without(missing: Container[str], by_method: JsonDict) -> JsonDict:
    return {method: value for method, value in by_method.items() if method not in missing}


def _regime_without(missing: Container[str], regime: JsonDict) -> JsonDict:
    changes: JsonDict = {}
    if regime.get("methods"):
        changes["methods"] = [method for method in regime["methods"] if method not in missing]
    if regime.get("tuning_params"):
        changes["tuning_params"] = _without(missing, regime["tuning_params"])
    return {**regime, **changes}


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
