"""Curves of training: seeds, their mean, its interval.

Data are drawn as measured: no smoothing, no cutting. Thin lines are seeds, thick ones the mean over
seeds, at the steps where every seed of the method has a value. Bands are 95 % t intervals over
seeds; with few seeds they can be far wider than the data, so axis limits follow the data alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from pandas import DataFrame

from sspo.evidence.intervals import mean_interval
from sspo.figures.style import Looks, add_legend, method_entries, method_panels, note_empty

SEED_WIDTH, OTHERS, BAND_ALPHA = 0.6, "0.75", 0.18


def measured(metrics: DataFrame, method: str, column: str) -> DataFrame:
    """The rows of one method that have the quantity, in the order of steps."""
    rows = metrics[metrics["method"] == method].dropna(subset=[column])
    return rows.astype({column: float}).sort_values("step")


def mean_curve(metrics: DataFrame, method: str, column: str, x: str = "step") -> DataFrame:
    """Mean, low and high of one method's quantity over its seeds, and the mean x to draw them at.

    Indexed by step: those that every run measured.
    """
    rows = measured(metrics, method, column)
    complete = rows.pivot(index="step", columns="run", values=column).dropna()
    intervals = [mean_interval(seeds) for seeds in complete.to_numpy()]
    curve = DataFrame(intervals, complete.index, ["mean", "low", "high"], dtype=float)
    return curve.assign(x=rows.groupby("step")[x].mean())


def draw_mean(
    panel: Axes, metrics: DataFrame, method: str, column: str, x: str = "step", **line: object
) -> None:
    """A line through the means over seeds."""
    panel.plot("x", "mean", data=mean_curve(metrics, method, column, x), **line)


def draw_seeds(
    panel: Axes, metrics: DataFrame, method: str, column: str, x: str = "step", **line: object
) -> None:
    """A thin line per run, through its own measured values."""
    for run, rows in measured(metrics, method, column).groupby("run"):
        gid = f"{method} {run}"
        panel.plot(rows[x].astype(float), rows[column], linewidth=SEED_WIDTH, gid=gid, **line)


def seed_panels(figure: FigureBase, metrics: DataFrame, shown: Looks) -> dict[str, Axes]:
    """A panel per method against the step, titled with its label and number of seeds."""
    panels, seeds = method_panels(figure, shown, "step"), seed_counts(metrics)
    for name, panel in panels.items():
        panel.set_title(f"{shown[name].label}\nn = {seeds[name]}")
        panel.locator_params(axis="x", integer=True)
    return panels


def seed_counts(metrics: DataFrame) -> dict[str, int]:
    """Runs per method."""
    return metrics.groupby("method")["run"].nunique().to_dict()


def draw_compared(
    panels: Mapping[str, Axes], metrics: DataFrame, shown: Looks, column: str
) -> None:
    """Each method's seeds, mean and band in its panel, the other methods' means in grey behind."""
    means = {name: mean_curve(metrics, name, column) for name in shown}
    for name, panel in panels.items():
        color = shown[name].color
        for other in (other for other in means if other != name):
            panel.plot("x", "mean", data=means[other], color=OTHERS, linewidth=0.7, zorder=1)
        draw_seeds(panel, metrics, name, column, color=color, alpha=0.45)
        panel.plot("x", "mean", data=means[name], color=color, gid=name)
        if measured(metrics, name, column).empty:
            note_empty(panel)
    limits = next(iter(panels.values())).get_ylim()
    for name, panel in panels.items():
        band = {"color": shown[name].color, "alpha": BAND_ALPHA, "linewidth": 0, "gid": name}
        panel.fill_between("x", "low", "high", data=means[name], **band)
        panel.set_ylim(limits)


def draw_overlaid(
    panel: Axes, metrics: DataFrame, shown: Looks, column: str, x: str = "step"
) -> None:
    """All methods in one panel: seeds thin, means thick with dashes and sparse markers."""
    for i, (name, look) in enumerate(shown.items()):
        draw_seeds(panel, metrics, name, column, x, color=look.color, alpha=0.3)
        mean = mean_curve(metrics, name, column, x)
        # Staggered, so that markers of near-identical curves do not hide each other.
        every = max(1, len(mean) // 6)
        line = {"markevery": (i * every // len(shown), every), "markersize": 3, "gid": name}
        line |= {"color": look.color, "linestyle": look.dashes, "marker": look.marker}
        panel.plot("x", "mean", data=mean, **line)
    panel.locator_params(axis="x", integer=True)
    if metrics.loc[metrics["method"].isin(shown), column].isna().all():
        note_empty(panel)


def draw_last(panel: Axes, metrics: DataFrame, shown: Looks, column: str) -> None:
    """Seeds, mean and 95 % t interval of every method at the last step all its seeds reached."""
    means = {name: mean_curve(metrics, name, column) for name in shown}
    lasts = {i: (name, means[name].iloc[-1]) for i, name in enumerate(shown) if len(means[name])}
    for i, (name, last) in lasts.items():
        look, rows = shown[name], measured(metrics, name, column)
        seeds = rows.loc[rows["step"] == last.name, column]
        panel.plot([i] * len(seeds), seeds, "_", color=look.color, alpha=0.7, gid=name)
        panel.plot(i, last["mean"], look.marker, color=look.color, markersize=4)
    limits = panel.get_ylim()
    for i, (name, last) in lasts.items():
        panel.vlines(i, last["low"], last["high"], color=shown[name].color, linewidth=1.0)
    panel.set(xticks=[], xlim=(-0.7, len(shown) - 0.3), ylim=limits)


def show_zero(panel: Axes, linear_below: float) -> None:
    """A logarithmic axis that is linear near 0 and always shows it."""
    panel.set_yscale("symlog", linthresh=linear_below)
    panel.axhline(0.0, color="0.85", linewidth=0.6, zorder=0)


def overlaid_legend(
    figure: FigureBase, metrics: DataFrame, shown: Looks, extra: Sequence[Artist] = ()
) -> None:
    """The legend of ``draw_overlaid``: methods, and how many seeds they have."""
    counts = {seed_counts(metrics)[name] for name in shown}
    seeds = f"{min(counts)}" if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    title = f"thin: seeds (n = {seeds}), thick: their mean"
    add_legend(figure, [*method_entries(shown), *extra], title=title)


def compared_entries() -> list[Artist]:
    """Legend entries of ``draw_compared``."""
    return [
        Line2D([], [], color="0.2", linewidth=SEED_WIDTH, label="seed"),
        Line2D([], [], color="0.2", label="mean"),
        Patch(color="0.2", alpha=BAND_ALPHA, linewidth=0, label="95 % t interval"),
        Line2D([], [], color=OTHERS, linewidth=0.7, label="other methods"),
    ]
