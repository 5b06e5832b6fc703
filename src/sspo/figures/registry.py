"""Figures from tidy frames: one draw function per figure, in the table ``FIGURES``.

Every entry takes ``(frames, methods)``: pandas frames by name, and ``{"label", "color"}`` by method
in the order to show. It checks that the frames hold what it draws, and returns a matplotlib Figure
of paper width. A method keeps its colour, and where methods are overlaid its dashes and marker, in
every figure; a method in ``methods`` without a row in the frames is left out.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from pandas import DataFrame

from sspo.config.names import BASE, MAIN
from sspo.figures.curves import Frames, Methods, looks
from sspo.figures.evidence_tables import OUTCOMES, draw_factorial, draw_outcomes, draw_trials
from sspo.figures.exact import GRADIENT_PANELS, draw_exact_gradients, draw_staleness
from sspo.figures.regimes import OUTCOMES as SWEPT
from sspo.figures.regimes import (
    QUADRANTS,
    draw_gradient_mass,
    draw_staleness_sweep,
    draw_tuning,
    draw_verdicts,
    draw_weight_variance,
)
from sspo.figures.tables import draw_benchmarks, draw_settings
from sspo.figures.training import (
    ATTENUATION,
    LOG_RATIO_LINES,
    draw_accuracy,
    draw_attenuation,
    draw_entropy,
    draw_gates,
    draw_grad_norm,
    draw_kl,
    draw_length,
    draw_log_ratio,
    draw_reward,
)

Draw = Callable[[Frames, Methods], Figure]

STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "figure.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
    "legend.frameon": False,
    "legend.handlelength": 2.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "grid.linewidth": 0.4,
    "grid.color": "0.9",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.4,
    "pdf.fonttype": 42,  # TrueType: text stays text, as publishers ask
}


class FrameError(ValueError):
    """A frame that cannot be drawn; ``frame`` is its name, the message says what to fix."""

    def __init__(self, frame: str, message: str) -> None:
        super().__init__(message)
        self.frame = frame


def save(figure: Figure, stem: str | Path) -> None:
    """Write ``{stem}.png`` and ``{stem}.pdf``: the same bytes for the same data, no time inside."""
    Path(stem).parent.mkdir(parents=True, exist_ok=True)
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of every glyph at INFO
    with matplotlib.rc_context(STYLE):
        figure.savefig(f"{stem}.png", dpi=200, metadata={"Software": None})
        figure.savefig(f"{stem}.pdf", metadata={"CreationDate": None})


def _checked(draw: Draw, whole: bool = False, **needs: Sequence[str]) -> Draw:
    """``draw`` in the house style, after a look at the columns it needs of each frame.

    It gets the runs of the main regime and base model alone, unless it is to have the whole frames.
    """

    @functools.wraps(draw)
    def checked(frames: Frames, methods: Methods) -> Figure:
        if not whole:
            frames = {name: _main_runs(frame) for name, frame in frames.items()}
        for frame, columns in needs.items():
            _check_frame(frames, frame, columns, methods)
        with matplotlib.rc_context(STYLE):
            return draw(frames, methods)

    return checked


def _main_runs(frame: DataFrame) -> DataFrame:
    """The rows of the main regime on the main base model; all of a frame that has no such columns."""
    for column, main in (("regime", MAIN), ("base", BASE)):
        frame = frame[frame[column] == main] if column in frame else frame
    return frame


def _check_frame(frames: Frames, name: str, columns: Sequence[str], methods: Methods) -> None:
    """Raises:
    FrameError: no such frame, no rows, a missing column, no known method, a step told twice.
    """
    if name not in frames:
        raise FrameError(name, f"frame {name!r} is not given; add {name}=PATH")
    frame = frames[name]
    if frame.empty:
        raise FrameError(name, "holds no rows; run the rule that makes it again")
    missing = [column for column in columns if column not in frame]
    if missing:
        raise FrameError(
            name, f"column {missing[0]!r} is missing; run the rule that makes it again"
        )
    if "method" in columns and not set(frame["method"]) & set(looks(methods)):
        found = ", ".join(sorted(set(frame["method"])))
        raise FrameError(name, f"holds only {found}, none of the methods to draw; add one of them")
    if {"run", "step"} <= set(columns) and frame.duplicated(["run", "step"]).any():
        run, step = frame.loc[frame.duplicated(["run", "step"]), ["run", "step"]].iloc[0]
        raise FrameError(name, f"run {run} has step {step} twice; remove one")


_CURVE = ("run", "method", "step")
_RUN = ("run", "method", "regime", "base", "seed")
_TRIAL = ("method", "learning_rate", "params", "score", "chosen")

FIGURES: dict[str, Draw] = {
    "f1_gates": _checked(draw_gates, gates=("method", "sign", "ratio", "value", "coefficient")),
    "f2_reward": _checked(draw_reward, metrics=(*_CURVE, "reward")),
    "f3_accuracy": _checked(draw_accuracy, metrics=(*_CURVE, "sampled_tokens", "greedy", "pass@1")),
    "f4_entropy": _checked(draw_entropy, metrics=(*_CURVE, "entropy")),
    "f5_kl": _checked(draw_kl, metrics=(*_CURVE, "kl")),
    "f6_log_ratio": _checked(
        draw_log_ratio,
        metrics=(*_CURVE, *(f"log_ratio_{q}" for q in LOG_RATIO_LINES), "log_ratio_var"),
    ),
    "f7_grad_norm": _checked(draw_grad_norm, metrics=(*_CURVE, "grad_norm", "grad_norm_max")),
    "f8_attenuation": _checked(draw_attenuation, metrics=(*_CURVE, *ATTENUATION)),
    "f9_length": _checked(draw_length, metrics=(*_CURVE, "response_tokens", "truncated")),
    "f10_staleness": _checked(
        draw_staleness_sweep,
        whole=True,
        runs=(*_RUN, "updates_per_rollout", "learning_rate", "tuned", "drift", *SWEPT),
    ),
    "f11_weights": _checked(
        draw_weight_variance,
        whole=True,
        metrics=(*_CURVE, "log_ratio_rms", "sequence_weight_var"),
    ),
    "f12_tuning": _checked(draw_tuning, trials=_TRIAL),
    "f13_exact": _checked(
        draw_exact_gradients,
        gradients=("method", "lengths", "direction", "drift", *GRADIENT_PANELS),
    ),
    "f14_staleness": _checked(
        draw_staleness,
        pushes=("method", "push", "log_ratio"),
        training=("method", "updates_per_rollout", "learning_rate", "update", "reward"),
    ),
    "f15_gradient_mass": _checked(
        draw_gradient_mass,
        whole=True,
        metrics=(*_CURVE, "regime", "base", "log_ratio_rms", *QUADRANTS),
    ),
    "f16_verdicts": _checked(
        draw_verdicts,
        whole=True,
        comparisons=("sspo", "baseline", "claim", "measure", "primary", "regime", "verdict"),
    ),
    "t1_benchmarks": _checked(
        draw_benchmarks,
        evaluations=("run", "method", "split", "metric", "value", "low", "high"),
    ),
    "t2_factorial": _checked(
        draw_factorial,
        whole=True,
        factorial=("measure", "regime", "sspo", "sequence_hard", "contrast", "n", "effect"),
    ),
    "t3_tuning": _checked(draw_trials, trials=_TRIAL),
    "t5_outcomes": _checked(draw_outcomes, whole=True, runs=(*_RUN, *OUTCOMES)),
    "t4_settings": _checked(draw_settings, settings=("key", "value", "source")),
}
