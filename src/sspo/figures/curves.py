"""Curves of training: runs, their mean, and paired differences from one method.

Data are drawn as measured: no smoothing, no cutting. Thin lines are runs, and thick ones the mean over the
runs of all base models, at the steps where every run of the method has a value. Differences are taken
between runs of the same base model and seed, and their bands are 95 % t intervals over these pairs. Axes
hold all lines. A band is cut off where it is far wider than most: with three pairs a single method that
varies would otherwise flatten all the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from pandas import DataFrame, concat

from sspo.config.names import CONTROL
from sspo.evidence.intervals import mean_interval
from sspo.figures import style
from sspo.figures.inputs import CURVE, PAIR, Frames, Methods, method_label, reference_of, regimes_of
from sspo.figures.style import Look, Looks

SEED_WIDTH, BAND_ALPHA = 0.5, 0.13
GREY = Look("", "0.45", "--", "")  # of the control


class Part(NamedTuple):
    """A column of panels: one quantity against the step."""

    column: str
    title: str
    differs: bool = False  # by how much it differs from the reference, rather than its level
    linear_below: float | None = None  # the axis is logarithmic, but linear this near to 0


def measured(metrics: DataFrame, method: str, column: str) -> DataFrame:
    """The rows of one method that have the quantity, in the order of steps."""
    rows = metrics[metrics["method"] == method].dropna(subset=[column])
    return rows.astype({column: float}).sort_values("step")


def mean_curve(metrics: DataFrame, method: str, column: str) -> DataFrame:
    """The mean over the runs of one method, indexed by the steps that every run measured."""
    rows = measured(metrics, method, column)
    complete = rows.pivot(index="step", columns="run", values=column).dropna()
    return DataFrame({"mean": complete.mean(axis="columns")})


def difference_curve(metrics: DataFrame, method: str, reference: str, column: str) -> DataFrame:
    """Mean, low and high of a method's paired differences from the reference.

    Indexed by the steps at which both runs of every pair were measured. A single pair has no interval.
    """
    first, second = (
        measured(metrics, name, column).pivot(index="step", columns=PAIR, values=column)
        for name in (method, reference)
    )
    differences = (first - second).dropna(axis="columns", how="all").dropna()
    differences = differences if len(differences.columns) else differences.iloc[:0]
    intervals = [mean_interval(pairs) for pairs in differences.to_numpy()]
    return DataFrame(intervals, differences.index, ["mean", "low", "high"], dtype=float)


def draw_seeds(panel: Axes, metrics: DataFrame, method: str, column: str, **line: object) -> None:
    """A thin line per run, through its own measured values; fainter where there are many."""
    rows = measured(metrics, method, column)
    alpha = min(0.35, 1.5 / max(1, rows["run"].nunique()))
    for run, part in rows.groupby("run"):
        line |= {"linewidth": SEED_WIDTH, "alpha": alpha, "gid": f"{method} {run}"}
        panel.plot(part["step"], part[column], **line)


def draw_levels(panel: Axes, metrics: DataFrame, shown: Looks, column: str) -> None:
    """All methods in one panel: runs thin, means thick with dashes and sparse markers."""
    for i, (name, look) in enumerate(shown.items()):
        draw_seeds(panel, metrics, name, column, color=look.color)
        mean = mean_curve(metrics, name, column)
        panel.plot(mean.index, mean["mean"], **_line(i, len(shown), len(mean), look), gid=name)
    if metrics.loc[metrics["method"].isin(shown), column].isna().all():
        style.note_empty(panel)


def draw_differences(
    panel: Axes, metrics: DataFrame, shown: Looks, reference: str, column: str
) -> None:
    """Every method's mean paired difference from the reference, and its interval as a band."""
    panel.axhline(0.0, color=shown[reference].color, linewidth=1.0)
    curves = []
    for i, (name, look) in enumerate(shown.items()):
        curve = difference_curve(metrics, name, reference, column)
        if name == reference or curve.empty:
            continue
        band = {"color": look.color, "alpha": BAND_ALPHA, "linewidth": 0, "gid": name}
        panel.fill_between(curve.index, curve["low"], curve["high"], **band)
        panel.plot(curve.index, curve["mean"], **_line(i, len(shown), len(curve), look), gid=name)
        curves.append(curve)
    if not curves:
        style.note_empty(panel, "no pairs")
        return
    if panel.get_yscale() == "linear":
        _leave_out_wide_bands(panel, concat(curves))


