"""Names that an experiment reserves, and the folders they stand for under its results."""

from collections.abc import Collection, Mapping
from typing import Any

CONTROL = "supervised"  # the method that is trained without reward
MAIN = "main"  # the regime of the `experiment` section itself
TUNING = "tuning"  # the regime of tuning trials
DECIDING = {"the experiment": (MAIN,)}  # where claims are decided, unless a profile says otherwise
BASE = "base"  # the base model of `task`, `model` and `pretrain` themselves


def base_place(name: str) -> str:
    """The folder of a base model."""
    return BASE if name == BASE else f"bases/{name}"


def base_places(configs: Mapping[str, Any]) -> list[str]:
    """The folders of all base models of an experiment, whose configs are given by place."""
    return [base_place(name) for name in (BASE, *configs["settings"].get("bases", {}))]


def model_places(configs: Mapping[str, Any]) -> dict[str, str]:
    """The folders of base models and runs, each with that of the base model that it starts from."""
    runs = {place: config for place, config in configs.items() if place.startswith("runs/")}
    return {base: base for base in base_places(configs)} | {
        place: base_place(config["base"]) for place, config in runs.items()
    }


def data_place(places: Collection[str], base: str) -> str:
    """The folder of a base model's problems: the main one's unless the places have one of its own."""
    return f"{base}/data" if f"{base}/data" in places else "data"


def tuning_place(places: Collection[str], regime: str) -> str:
    """The folder of the trials that chose for a tuned regime: those of main, unless it has its own."""
    return f"tuning/{regime}" if f"tuning/{regime}" in places else f"tuning/{MAIN}"


def trial_runs(tuning: Mapping[str, Any]) -> list[str]:
    """The names of all runs among the trials of a regime, given the config in their folder."""
    trials = [trial for of_method in tuning["trials"].values() for trial in of_method]
    return [run for trial in trials for run in trial["runs"]]


def evaluation_place(places: Collection[str], base: str) -> str:
    """The folder of the evaluation's config, for a base model and its runs."""
    return f"{base}/evaluation" if f"{base}/evaluation" in places else "evaluation"
