"""What the figures of training curves are made of: a method's look, its curves, its panels.

Data are drawn as measured: no smoothing, no cutting. Thin lines are seeds, thick ones the mean over
seeds, at the steps where every seed of the method has a value. Bands are 95 % t intervals over
seeds; with few seeds they can be far wider than the data, so axis limits follow the data alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from pandas import DataFrame

from sspo.evidence.intervals import mean_interval

Frames = Mapping[str, DataFrame]
Methods = Mapping[str, Mapping[str, str]]

CONTROL = "supervised"  # trained without reward, so only its accuracy is drawn
SEED_WIDTH, OTHERS, BAND_ALPHA = 0.6, "0.75", 0.18
DASHES = (
    "-",
    (0, (5, 1.2)),
    (0, (4, 1, 1, 1)),
    (0, (1.2, 1)),
    (0, (7, 1, 1, 1, 1, 1)),
    (0, (2, 1)),
    (0, (9, 2)),
    (0, (3, 1, 3, 1, 1, 1)),
    (0, (1, 2.5)),
)
MARKERS = "os^Dv<>Ph"


@dataclass(frozen=True)
class Look:
    """How a method appears in every figure."""

    label: str
    color: str
    dashes: object
    marker: str


@dataclass(frozen=True)
class Curves:
    """A quantity of one method.

    Attributes:
        values: (steps, runs), indexed by step; NaN where a run measured nothing.
        x: (steps, runs), where the values stand on the x axis.
        mean: indexed by step, columns x, mean, low, high; only steps that every run measured.
    """

    values: DataFrame
    x: DataFrame
    mean: DataFrame


def looks(methods: Methods) -> dict[str, Look]:
    """Label, colour, dashes and marker of every method, by its place in ``methods``.

    Raises:
        ValueError: a method without a label or a colour.
    """
    names = [name for name in methods if name != CONTROL]
    for name in names:
        if not {"label", "color"} <= set(methods[name]):
            raise ValueError(f"method {name!r} needs a label and a color; add them to its entry")
    return {
        name: Look(
            label=methods[name]["label"],
            color=methods[name]["color"],
            dashes=DASHES[i % len(DASHES)],
            marker=MARKERS[i % len(MARKERS)],
        )
        for i, name in enumerate(names)
    }


def shown_looks(frame: DataFrame, methods: Methods) -> dict[str, Look]:
    """The looks of the methods that the frame has rows of, in the order of ``methods``."""
    there = set(frame["method"])
    return {name: look for name, look in looks(methods).items() if name in there}


def curves(metrics: DataFrame, method: str, column: str, x: str = "step") -> Curves:
    """One method's quantity by step and run, and its mean over seeds.

    Args:
        metrics: one row per run and step.
        method: the rows to take.
        column: the quantity.
        x: the column of the x axis; a mean stands at the mean x of its seeds.
    """
    measured = metrics[metrics["method"] == method].dropna(subset=[column])
    measured = measured.assign(value=measured[column].astype(float), x=measured[x].astype(float))
    values = measured.pivot(index="step", columns="run", values="value")
    places = measured.pivot(index="step", columns="run", values="x")
    complete = values.dropna()
    intervals = [mean_interval(row) for row in complete.to_numpy()]
    names = ["mean", "low", "high"]
    mean = DataFrame(intervals, index=complete.index, columns=names, dtype=float)
    return Curves(values, places, mean.assign(x=places.loc[complete.index].mean(axis=1)))


def method_panels(
    figure: FigureBase, metrics: DataFrame, shown: Mapping[str, Look]
) -> dict[str, Axes]:
    """A panel per method on shared axes, titled with its label and number of seeds."""
    rows, columns = panel_grid(len(shown))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for unused in grid.flat[len(shown) :]:
        unused.set_axis_off()
    panels = dict(zip(shown, grid.flat, strict=False))
    seeds = seed_counts(metrics)
    for i, (name, panel) in enumerate(panels.items()):
        panel.set_title(f"{shown[name].label}\nn = {seeds[name]}")
        if i + columns >= len(shown):  # nothing below
            panel.set_xlabel("step")
            panel.tick_params(labelbottom=True)
        panel.locator_params(axis="x", integer=True)
    return panels


def seed_counts(metrics: DataFrame) -> dict[str, int]:
    """Runs per method."""
    return metrics.groupby("method")["run"].nunique().to_dict()


def panel_grid(count: int) -> tuple[int, int]:
    """Rows and columns of ``count`` panels: three abreast, but two by two for four."""
    columns = 2 if count == 4 else min(count, 3)
    return -(-count // columns), columns


def draw_compared(
    panels: Mapping[str, Axes], found: Mapping[str, Curves], shown: Mapping[str, Look]
) -> None:
    """Each method's seeds, mean and band in its panel, the other methods' means in grey behind."""
    for name, panel in panels.items():
        for other in (o for o in found if o != name):
            draw_mean(panel, found[other], color=OTHERS, linewidth=0.7, zorder=1)
        draw_seeds(panel, found[name], name, shown[name].color)
        draw_mean(panel, found[name], gid=name, color=shown[name].color)
        if found[name].values.empty:
            note_empty(panel)
    limits = next(iter(panels.values())).get_ylim()
    for name, panel in panels.items():
        mean, style = found[name].mean, {"alpha": BAND_ALPHA, "linewidth": 0}
        panel.fill_between(
            mean["x"], mean["low"], mean["high"], color=shown[name].color, gid=name, **style
        )
        panel.set_ylim(limits)


def draw_overlaid(
    panel: Axes, metrics: DataFrame, shown: Mapping[str, Look], column: str, x: str = "step"
) -> None:
    """All methods in one panel: seeds thin, means thick with dashes and sparse markers."""
    for i, (name, look) in enumerate(shown.items()):
        found = curves(metrics, name, column, x)
        draw_seeds(panel, found, name, look.color, alpha=0.3)
        # Staggered, so that markers of near-identical curves do not hide each other.
        every = max(1, len(found.mean) // 6)
        style = {"markevery": (i * every // len(shown), every), "markersize": 3}
        style |= {"color": look.color, "linestyle": look.dashes, "marker": look.marker}
        draw_mean(panel, found, gid=name, **style)
    panel.locator_params(axis="x", integer=True)
    if metrics.loc[metrics["method"].isin(shown), column].isna().all():
        note_empty(panel)


def draw_last(panel: Axes, metrics: DataFrame, shown: Mapping[str, Look], column: str) -> None:
    """Seeds, mean and 95 % t interval of every method at the last step all its seeds reached."""
    found = {name: curves(metrics, name, column) for name in shown}
    places = {name: i for i, name in enumerate(shown) if len(found[name].mean)}
    for name, place in places.items():
        last, look = found[name].mean.iloc[-1], shown[name]
        seeds = found[name].values.loc[last.name]
        panel.plot([place] * len(seeds), seeds, "_", color=look.color, alpha=0.7, gid=name)
        panel.plot(place, last["mean"], look.marker, color=look.color, markersize=4)
    limits = panel.get_ylim()
    for name, place in places.items():
        last = found[name].mean.iloc[-1]
        panel.vlines(place, last["low"], last["high"], color=shown[name].color, linewidth=1.0)
    panel.set(xticks=[], xlim=(-0.7, len(shown) - 0.3), ylim=limits)


def draw_seeds(panel: Axes, found: Curves, name: str, color: str, alpha: float = 0.45) -> None:
    """A thin line per run, through its own measured values."""
    for run in found.values:
        y = found.values[run].dropna()
        style = {"color": color, "alpha": alpha, "linewidth": SEED_WIDTH, "gid": f"{name} {run}"}
        panel.plot(found.x.loc[y.index, run], y, **style)


def draw_mean(panel: Axes, found: Curves, **style: object) -> None:
    """A line through the means."""
    panel.plot(found.mean["x"], found.mean["mean"], **style)


def show_zero(panel: Axes, linear_below: float) -> None:
    """A logarithmic axis that is linear near 0 and always shows it."""
    panel.set_yscale("symlog", linthresh=linear_below)
    panel.axhline(0.0, color="0.85", linewidth=0.6, zorder=0)


def note_empty(panel: Axes) -> None:
    """Say that there is nothing to draw, rather than leave the reader guessing."""
    style = {"ha": "center", "va": "center", "color": "0.5", "transform": panel.transAxes}
    panel.text(0.5, 0.5, "not measured", **style)


def method_legend(
    figure: FigureBase,
    metrics: DataFrame,
    shown: Mapping[str, Look],
    extra: Sequence[Artist] = (),
) -> None:
    """A legend of overlaid methods and their number of seeds."""
    counts = {seed_counts(metrics)[name] for name in shown}
    seeds = f"{min(counts)}" if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    title = f"thin: seeds (n = {seeds}), thick: their mean"
    add_legend(figure, [*method_handles(shown), *extra], title=title)


def method_handles(shown: Mapping[str, Look], markers: bool = True) -> list[Artist]:
    """Legend entries of overlaid methods."""
    return [
        Line2D(
            [],
            [],
            color=look.color,
            linestyle=look.dashes,
            marker=look.marker if markers else "",
            markersize=3,
            label=look.label,
        )
        for look in shown.values()
    ]


def panel_handles() -> list[Artist]:
    """Legend entries of ``draw_compared``."""
    return [
        Line2D([], [], color="0.2", linewidth=SEED_WIDTH, label="seed"),
        Line2D([], [], color="0.2", label="mean"),
        Patch(color="0.2", alpha=BAND_ALPHA, linewidth=0, label="95 % t interval"),
        Line2D([], [], color=OTHERS, linewidth=0.7, label="other methods"),
    ]


def add_legend(
    figure: FigureBase, handles: Sequence[Artist], columns: int = 3, title: str | None = None
) -> None:
    """A legend below everything, where it covers no data."""
    columns = min(columns, len(handles))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, title=title)