def _leave_out_wide_bands(panel: Axes, drawn: DataFrame) -> None:
    """Limits with all means, and beyond them room for half of the bands around the outermost ones."""
    room = ((drawn["high"] - drawn["low"]) / 2).median()
    if room > 0.0:
        panel.set_ylim(min(drawn["mean"].min(), 0.0) - room, max(drawn["mean"].max(), 0.0) + room)


def by_regime(parts: Sequence[Part], control: bool = False) -> Callable[[Frames, Methods], Figure]:
    """A function that draws these quantities, a column each, with a row of panels per regime.

    ``control`` adds the supervised control, in grey, to the panels of levels.
    """

    @style.drawn_from(metrics=(*CURVE, "regime", *PAIR, *dict.fromkeys(p.column for p in parts)))
    def draw(frames: Frames, methods: Methods) -> Figure:
        metrics, shown = frames["metrics"], style.shown_looks(frames["metrics"], methods)
        reference, regimes = reference_of(shown), regimes_of(metrics)
        others = [name for name in shown if name != reference]
        figure, panels = regime_panels(regimes, len(parts))
        for line, regime in zip(panels, regimes, strict=True):
            part = metrics[metrics["regime"] == regime]
            line[0].set_ylabel(regime_label(part, shown, regime), weight="bold")
            for panel, (column, _, differs, linear_below) in zip(line, parts, strict=True):
                if linear_below:
                    show_zero(panel, linear_below)
                if differs:
                    draw_differences(panel, part, shown, reference, column)
                    continue
                draw_levels(panel, part, shown, column)
                if control and (part["method"] == CONTROL).any():
                    mean = mean_curve(part, CONTROL, column)
                    panel.plot(mean.index, mean["mean"], **_line(0, 1, 0, GREY), gid=CONTROL)
        for panel, of_column in zip(panels[0], parts, strict=True):
            panel.set_title(of_column.title.format(reference=shown[reference].label))
        entries = style.method_entries(shown)
        if control and (metrics["method"] == CONTROL).any():
            grey = GREY._replace(label=method_label(CONTROL, methods))
            entries += style.method_entries({CONTROL: grey})
        levels = any(not p.differs for p in parts)
        entries += [Line2D([], [], color="0.2", linewidth=SEED_WIDTH, label="one run")] * levels
        if others and any(p.differs for p in parts):
            band = {"color": "0.2", "alpha": 2 * BAND_ALPHA, "linewidth": 0}
            entries.append(Patch(label="95 % t interval over pairs", **band))
        style.add_legend(figure, entries, columns=4)
        return figure

    return draw


def regime_panels(regimes: Sequence[str], columns: int) -> tuple[Figure, Mapping]:
    """A figure with a row of panels per regime, each row with steps of its own."""
    figure = style.new_figure((2.0 if len(regimes) == 1 else 1.45 * len(regimes)) + 1.0)
    panels = figure.subplots(len(regimes), columns, squeeze=False, sharex="row")
    for panel in panels.flat:
        panel.locator_params(axis="x", integer=True)
    for panel in panels[-1]:
        panel.set_xlabel("step")
    return figure, panels


def regime_label(metrics: DataFrame, shown: Looks, regime: str) -> str:
    """The name of a regime and its runs per method: one number, or the smallest and the largest."""
    runs = metrics[metrics["method"].isin(shown)].groupby("method")["run"].nunique()
    counts = sorted({*runs})
    return f"{regime}\nn = {' to '.join(map(str, dict.fromkeys([counts[0], counts[-1]])))}"


def show_zero(panel: Axes, linear_below: float) -> None:
    """A logarithmic axis that is linear near 0 and always shows it."""
    panel.set_yscale("symlog", linthresh=linear_below)
    panel.axhline(0.0, color="0.85", linewidth=0.6, zorder=0)


def _line(place: int, of: int, length: int, look: Look) -> dict[str, object]:
    """How the mean of a method is drawn; staggered markers do not hide each other."""
    every = max(1, length // 6)
    line = {"color": look.color, "linestyle": look.dashes, "marker": look.marker}
    return line | {"markersize": 3, "markevery": (place * every // of, every)}
