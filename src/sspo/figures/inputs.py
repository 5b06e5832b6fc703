"""What figures and tables are made from: frames that hold the columns they need, and method names."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence

from pandas import DataFrame

from sspo.config.errors import ConfigError
from sspo.config.names import BASE, CONTROL, MAIN

Frames = Mapping[str, DataFrame]  # by name
Methods = Mapping[str, Mapping[str, str]]  # method -> label, color; in the order to show

CURVE = ("run", "method", "step")  # columns of a row per run and step
RUN = ("run", "method", "regime", "base", "seed")  # of a row per run
TRIAL = (
    "regime",
    "method",
    "learning_rate",
    "params",
    "score",
    "lowest",
    "highest",
    "chosen",
)  # of a row per tuning trial
PAIR = ["base", "seed"]  # runs that have these in common are compared
REFERENCE = "gmpo"  # the hard clip at sequence level, SSPO's nearest baseline
CONTROLS = {BASE: "Base (before RL)", CONTROL: "Supervised only"}


def made_from(**columns: Sequence[str]) -> Callable:
    """Decorate a function of ``(frames, methods)``: its frames hold these columns, or are refused."""

    def decorate(make: Callable) -> Callable:
        @functools.wraps(make)
        def checked(frames: Frames, methods: Methods) -> object:
            for name, needed in columns.items():
                _check(frames.get(name), f"{name}.csv", needed, methods)
            return make(frames, methods)

        return checked

    return decorate


def regimes_of(frame: DataFrame) -> list[str]:
    """The regimes of runs or of their steps: the main one, then the others as their drift grows.

    The drift of a run is its root mean square log-ratio over steps, and that of a regime the mean over
    runs. A frame that does not tell it leaves the others in their own order.
    """
    column = next((name for name in ("drift", "log_ratio_rms") if name in frame), None)
    drifts = dict.fromkeys(frame["regime"], 0.0)
    if column:
        squares = frame[column].astype(float) ** 2
        runs = squares.groupby([frame["regime"], frame["run"]]).mean() ** 0.5
        drifts |= runs.groupby(level="regime").mean().fillna(0.0).to_dict()
    return sorted(drifts, key=lambda regime: (regime != MAIN, drifts[regime]))


def reference_of(shown: Iterable[str]) -> str:
    """The method that differences are taken from: GMPO, or the first one where it was not run."""
    names = [*shown]
    return REFERENCE if REFERENCE in names else names[0]


def method_label(name: str, methods: Methods) -> str:
    """The name of a method, the base model or the control in figures and tables."""
    return methods.get(name, {}).get("label") or CONTROLS.get(name, name)


def short_params(params: str) -> str:
    """``{"clip_low": 0.2, "clip_high": 0.27}`` -> ``clip 0.2 / 0.27``; a pair of equals once.

    The gate is left to the method's name.
    """
    values = {k: v for k, v in json.loads(params).items() if k not in ("gate", "pessimistic")}
    parts = []
    for name, first, second in (("clip", "clip_low", "clip_high"), ("tau", "tau_pos", "tau_neg")):
        if first in values and second in values:
            pair = dict.fromkeys((values.pop(first), values.pop(second)))
            parts.append(f"{name} {' / '.join(f'{value:g}' for value in pair)}")
    parts += [f"{key.replace('_', ' ')} {value:g}" for key, value in values.items()]
    return ", ".join(parts)


def _check(frame: DataFrame | None, file: str, columns: Sequence[str], methods: Methods) -> None:
    """Refuse a frame that is not there or empty, lacks a column or methods, or tells a step twice."""
    if frame is None:
        raise ConfigError(f"{file}: not given; add it to --inputs")
    if frame.empty:
        raise ConfigError(f"{file}: holds no rows; run the rule that makes it again")
    if missing := [column for column in columns if column not in frame]:
        raise ConfigError(f"{file}: no column {missing[0]!r}; run the rule that makes it again")
    if "method" in columns and not set(frame["method"]) & (methods.keys() - {CONTROL}):
        found = ", ".join(sorted(set(frame["method"])))
        raise ConfigError(f"{file}: holds only {found}, no method to show; add one of them")
    if {"run", "step"} <= set(columns) and frame.duplicated(["run", "step"]).any():
        run, step = frame.loc[frame.duplicated(["run", "step"]), ["run", "step"]].iloc[0]
        raise ConfigError(f"{file}: run {run} has step {step} twice; remove one")
