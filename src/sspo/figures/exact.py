"""Figures of the exact study, entries of ``sspo.figures.registry.FIGURES``.

Thick lines are means over draws (start policies). Frames are those of
``workflow/scripts/exact_study.py``: ``gradients``, ``pushes`` and ``training``.
"""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from sspo.figures.curves import Frames, Look, Methods, add_legend, method_handles, shown_looks
from sspo.figures.tables import WIDTH

GRADIENT_PANELS = {
    "cosine": "cosine with the\ntrue gradient",
    "variance": "variance of one response\n/ squared true gradient",
    "weight_neg_down": "weight at A < 0, r < 1\n(1 = on-policy)",
    "weight_pos_up": "weight at A > 0, r > 1\n(1 = on-policy)",
}
DIRECTIONS = {"ascent": "drift along the gradient", "random": "random drift"}


def draw_exact_gradients(frames: Frames, methods: Methods) -> Figure:
    """What drift does to every expected gradient, along the true gradient and at random.

    Variable lengths only; mean over draws, no smoothing.
    """
    rows = frames["gradients"]
    rows, shown = rows[rows["lengths"] == "variable"], shown_looks(rows, methods)
    figure = Figure(figsize=(WIDTH, 7.4), layout="constrained")
    panels = figure.subplots(len(GRADIENT_PANELS), 2, sharex=True, sharey="row")
    for line, (quantity, label) in zip(panels, GRADIENT_PANELS.items(), strict=True):
        for panel, direction in zip(line, DIRECTIONS, strict=True):
            part = rows[rows["direction"] == direction]
            _draw_lines(panel, part, shown, "drift", quantity)
        line[0].set_ylabel(label)
        if quantity == "variance":
            line[0].set_yscale("log")
    for panel, title in zip(panels[0], DIRECTIONS.values(), strict=True):
        panel.set_title(title)
    for panel in panels[-1]:
        panel.set_xlabel("drift (root mean square\nlog-ratio, nats)")
    add_legend(figure, method_handles(shown))
    return figure


def draw_staleness(frames: Frames, methods: Methods) -> Figure:
    """A bad response pushed again and again, and the exact reward at the end of stale training."""
    pushes, training = frames["pushes"], frames["training"]
    shown = shown_looks(pushes, methods)
    rates = sorted(training["learning_rate"].unique())
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    first, *others = figure.subplots(1, 1 + len(rates), squeeze=False)[0]
    _draw_lines(first, pushes, shown, "push", "log_ratio")
    first.set(xlabel="pushes", ylabel="log-ratio of a response\nwith A < 0 (nats)")
    last = training[training["update"] == training["update"].max()]
    for panel, rate in zip(others, rates, strict=True):
        _draw_lines(
            panel, last[last["learning_rate"] == rate], shown, "updates_per_rollout", "reward"
        )
        panel.set(title=f"learning rate {rate:g}", xlabel="updates per rollout")
        panel.set_xscale("log", base=2)
        panel.set_xticks(sorted(last["updates_per_rollout"].unique()))
        panel.xaxis.set_major_formatter("{x:g}")
    others[0].set_ylabel("expected reward\nafter training")
    add_legend(figure, method_handles(shown))
    return figure


def _draw_lines(panel: Axes, rows: DataFrame, shown: Mapping[str, Look], x: str, y: str) -> None:
    """A line per method through the means over draws; earlier methods wider, to show from under."""
    for i, (name, look) in enumerate(shown.items()):
        mean = rows[rows["method"] == name].groupby(x)[y].mean().dropna()
        style = {"linewidth": 2.4 - 1.4 * i / len(shown), "linestyle": look.dashes}
        style |= {"marker": look.marker if len(mean) < 20 else "", "markersize": 3}
        panel.plot(mean.index, mean, color=look.color, gid=name, **style)
