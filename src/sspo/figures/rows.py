"""Rows of panels, one per regime, with names down the left side and the dose of the regime above."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pandas import DataFrame, Series

from sspo.figures import style
from sspo.figures.style import Look, Looks

LINE, HEAD = 0.155, 0.34  # inches of a name, and above every row
DOSE = ("drift", "grpo_clip_share", "sequence_weight_distance")  # columns of the runs

Mark = Callable[[Axes, float, Series, Look, str], None]  # panel, y, a value per run, look, method


def dose_text(runs: DataFrame) -> str:
    """The dose of one regime, as means over its runs: what is not in the frame is left out."""
    means = {name: runs[name].mean() for name in DOSE if name in runs and runs[name].notna().any()}
    parts = {
        "drift": "drift {:.2g} nats",
        "grpo_clip_share": "GRPO's clip would cut {:.2g} % of tokens",
        "sequence_weight_distance": "|weight \N{MINUS SIGN} 1| {:.2g}",
    }
    if "grpo_clip_share" in means:
        means["grpo_clip_share"] *= 100.0
    return ", ".join(parts[name].format(mean) for name, mean in means.items())


def row_panels(
    heights: Sequence[float],
    titles: Sequence[tuple[str, str]],
    columns: Sequence[str],
    share: str = "col",
    below: float = 0.9,
    line: float = LINE,
) -> tuple[Figure, NDArray[Any]]:
    """A figure with rows of panels.

    Args:
        heights: names that each row has room for.
        titles: what stands bold above each row, and what follows it.
        columns: what stands above each column.
        share: which panels have one x axis, as ``Figure.subplots`` takes it.
        below: inches for the legend.
        line: inches of a name.
    """
    top = 0.15 * max(text.count("\n") + 1 for text in columns)
    figure = style.new_figure(sum(heights) * line + len(heights) * HEAD + top + below)
    figure.get_layout_engine().set(h_pad=0.08, hspace=0.0, w_pad=0.03, wspace=0.0)
    grid = {"height_ratios": heights}
    panels = figure.subplots(
        len(heights), len(columns), squeeze=False, sharex=share, sharey="row", gridspec_kw=grid
    )
    for row, (name, text) in zip(panels, titles, strict=True):
        for fraction, shown, weight in (("figure", name, "bold"), ("axes", text, "normal")):
            row[0].annotate(
                shown,
                (0.0, 1.0),
                (3 if fraction == "figure" else 0, 3),
                xycoords=(f"{fraction} fraction", "axes fraction"),
                textcoords="offset points",
                annotation_clip=False,
                weight=weight,
                size=7.5,
                parse_math=False,
            ).set_in_layout(False)
    for panel, text in zip(panels[0], columns, strict=True):
        panel.set_title(text, pad=17, size=7.5)
    for panel in panels.flat:
        panel.tick_params(axis="y", length=0, labelsize=7.5)
        panel.tick_params(axis="x", labelsize=7.5)
        panel.grid(axis="y", visible=False)
        panel.set_axisbelow(True)
    return figure, panels


def name_rows(panel: Axes, places: Sequence[float], names: Sequence[str]) -> None:
    """Names down the left side of a row, the first one on top."""
    panel.set_yticks(places, names)
    panel.set_ylim(max(places) + 0.6, min(places) - 0.6)


def by_method(
    values: DataFrame,
    shown: Looks,
    columns: Mapping[str, str],
    titles: Mapping[str, str],
    mark: Mark,
    counts: bool = False,
    share: str = "col",
) -> tuple[Figure, NDArray[Any]]:
    """A row of panels per regime and a column per quantity, with a line per method.

    Args:
        values: a row per run with ``regime``, ``method`` and the quantities.
        shown: looks of the methods.
        columns: quantity -> what stands above its column.
        titles: regime -> what follows its name.
        mark: draws the values of a method's runs.
        counts: whether the number of runs stands beside a method's name.
        share: which panels have one x axis.
    """
    parts = {regime: values[values["regime"] == regime] for regime in titles}
    names = {r: [m for m in shown if (part["method"] == m).any()] for r, part in parts.items()}
    figure, panels = row_panels(
        [len(found) for found in names.values()],
        [*titles.items()],
        [*columns.values()],
        share,
        0.35,
    )
    for line, (regime, part) in zip(panels, parts.items(), strict=True):
        runs = part["method"].value_counts()
        labels = [shown[m].label + f" (n = {runs[m]})" * counts for m in names[regime]]
        name_rows(line[0], range(len(labels)), labels)
        for panel, column in zip(line, columns, strict=True):
            for y, name in enumerate(names[regime]):
                own = part.loc[part["method"] == name, column].dropna().astype(float)
                if len(own):
                    mark(panel, y, own, shown[name], name)
    return figure, panels


def mark_dots(panel: Axes, y: float, values: Series, look: Look, name: str) -> None:
    """Every run as a small mark, their mean as a large one."""
    line = {"color": look.color, "marker": look.marker, "linestyle": ""}
    panel.plot(values, [y] * len(values), markersize=3, alpha=0.45, gid=f"{name} runs", **line)
    panel.plot(values.mean(), y, markersize=5.5, markeredgecolor="white", gid=name, **line)
