"""Figures that compare regimes, and the trials of their tuning (F8, F10, F11, F12, F15, F17).

All base models are pooled. Frames: ``runs``, a row per run; ``metrics``, per run and step; ``trials``, per
tuning trial.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FixedLocator, NullLocator
from pandas import DataFrame, Series

from sspo.evidence.intervals import mean_interval
from sspo.figures import rows, style
from sspo.figures.inputs import CURVE, RUN, TRIAL, Frames, Methods, regimes_of, short_params
from sspo.figures.style import Look

DOSES = {  # of the runs
    "drift": "drift\n(nats)",
    "grpo_clip_share": "share of\ntokens GRPO\nwould cut",
    "sequence_weight_distance": "mean\n|weight \N{MINUS SIGN} 1|",
}
EFFECTS = {  # of their steps
    "clip_fraction": "share of\ntokens cut",
    "coefficient_mean": "gradient\nweight of\nall tokens",
    "coefficient_neg_down": "gradient\nweight at\nA < 0, r < 1",
}
SWEPT = {"test_pass@1": "final test pass@1", "drawdown": "worst drawdown of validation pass@1"}
MASSES = {f"mass_{quadrant}": label for quadrant, label in style.QUADRANTS.items()}
BAR = 0.72  # of a method's line


@style.drawn_from(runs=(*RUN, *DOSES), metrics=("run", "method", *EFFECTS))
def draw_doses(frames: Frames, methods: Methods) -> Figure:
    """F8: how far every method's policy left its rollouts in every regime, and what its gate made of it."""
    runs = frames["runs"].merge(_means(frames["metrics"], [*EFFECTS]), on="run", how="left")
    shown = style.shown_looks(runs, methods)
    titles = dict.fromkeys(regimes_of(runs), "")
    figure, panels = rows.by_method(runs, shown, DOSES | EFFECTS, titles, rows.mark_dots)
    for column, of_column in zip(DOSES | EFFECTS, panels.T, strict=True):
        if "weight" not in EFFECTS.get(column, ""):
            _scale_shares(of_column[0], runs[column].dropna())
            continue
        of_column[0].locator_params(axis="x", nbins=3)
        for panel in of_column:
            panel.axvline(1.0, color="0.6", linewidth=0.8)
    return figure


@style.drawn_from(runs=(*RUN, *SWEPT))
def draw_staleness(frames: Frames, methods: Methods) -> Figure:
    """F10: the outcome of every run in every regime, whose dose stands beside its name."""
    runs = frames["runs"]
    shown, regimes = style.shown_looks(runs, methods), regimes_of(runs)
    titles = {name: rows.dose_text(runs[runs["regime"] == name]) for name in regimes}
    figure, _ = rows.by_method(runs, shown, SWEPT, titles, rows.mark_dots, counts=True)
    return figure


@style.drawn_from(metrics=(*CURVE, "log_ratio_rms", "sequence_weight_var"))
def draw_weights(frames: Frames, methods: Methods) -> Figure:
    """F11: variance of the sequence weights of a step against its drift, every step of every run."""
    x, y = "log_ratio_rms", "sequence_weight_var"
    metrics = frames["metrics"]
    shown = style.shown_looks(metrics, methods)
    metrics = metrics[(metrics[x] > 0.0) & (metrics[y] > 0.0)]
    figure = style.new_figure(1.5 * style.panel_grid(len(shown))[0] + 0.6)
    dots = {"markersize": 1.5, "linewidth": 0, "rasterized": True}
    for name, panel in style.method_panels(figure, shown, "drift of the step (nats)").items():
        own = metrics[metrics["method"] == name]
        panel.set(xscale="log", yscale="log")
        panel.plot(metrics[x], metrics[y], ".", color="0.85", **dots)
        panel.plot(own[x], own[y], ".", color=shown[name].color, gid=name, **dots)
    figure.supylabel("variance of the relative sequence weights")
    return figure


@style.drawn_from(trials=TRIAL)
def draw_tuning(frames: Frames, methods: Methods) -> Figure:
    """F12: validation accuracy of every trial, and the one that was chosen; a block for each regime."""
    trials = frames["trials"]
    shown, regimes = style.shown_looks(trials, methods), list(trials["regime"].unique())
    figure = style.new_figure((1.75 * style.panel_grid(len(shown))[0] + 0.6) * len(regimes))
    blocks = figure.subfigures(len(regimes), squeeze=False)[:, 0]
    for block, regime in zip(blocks, regimes, strict=True):
        part = trials[trials["regime"] == regime]
        for name, panel in style.method_panels(block, shown, "learning rate / 1e-5").items():
            _draw_trials(panel, part[part["method"] == name], shown[name], name)
        block.supylabel("validation pass@1 over training")
        if len(regimes) > 1:
            block.suptitle(regime)
    return figure


def _draw_trials(panel: Axes, trials: DataFrame, look: style.Look, name: str) -> None:
    """The trials of one method in one regime: a line for each set of parameters."""
    ordered = trials.sort_values("learning_rate")
    for dashes, params in zip(("-", "--", ":", "-."), trials["params"].unique(), strict=False):
        line: dict[str, Any] = {"color": look.color, "marker": look.marker, "markersize": 3}
        line |= {"gid": name, "linestyle": dashes, "label": short_params(params)}
        part = ordered[ordered["params"] == params]
        panel.plot("learning_rate", "score", data=part, **line)
        ends = {"colors": look.color, "linewidths": 0.8, "alpha": 0.6, "gid": f"{name} runs"}
        panel.vlines(part["learning_rate"], part["lowest"], part["highest"], **ends)
    circle = {"markersize": 9, "fillstyle": "none", "color": "black", "label": ""}
    panel.plot("learning_rate", "score", "o", data=ordered[ordered["chosen"]], **circle)
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(FixedLocator(sorted(trials["learning_rate"].unique())))
    panel.xaxis.set_major_formatter(lambda rate, _: f"{1e5 * rate:g}")
    panel.xaxis.set_minor_locator(NullLocator())
    panel.legend(loc="lower left", fontsize=7, handlelength=2.2)


