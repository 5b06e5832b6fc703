"""How every figure looks: paper width, type, a method's colour and dashes, panels, legends, files."""

from __future__ import annotations

import itertools
import logging
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D
from pandas import DataFrame

from sspo.config.names import CONTROL
from sspo.figures.inputs import Methods, made_from

WIDTH = 6.5  # inches, the text width of a letter page
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 8,
    **{f"{part}.labelsize": 8 for part in ("axes", "figure", "xtick", "ytick")},
    "axes.titlesize": 8,
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
DASHES = ("-", (0, (5, 1.2)), (0, (4, 1, 1, 1)), (0, (1.2, 1)), (0, (7, 1, 1, 1, 1, 1)),
          (0, (2, 1)), (0, (9, 2)), (0, (3, 1, 3, 1, 1, 1)), (0, (1, 2.5)))  # fmt: skip
MARKERS = "os^Dv<>Ph"
QUADRANTS = {  # of tokens: end of a column's name -> sign of the advantage and side of the ratio
    "pos_up": "A > 0, r > 1",
    "pos_down": "A > 0, r < 1",
    "neg_up": "A < 0, r > 1",
    "neg_down": "A < 0, r < 1",
}


class Look(NamedTuple):
    """How a method appears in every figure."""

    label: str
    color: str
    dashes: object
    marker: str


Looks = Mapping[str, Look]  # by method, in the order to show

# SSPO's gates where they stand for no method, in the colours of the methods that have them.
GATES = {
    "sigmoid": Look("sigmoid", "#D55E00", DASHES[0], MARKERS[0]),
    "log_arctan": Look("log-arctan", "#CC79A7", DASHES[1], MARKERS[1]),
}


def drawn_from(**columns: Sequence[str]) -> Callable:
    """Decorate a draw function: ``made_from`` these columns, in the house style."""
    return lambda draw: made_from(**columns)(matplotlib.rc_context(STYLE)(draw))


def new_figure(height: float) -> Figure:
    """An empty figure of paper width; the height is in inches."""
    return Figure(figsize=(WIDTH, height), layout="constrained")


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write ``{stem}.png`` and ``{stem}.pdf``: the same bytes for the same data, no time inside."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of every glyph at INFO
    metadata = {".png": {"Software": None}, ".pdf": {"CreationDate": None}}
    with matplotlib.rc_context(STYLE):
        for suffix, nothing in metadata.items():
            figure.savefig(stem.with_suffix(suffix), dpi=200, metadata=nothing)
    return [stem.with_suffix(suffix) for suffix in metadata]


def shown_looks(frame: DataFrame, methods: Methods) -> dict[str, Look]:
    """The looks of the methods that the frame has rows of, each by its place in ``methods``.

    The control has none: it is trained without reward, so only its accuracy is drawn, in grey.
    """
    names = [name for name in methods if name != CONTROL]
    looks = zip(names, itertools.cycle(DASHES), itertools.cycle(MARKERS), strict=False)
    return {
        name: Look(methods[name]["label"], methods[name]["color"], dashes, marker)
        for name, dashes, marker in looks
        if name in set(frame["method"])
    }


def panel_grid(count: int) -> tuple[int, int]:
    """Rows and columns of ``count`` panels: three abreast, but two by two for four."""
    columns = 2 if count == 4 else min(count, 3)
    return -(-count // columns), columns


def method_panels(figure: FigureBase, shown: Looks, xlabel: str) -> dict[str, Axes]:
    """A panel per method on shared axes, titled with its label."""
    rows, columns = panel_grid(len(shown))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
    for unused in grid[len(shown) :]:
        unused.set_axis_off()
    for panel, look in zip(grid, shown.values(), strict=False):
        panel.set_title(look.label)
    for lowest in grid[max(0, len(shown) - columns) : len(shown)]:  # nothing below
        lowest.set_xlabel(xlabel)
        lowest.tick_params(labelbottom=True)
    return dict(zip(shown, grid, strict=False))


def note_empty(panel: Axes, why: str = "not measured") -> None:
    """Say that there is nothing to draw, rather than leave the reader guessing."""
    centre = {"ha": "center", "va": "center", "transform": panel.transAxes}
    panel.text(0.5, 0.5, why.replace(" ", "\n"), color="0.4", **centre)


def empty_figure(why: str) -> Figure:
    """A small figure that says why there is nothing to draw."""
    figure = new_figure(1.0)
    panel = figure.subplots()
    panel.set_axis_off()
    note_empty(panel, why)
    return figure


def wrapped(label: str, width: int) -> str:
    """A label in lines of at most so many letters, as far as its words allow."""
    return textwrap.fill(label, width, break_long_words=False, break_on_hyphens=False)


def draw_layers(panel: Axes, rows: DataFrame, shown: Looks, x: str, y: str, last: float) -> None:
    """A line per method through the means of y at x, earlier ones wider, to show from under others.

    The line after the last would have the width ``last``.
    """
    for i, (name, look) in enumerate(shown.items()):
        mean = rows[rows["method"] == name].groupby(x)[y].mean().dropna()
        line = {"linewidth": 2.4 - (2.4 - last) * i / len(shown), "linestyle": look.dashes}
        line |= {"marker": look.marker if len(mean) < 20 else "", "markersize": 3}
        panel.plot(mean.index, mean, color=look.color, gid=name, **line)


def method_entries(shown: Looks, markers: bool = True) -> list[Line2D]:
    """Legend entries of overlaid methods."""
    entries = []
    for look in shown.values():
        line = {"color": look.color, "linestyle": look.dashes, "markersize": 3}
        marker = look.marker if markers else ""
        entries.append(Line2D([], [], label=look.label, marker=marker, **line))
    return entries


def add_legend(
    figure: FigureBase, entries: Sequence[Artist], columns: int = 3, title: str | None = None
) -> None:
    """A legend below everything, where it covers no data."""
    columns = min(columns, len(entries))
    figure.legend(handles=entries, loc="outside lower center", ncols=columns, title=title)
