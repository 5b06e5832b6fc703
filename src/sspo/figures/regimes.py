"""Figures that compare regimes, and the trials of their tuning (F10, F11, F12, F15).

Small marks are runs as measured, lines and large marks means over runs, bars 95 % t intervals over
them. Frames: ``runs``, a row per run; ``metrics``, per run and step; ``trials``, per tuning trial.
"""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator
from pandas import DataFrame

from sspo.config.names import BASE
from sspo.evidence.intervals import mean_interval
from sspo.figures import curves, style
from sspo.figures.inputs import CURVE, RUN, TRIAL, Frames, Methods, short_params

AGE, DRIFT = "updates_per_rollout", "drift"
SWEPT = {"test_pass@1": "final test pass@1", "drawdown": "worst drawdown\n(validation pass@1)"}
MASSES = {f"mass_{quadrant}": label for quadrant, label in style.QUADRANTS.items()}


@style.drawn_from(whole=True, runs=(*RUN, AGE, DRIFT, "learning_rate", "tuned", *SWEPT))
def draw_staleness(frames: Frames, methods: Methods) -> Figure:
    """F10: outcome against updates per rollout, and against the drift that they led to.

    Runs on the main base model and task. Hollow marks are a regime whose learning rate is given
    rather than tuned.
    """
    runs = frames["runs"]
    runs = runs[runs["base"] == BASE]
    shown = style.shown_looks(runs, methods)
    figure = style.new_figure(5.0)
    panels = figure.subplots(len(SWEPT), 2, sharex="col", sharey="row")
    for (by_age, by_drift), (outcome, label) in zip(panels, SWEPT.items(), strict=True):
        bars = []
        for i, (name, look) in enumerate(shown.items()):
            dodge = 2.0 ** (0.16 * (i - (len(shown) - 1) / 2.0))
            own = runs[runs["method"] == name].dropna(subset=[outcome])
            for hollow, part in own.groupby(own["tuned"] == "params"):
                age = part[AGE] * dodge
                means = _draw_regimes(by_age, part.assign(x=age), outcome, look, hollow)
                bars += [(x, low, high, look.color) for x, _, low, high in means]
                _draw_regimes(by_drift, part.assign(x=part[DRIFT]), outcome, look, hollow)
        limits = by_age.get_ylim()  # follow the data, not intervals over few runs
        for x, low, high, color in bars:
            by_age.vlines(x, low, high, color=color, linewidth=0.7, alpha=0.6)
        by_age.set(ylabel=label, ylim=limits)
    panels[0, 0].set_xscale("log", base=2)
    panels[0, 0].set_xticks(sorted(runs[AGE].unique()))
    panels[0, 0].xaxis.set_major_formatter("{x:g}")
    if (runs[DRIFT] > 0.0).all():
        panels[0, 1].set_xscale("log")
    else:  # one update per rollout has no drift at all
        panels[0, 1].set_xscale("symlog", linthresh=0.01)
        panels[0, 1].set_xlim(left=-0.002)
    panels[-1, 0].set_xlabel("updates per rollout")
    panels[-1, 1].set_xlabel("drift: root mean square\nlog-ratio (nats)")
    given = sorted(runs.loc[runs["tuned"] == "params", "learning_rate"].unique())
    entries = style.method_entries(shown)
    if given:
        label = f"all at learning rate {' and '.join(f'{rate:g}' for rate in given)}"
        mark = {"linestyle": "", "marker": "o", "markerfacecolor": "white", "color": "0.2"}
        entries.append(Line2D([], [], label=label, **mark))
    style.add_legend(figure, entries)
    return figure


@style.drawn_from(whole=True, metrics=(*CURVE, "log_ratio_rms", "sequence_weight_var"))
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


@style.drawn_from(whole=True, trials=TRIAL)
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
        panel.plot("learning_rate", "score", data=ordered[ordered["params"] == params], **line)
    circle = {"markersize": 9, "fillstyle": "none", "color": "black", "label": ""}
    panel.plot("learning_rate", "score", "o", data=ordered[ordered["chosen"]], **circle)
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(FixedLocator(sorted(trials["learning_rate"].unique())))
    panel.xaxis.set_major_formatter(lambda rate, _: f"{1e5 * rate:g}")
    panel.xaxis.set_minor_locator(NullLocator())
    panel.legend(loc="lower left", fontsize=7, handlelength=2.2)


@style.drawn_from(whole=True, metrics=(*CURVE, "regime", "base", "log_ratio_rms", *MASSES))
def draw_gradient_mass(frames: Frames, methods: Methods) -> Figure:
    """F15: where the gradient comes from: share by sign of A and side of r, regime by regime."""
    metrics = frames["metrics"]
    metrics = metrics[metrics["base"] == BASE]
    drifted = metrics.groupby("regime")["log_ratio_rms"].transform("max") > 0.0
    metrics = metrics[drifted] if drifted.any() else metrics
    last = metrics.groupby("regime")["step"].transform("max")
    metrics = metrics.assign(progress=metrics["step"] / last)
    shown, regimes = style.shown_looks(metrics, methods), list(metrics["regime"].unique())
    figure = style.new_figure(6.4)
    panels = figure.subplots(len(MASSES), len(regimes), sharex=True, sharey=True, squeeze=False)
    for line, (column, label) in zip(panels, MASSES.items(), strict=True):
        for panel, regime in zip(line, regimes, strict=True):
            part = metrics[metrics["regime"] == regime]
            curves.draw_overlaid(panel, part, shown, column, x="progress")
        line[0].set_ylabel(label)
    for top, bottom, regime in zip(panels[0], panels[-1], regimes, strict=True):
        top.set_title(regime)
        bottom.set_xlabel("share of training")
        bottom.xaxis.set_major_locator(FixedLocator([0.0, 0.5, 1.0]))
        bottom.xaxis.set_major_formatter("{x:g}")
    figure.supylabel("share of the absolute gradient")
    style.add_legend(figure, style.method_entries(shown))
    return figure


def _draw_regimes(
    panel: Axes, runs: DataFrame, outcome: str, look: style.Look, hollow: bool
) -> list[tuple[float, float, float, float]]:
    """Runs of one method at their ``x``, and a mean per regime: x, mean, low and high of each."""
    face = "white" if hollow else look.color
    line: dict[str, Any] = {
        "color": look.color,
        "markerfacecolor": face,
        "linestyle": "",
        "marker": look.marker,
    }
    panel.plot(runs["x"], runs[outcome], markersize=2.5, alpha=0.45, **line)
    means = sorted(
        (part["x"].mean(), *mean_interval(part[outcome])) for _, part in runs.groupby("regime")
    )
    if not hollow:
        line |= {"linestyle": look.dashes, "linewidth": 1.0}
    x, mean, _, _ = zip(*means, strict=True)
    panel.plot(x, mean, markersize=4, gid=runs["method"].iloc[0], **line)
    return means