@style.drawn_from(trials=TRIAL)
def draw_surface(frames: Frames, methods: Methods) -> Figure:
    """F17: validation accuracy by gate and temperature, a panel per regime and method with such a grid."""
    trials = gate_grid(frames["trials"])
    blocks = list(trials.groupby(["regime", "method"], sort=False))
    if not blocks:
        return style.empty_figure("no gates by temperature")
    figure = style.new_figure(2.9 * len(blocks))
    panels = figure.subplots(len(blocks), squeeze=False)[:, 0]
    lowest, highest = trials["score"].min(), trials["score"].max()
    for panel, ((regime, method), part) in zip(panels, blocks, strict=True):
        grid = part.pivot_table(index="gate", columns="tau", values="score", sort=False)
        image = _draw_grid(panel, grid[sorted(grid)], lowest, highest)
        label = methods[method]["label"]
        panel.set(title=f"{regime}, {label}", xlabel="temperature tau", ylabel="gate")
    figure.colorbar(image, ax=panels, label="validation pass@1 over training")
    return figure


def _draw_grid(panel: Axes, grid: DataFrame, lowest: float, highest: float) -> AxesImage:
    """The scores of gates (rows) at temperatures (columns), as colours and as numbers."""
    image = panel.imshow(grid, aspect="auto", vmin=lowest, vmax=highest, cmap="viridis")
    panel.set_xticks(range(grid.shape[1]), [f"{tau:g}" for tau in grid])
    panel.set_yticks(range(len(grid)), [gate.replace("_", "-") for gate in grid.index])
    panel.grid(False)
    for (i, j), score in np.ndenumerate(grid.to_numpy(float)):
        if np.isfinite(score):
            color = "black" if score > (lowest + highest) / 2 else "white"
            panel.text(j, i, f"{score:.2f}", ha="center", va="center", color=color, size=7)
    return image


def gate_grid(trials: DataFrame) -> DataFrame:
    """The trials that differ in gate and tau alone, with these two as columns, of methods with a grid."""
    params = trials["params"].map(json.loads)
    plain = params.map(
        lambda p: p.keys() == {"gate", "tau_pos", "tau_neg"} and p["tau_pos"] == p["tau_neg"]
    )
    rows = trials[plain].assign(
        gate=[p["gate"] for p in params[plain]], tau=[p["tau_pos"] for p in params[plain]]
    )
    counts = rows.groupby(["regime", "method"])[["gate", "tau"]].transform("nunique")
    return rows[(counts > 1).all(axis=1)]


@style.drawn_from(metrics=(*CURVE, "regime", "log_ratio_rms", *MASSES))
def draw_gradient_mass(frames: Frames, methods: Methods) -> Figure:
    """F15: where the gradient comes from: share by sign of A and side of r, over training."""
    metrics = frames["metrics"]
    drifted = metrics.groupby("regime")["log_ratio_rms"].transform("max") > 0.0
    metrics = metrics[drifted] if drifted.any() else metrics
    means = _means(metrics, [*MASSES])
    runs = metrics[["run", "method", "regime"]].drop_duplicates().merge(means, on="run")
    shown = style.shown_looks(runs, methods)
    titles = dict.fromkeys(regimes_of(metrics), "")
    figure, panels = rows.by_method(
        runs, shown, MASSES, titles, _draw_bar, counts=True, share="all"
    )
    panels[0, 0].set_xlim(left=0.0)
    panels[0, 0].locator_params(axis="x", nbins=3)
    return figure


def _means(metrics: DataFrame, columns: list[str]) -> DataFrame:
    """The mean of every quantity over the steps of a run at which it was measured."""
    return metrics.astype(dict.fromkeys(columns, float)).groupby("run")[columns].mean()


def _scale_shares(panel: Axes, values: Series) -> None:
    """A logarithmic axis that names its first and last decade, with room for 0 where there is one."""
    positive = values[values > 0.0]
    if positive.empty:
        return
    low, high = (
        10.0 ** np.floor(np.log10(positive.min())),
        10.0 ** np.ceil(np.log10(positive.max())),
    )
    if (values == 0.0).any():
        panel.set_xscale("symlog", linthresh=low, linscale=0.5)
        panel.set_xlim(-0.5 * low, 1.2 * high)
        ticks = [0.0, high]
    else:
        panel.set_xscale("log")
        panel.set_xlim(0.8 * low, 1.2 * high)
        ticks = [low, high]
    panel.xaxis.set_major_locator(FixedLocator(ticks))
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_locator(NullLocator())


def _draw_bar(panel: Axes, y: float, values: Series, look: Look, name: str) -> None:
    """The mean over runs as a bar, and its interval, cut at 0 and 1 as shares are."""
    mean, low, high = mean_interval(values)
    panel.barh(y, mean, BAR, color=look.color, alpha=0.75, gid=name)
    ends = {"color": "black", "linewidth": 1.0, "gid": name}
    panel.hlines(y, max(low, 0.0) if low == low else low, min(high, 1.0), **ends)
