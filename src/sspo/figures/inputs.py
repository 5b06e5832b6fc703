"""What figures and tables are made from: frames that hold the columns they need, and method names."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence

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
    "chosen",
)  # of a row per tuning trial
CONTROLS = {BASE: "Base (before RL)", CONTROL: "Supervised only"}


def made_from(whole: bool = False, **columns: Sequence[str]) -> Callable:
    """Decorate a function of ``(frames, methods)``: its frames hold these columns, or are refused.

    It gets the rows of the main regime and base model alone, unless it is to have the ``whole``.
    """

    def decorate(make: Callable) -> Callable:
        @functools.wraps(make)
        def checked(frames: Frames, methods: Methods) -> object:
            if not whole:
                frames = {name: _main_rows(frame) for name, frame in frames.items()}
            for name, needed in columns.items():
                _check(frames.get(name), f"{name}.csv", needed, methods)
            return make(frames, methods)

        return checked

    return decorate


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


def _main_rows(frame: DataFrame) -> DataFrame:
    """The rows of the main regime on the main base model; all of a frame without such columns."""
    for column, main in (("regime", MAIN), ("base", BASE)):
        frame = frame[frame[column] == main] if column in frame else frame
    return frame


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
