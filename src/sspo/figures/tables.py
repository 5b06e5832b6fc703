"""Tables drawn as figures: benchmarks with intervals (T1) and settings with their source (T4)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from sspo.evidence.intervals import Interval, mean_interval
from sspo.figures.curves import Frames, Methods

WIDTH = 5.5  # inches
LINE = 0.145  # inches per line of text
MARGIN = 0.03  # inches on both sides of a cell
CHARACTER = 0.064  # inches, a little above the mean width of a character at 8 pt
NO_BREAK = "\N{NO-BREAK SPACE}"
CONTROLS = {"base": "Base (before RL)", "supervised": "Supervised only"}


@dataclass(frozen=True)
class Row:
    """A table row: its cells, the columns in bold, and whether a rule is drawn above it."""

    cells: Sequence[str]
    bold: frozenset[int] = frozenset()
    rule: bool = False


def draw_benchmarks(frames: Frames, methods: Methods) -> Figure:
    """T1: accuracy in % with 95 % intervals, by split and method.

    The mean and t interval over seeds, or with a single seed that checkpoint's interval over
    problems. Of several k in pass@k and maj@k the largest is shown. A value is bold only where its
    interval lies above all others of its split.
    """
    evaluations = frames["evaluations"]
    metrics = shown_metrics(evaluations["metric"].unique())
    rows = [Row(("", "n", *metrics))]
    for split, part in evaluations.groupby("split", sort=False):
        rows.append(Row((split.replace("_", " "),), bold=frozenset({0}), rule=True))
        rows += _split_rows(part, metrics, methods)
    widths = [1.12, 0.18, *[(WIDTH - 1.3) / len(metrics)] * len(metrics)]
    note = (
        "% of problems, mean [95 % interval]; n: seeds. n > 1: t interval over seeds, cut at 0 and "
        "100. n = 1: interval over problems. Bold: interval above all others of the split."
    )
    return draw_table(rows, widths, note, right_from=1)


def shown_metrics(names: Sequence[str]) -> list[str]:
    """pass@1, greedy, then pass@k and maj@k of the largest k, as far as they were measured.

    Raises:
        ValueError: none of them was.
    """
    largest = {"pass": 1, "maj": 1}
    for name in names:
        kind, _, k = name.partition("@")
        if kind in largest and k.isdecimal():
            largest[kind] = max(largest[kind], int(k))
    wanted = ["pass@1", "greedy", *(f"{kind}@{k}" for kind, k in largest.items() if k > 1)]
    found = [name for name in wanted if name in set(names)]
    if not found:
        raise ValueError("evaluations hold none of pass@1, greedy, pass@k, maj@k; evaluate again")
    return found


def benchmark_interval(rows: DataFrame) -> Interval | None:
    """One method's mean and interval on one metric of one split; None without a value.

    Args:
        rows: one row per run, with ``value``, ``low`` and ``high``; the last two, the interval over
            problems, are used for a single run only.
    """
    rows = rows.dropna(subset="value")
    if len(rows) == 1:
        return Interval(*rows.iloc[0][["value", "low", "high"]].astype(float))
    return mean_interval(rows["value"]) if len(rows) else None


def separate_best(intervals: Mapping[str, Interval]) -> str | None:
    """The key whose interval lies above every other one, if there is one among several."""
    if len(intervals) < 2:
        return None
    best = max(intervals, key=lambda name: intervals[name].mean)
    others = [interval for name, interval in intervals.items() if name != best]
    return best if all(intervals[best].low > other.high for other in others) else None


def draw_settings(frames: Frames, methods: Methods) -> Figure:
    """T4: every hyperparameter, its value, and where it comes from.

    ``settings`` has the columns key, value, source; with a column ``method`` its rows are grouped
    under the method's label.
    """
    settings = frames["settings"].fillna("").astype(str)
    sections = settings.groupby("method", sort=False) if "method" in settings else [("", settings)]
    widths = [2.15, 1.4, 1.95]  # the longest key stays on one line
    rows = [Row(("setting", "value", "source"), bold=frozenset({0, 1, 2}))]
    for name, part in sections:
        if name:
            rows.append(Row((method_label(name, methods),), bold=frozenset({0}), rule=True))
        for i, cells in enumerate(part[["key", "value", "source"]].itertuples(index=False)):
            rows.append(Row(tuple(cells), rule=not name and i == 0))
    return draw_table(rows, widths)


def draw_table(
    rows: Sequence[Row], widths: Sequence[float], note: str = "", right_from: int | None = None
) -> Figure:
    """Set rows of text with rules, long cells wrapped to their column.

    Args:
        rows: the header first; a row with fewer cells than columns runs over the width.
        widths: of the columns, in inches.
        note: set under the table.
        right_from: columns from this one on are right-aligned.
    """
    wrapped = [_wrap(row, widths) for row in rows]
    heights = [LINE * max(map(len, cells)) + 0.04 for cells in wrapped]
    lines = textwrap.wrap(note, int(WIDTH / CHARACTER))
    total = sum(heights) + LINE * len(lines) + (0.25 if lines else 0.16)
    figure = Figure(figsize=(WIDTH, total))
    page = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(total, 0))
    page.set_axis_off()
    top = 0.08
    page.axhline(top, color="black", linewidth=0.9)
    for row, cells, height in zip(rows, wrapped, heights, strict=True):
        if row.rule:
            page.axhline(top, color="black", linewidth=0.4)
        _set_row(page, row, cells, widths, top, right_from)
        top += height
    page.axhline(top, color="black", linewidth=0.9)
    for i, line in enumerate(lines):
        page.text(MARGIN, top + 0.15 + LINE * i, line, color="0.3")
    return figure


def _split_rows(part: DataFrame, metrics: Sequence[str], methods: Methods) -> list[Row]:
    """The rows of one split: controls first, then the methods in their order."""
    known = [*CONTROLS, *(name for name in methods if name not in CONTROLS)]
    present = [name for name in known if (part["method"] == name).any()]
    table = {
        metric: {
            name: interval
            for name in present
            if (interval := _in_percent(part, name, metric)) is not None
        }
        for metric in metrics
    }
    best = {metric: separate_best(intervals) for metric, intervals in table.items()}
    measured = part[part["metric"].isin(metrics)]
    rows = []
    for name in present:
        seeds = measured.loc[measured["method"] == name, "run"].nunique()
        values = [_cell(table[metric].get(name)) for metric in metrics]
        bold = frozenset(i + 2 for i, metric in enumerate(metrics) if best[metric] == name)
        rows.append(Row((method_label(name, methods), str(seeds), *values), bold))
    return rows


def _in_percent(part: DataFrame, name: str, metric: str) -> Interval | None:
    interval = benchmark_interval(part[(part["method"] == name) & (part["metric"] == metric)])
    if interval is None:
        return None
    return Interval(*(100.0 * min(max(bound, 0.0), 1.0) for bound in interval))


def _cell(interval: Interval | None) -> str:
    if interval is None:
        return "\N{EN DASH}"
    mean, low, high = (f"{value:.1f}".replace("100.0", "100") for value in interval)
    if "nan" in (low, high):  # a single checkpoint without an interval over problems
        return mean
    return f"{mean} [{low}, {high}]".replace(" ", NO_BREAK)


def method_label(name: str, methods: Methods) -> str:
    """A method's or control's name in figures and tables."""
    return methods.get(name, {}).get("label") or CONTROLS.get(name, name)


def _wrap(row: Row, widths: Sequence[float]) -> list[list[str]]:
    """The lines of every cell; a cell with no-break spaces stays on one."""
    if len(row.cells) < len(widths):
        return [[text] for text in row.cells]
    pairs = zip(row.cells, widths, strict=True)
    return [
        [text] if NO_BREAK in text else textwrap.wrap(text, int(width / CHARACTER))
        for text, width in pairs
    ]


def _set_row(
    page: Axes,
    row: Row,
    cells: Sequence[Sequence[str]],
    widths: Sequence[float],
    top: float,
    right_from: int | None,
) -> None:
    left = 0.0
    for i, (lines, width) in enumerate(zip(cells, widths, strict=False)):
        right = right_from is not None and i >= right_from
        style = {"ha": "right" if right else "left", "parse_math": False}
        style["weight"] = "bold" if i in row.bold else "normal"
        for j, line in enumerate(lines):
            x = left + width - MARGIN if right else left + MARGIN
            page.text(x, top + 0.135 + LINE * j, line, **style)
        left += width
