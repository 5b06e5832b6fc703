"""Figures that compare regimes, entries of ``sspo.figures.registry.FIGURES``.

Small marks are runs as measured, lines and large marks means over runs, bars 95 % t intervals over
them. Frames: ``runs`` (a row per run, ``workflow/scripts/measure.py``), ``metrics`` (a row per run and
step), ``trials`` (a row per tuning trial), ``comparisons`` and ``factorial`` (of the claims).
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator
from pandas import DataFrame

from sspo.config.names import BASE, MAIN
from sspo.evidence.intervals import mean_interval
from sspo.evidence.protocol import CLAIM_TEXT
from sspo.figures.curves import (
    Frames,
    Look,
    Methods,
    add_legend,
    draw_overlaid,
    method_handles,
    note_empty,
    panel_grid,
    shown_looks,
)
from sspo.figures.tables import WIDTH, method_label

OUTCOMES = {"test_pass@1": "final test pass@1", "drawdown": "worst drawdown\n(validation pass@1)"}
QUADRANTS = {
    "mass_pos_up": "A > 0, r > 1",
    "mass_pos_down": "A > 0, r < 1",
    "mass_neg_up": "A < 0, r > 1",
    "mass_neg_down": "A < 0, r < 1",
}
VERDICTS = {"supported": "#009E73", "contradicted": "#D55E00", "undecided": "0.45"}
SMALL, ALPHA = 2.5, 0.45


def draw_staleness_sweep(frames: Frames, methods: Methods) -> Figure:
    """F10: outcome against updates per rollout, and against the drift that they led to.

    Runs on the main base model and task. Hollow marks are a regime whose learning rate is given
    rather than tuned.
    """
    runs = frames["runs"]
    runs = runs[runs["base"] == BASE]
    swept, fixed = runs[runs["tuned"] != "params"], runs[runs["tuned"] == "params"]
    shown = shown_looks(runs, methods)
    figure = Figure(figsize=(WIDTH, 5.0), layout="constrained")
    panels = figure.subplots(len(OUTCOMES), 2, sharex="col", sharey="row")
    for line, (outcome, label) in zip(panels, OUTCOMES.items(), strict=True):
        bars = []
        for i, (name, look) in enumerate(shown.items()):
            dodge = 2.0 ** (0.16 * (i - (len(shown) - 1) / 2.0))
            for part, hollow in ((_of(swept, name), False), (_of(fixed, name), True)):
                means = _draw_regimes(line[0], part, look, outcome, dodge, hollow)
                bars += [(place, low, high, look.color) for place, _, low, high in means]
                _draw_regimes(line[1], part, look, outcome, hollow=hollow)
        limits = line[0].get_ylim()  # follow the data, not intervals over few runs
        for place, low, high, color in bars:
            line[0].vlines(place, low, high, color=color, linewidth=0.7, alpha=0.6)
        line[0].set(ylabel=label, ylim=limits)
    panels[0, 0].set_xscale("log", base=2)
    panels[0, 0].set_xticks(sorted(runs["updates_per_rollout"].unique()))
    panels[0, 0].xaxis.set_major_formatter("{x:g}")
    if (runs["drift"] > 0.0).all():
        panels[0, 1].set_xscale("log")
    else:  # one update per rollout has no drift at all
        panels[0, 1].set_xscale("symlog", linthresh=0.01)
        panels[0, 1].set_xlim(left=-0.002)
    panels[-1, 0].set_xlabel("updates per rollout")
    panels[-1, 1].set_xlabel("drift: root mean square\nlog-ratio (nats)")
    extra = []
    if len(fixed):
        rate = " and ".join(f"{r:g}" for r in sorted(fixed["learning_rate"].unique()))
        style = {"linestyle": "", "marker": "o", "markerfacecolor": "white", "color": "0.2"}
        extra = [Line2D([], [], label=f"all at learning rate {rate}", **style)]
    add_legend(figure, [*method_handles(shown), *extra])
    return figure


def draw_weight_variance(frames: Frames, methods: Methods) -> Figure:
    """F11: variance of the sequence weights of a step against its drift, every step of every run."""
    metrics = frames["metrics"]
    shown = shown_looks(metrics, methods)
    metrics = metrics[(metrics["log_ratio_rms"] > 0.0) & (metrics["sequence_weight_var"] > 0.0)]
    figure, panels = _method_grid(shown, 1.5, "drift of the step (nats)")
    style = {"markersize": 1.5, "linewidth": 0, "rasterized": True}
    for name, panel in panels.items():
        panel.set(xscale="log", yscale="log")
        for part, color, gid in (
            (metrics, "0.85", None),
            (_of(metrics, name), shown[name].color, name),
        ):
            x, y = part["log_ratio_rms"], part["sequence_weight_var"]
            panel.plot(x, y, ".", color=color, gid=gid, **style)
    figure.supylabel("variance of the relative sequence weights")
    return figure


def draw_tuning(frames: Frames, methods: Methods) -> Figure:
    """F12: validation accuracy of every trial, and the one that was chosen."""
    trials = frames["trials"]
    shown = shown_looks(trials, methods)
    figure, panels = _method_grid(shown, 1.75, "learning rate / 1e-5")
    for name, panel in panels.items():
        part = _of(trials, name)
        style = {"color": shown[name].color, "marker": shown[name].marker, "gid": name}
        lines = part.sort_values("learning_rate").groupby("params", sort=False)
        order = dict.fromkeys(part["params"])
        for dashes, params in zip(("-", "--", ":", "-."), order, strict=False):
            line, label = lines.get_group(params), short_params(params)
            x, y = line["learning_rate"], line["score"]
            panel.plot(x, y, linestyle=dashes, markersize=3, label=label, **style)
        best = part[part["chosen"]]
        circle = {"markersize": 9, "fillstyle": "none", "color": "black"}
        panel.plot(best["learning_rate"], best["score"], "o", **circle)
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(FixedLocator(sorted(trials["learning_rate"].unique())))
        panel.xaxis.set_major_formatter(lambda rate, _: f"{1e5 * rate:g}")
        panel.xaxis.set_minor_locator(NullLocator())
        panel.legend(loc="lower left", fontsize=7, handlelength=2.2)
    figure.supylabel("validation pass@1 over training")
    return figure


def draw_gradient_mass(frames: Frames, methods: Methods) -> Figure:
    """F15: where the gradient comes from: share by sign of A and side of r, regime by regime."""
    metrics = frames["metrics"]
    metrics = metrics[metrics["base"] == BASE]
    drifted = metrics.groupby("regime")["log_ratio_rms"].transform("max") > 0.0
    metrics = metrics[drifted] if drifted.any() else metrics
    last = metrics.groupby("regime")["step"].transform("max")
    metrics = metrics.assign(progress=metrics["step"] / last)
    shown, regimes = shown_looks(metrics, methods), list(metrics["regime"].unique())
    figure = Figure(figsize=(WIDTH, 6.4), layout="constrained")
    panels = figure.subplots(len(QUADRANTS), len(regimes), sharex=True, sharey=True, squeeze=False)
    for line, (column, label) in zip(panels, QUADRANTS.items(), strict=True):
        for panel, regime in zip(line, regimes, strict=True):
            part = metrics[metrics["regime"] == regime]
            draw_overlaid(panel, part, shown, column, x="progress")
        line[0].set_ylabel(label)
    for panel, regime in zip(panels[0], regimes, strict=True):
        panel.set_title(regime)
    for panel in panels[-1]:
        panel.set_xlabel("share of training")
        panel.xaxis.set_major_locator(FixedLocator([0.0, 0.5, 1.0]))
        panel.xaxis.set_major_formatter("{x:g}")
    figure.supylabel("share of the absolute gradient")
    add_legend(figure, method_handles(shown))
    return figure


def draw_verdicts(frames: Frames, methods: Methods) -> Figure:
    """F16: every comparison that decides a claim, its interval, and its verdict.

    The grey band holds gains too small to matter.
    """
    rows = frames["comparisons"]
    rows = rows[rows["primary"] & (rows["regime"] == MAIN)].dropna(subset="effect")
    pairs = list(dict.fromkeys(zip(rows["sspo"], rows["baseline"], strict=True)))
    figure = Figure(figsize=(WIDTH, 0.17 * len(pairs) + 1.35), layout="constrained")
    panels = figure.subplots(1, len(CLAIM_TEXT), sharey=True)
    for panel, claim in zip(panels, CLAIM_TEXT, strict=True):
        part = rows[rows["claim"] == claim]
        if part.empty:
            note_empty(panel)
            continue
        panel.axvspan(0.0, part["smallest_effect"].max(), color="0.9", linewidth=0)
        panel.axvline(0.0, color="0.6", linewidth=0.8)
        for row in part.itertuples():
            place = -pairs.index((row.sspo, row.baseline))
            color = VERDICTS[row.verdict]
            panel.plot(row.effect, place, "o", color=color, markersize=4)
            panel.hlines(place, row.low, row.high, color=color, linewidth=1.2)
        panel.set(title=f"{claim}\n({part['measure'].iloc[0].replace('_', ' ')})")
        panel.locator_params(axis="x", nbins=3)
        panel.xaxis.set_major_formatter("{x:g}")
    panels[0].set_yticks([-i for i in range(len(pairs))])
    panels[0].set_yticklabels(
        [f"{method_label(a, methods)} vs {method_label(b, methods)}" for a, b in pairs]
    )
    panels[1].set_xlabel("paired difference, positive for the first method")
    handles = [
        Line2D([], [], color=color, marker="o", markersize=4, label=verdict)
        for verdict, color in VERDICTS.items()
    ]
    add_legend(figure, handles)
    return figure


def short_params(params: str) -> str:
    """``{"clip_low": 0.2, "clip_high": 0.27}`` -> ``clip 0.2 / 0.27``; a pair of equals once.

    The gate is left to the method's name.
    """
    values = {k: v for k, v in json.loads(params).items() if k not in ("gate", "pessimistic")}
    for name, first, second in (("clip", "clip_low", "clip_high"), ("tau", "tau_pos", "tau_neg")):
        if first in values and second in values:
            pair = dict.fromkeys((values.pop(first), values.pop(second)))
            return f"{name} {' / '.join(f'{value:g}' for value in pair)}"
    return ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in values.items())


def _draw_regimes(
    panel: Axes, runs: DataFrame, look: Look, outcome: str, dodge: float = 0.0, hollow: bool = False
) -> list[tuple[float, float, float, float]]:
    """Runs, and a mean per regime; returns place, mean, low and high of each.

    ``dodge`` multiplies the updates per rollout, on the x axis; 0 puts runs at their drift.
    """
    runs = runs.dropna(subset=[outcome])
    face = "white" if hollow else look.color
    style = {"color": look.color, "markerfacecolor": face, "linestyle": ""}
    x = runs["updates_per_rollout"] * dodge if dodge else runs["drift"]
    panel.plot(x, runs[outcome], look.marker, markersize=SMALL, alpha=ALPHA, **style)
    means = sorted(
        (x[part.index].mean(), *mean_interval(part[outcome])) for _, part in runs.groupby("regime")
    )
    if means:
        line = {} if hollow else {"linestyle": look.dashes, "linewidth": 1.0}
        places, heights = [row[0] for row in means], [row[1] for row in means]
        gid = runs["method"].iloc[0]
        panel.plot(places, heights, marker=look.marker, markersize=4, gid=gid, **{**style, **line})
    return means


def _method_grid(
    shown: Mapping[str, Look], row_height: float, xlabel: str
) -> tuple[Figure, dict[str, Axes]]:
    """A panel per method on shared axes, titled with its label."""
    rows, columns = panel_grid(len(shown))
    figure = Figure(figsize=(WIDTH, row_height * rows + 0.6), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for unused in grid.flat[len(shown) :]:
        unused.set_axis_off()
    panels = dict(zip(shown, grid.flat, strict=False))
    for i, (name, panel) in enumerate(panels.items()):
        panel.set_title(shown[name].label)
        if i + columns >= len(shown):  # nothing below
            panel.set_xlabel(xlabel)
            panel.tick_params(labelbottom=True)
    return figure, panels


def _of(frame: DataFrame, method: str) -> DataFrame:
    return frame[frame["method"] == method]
