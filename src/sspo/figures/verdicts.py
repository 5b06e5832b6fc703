"""Paired differences and the verdicts on them (F0, F16).

Frames: ``comparisons``, a row per comparison of the claims; ``runs``, a row per run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray
from pandas import DataFrame, Series

from sspo.evidence.page import MEASURES
from sspo.evidence.protocol import CLAIM_TEXT
from sspo.figures import rows, style
from sspo.figures.inputs import PAIR, RUN, Frames, Methods, method_label, regimes_of

# Verdict -> colour and marker, so that grey print tells them apart as well. Only harm is orange.
LOOKS = {
    "gain": ("#0072B2", "^"),
    "no gain": ("black", "s"),
    "worse": ("#D55E00", "v"),
    "undecided": ("0.5", "o"),
}
ENDS = ["effect", "low", "high", "wide_low", "wide_high"]
COLUMNS = ("sspo", "baseline", "claim", "measure", "primary", "regime", "deciding", "n", "sspo_mean",
           "baseline_mean", "smallest_effect", "verdict", *ENDS)  # fmt: skip
HEAD = 66  # letters above all columns together
BAND, GAP, BELOW = "0.9", 0.5, 0.33  # pairs stand a little below their mean


@style.drawn_from(comparisons=COLUMNS, runs=RUN)
def draw_differences(frames: Frames, methods: Methods) -> Figure:
    """F0: what every SSPO variant gains on every baseline, pair by pair, where claims are decided."""
    compared, runs = deciding_measures(frames["comparisons"]), frames["runs"]
    compared = compared[compared["deciding"] & ~compared["remedy"]]
    regimes = [name for name in regimes_of(runs) if name in set(compared["regime"])]
    blocks = {name: compared[compared["regime"] == name] for name in regimes}
    if not blocks:
        return style.empty_figure("nothing to compare")
    claims = [claim for claim in CLAIM_TEXT if claim in set(compared["claim"])]
    titles = [
        (
            name,
            "; ".join(filter(None, (_pairs(block), rows.dose_text(runs[runs["regime"] == name])))),
        )
        for name, block in blocks.items()
    ]
    heads = [_head(compared, claim, HEAD // len(claims)) for claim in claims]
    heights = [_room(block) for block in blocks.values()]
    figure, panels = rows.row_panels(heights, titles, heads, below=1.2, line=0.17)
    for panel_row, (name, block) in zip(panels, blocks.items(), strict=True):
        places = _places(block)
        _name(panel_row[0], block, methods)
        own = runs[runs["regime"] == name]
        for panel, claim in zip(panel_row, claims, strict=True):
            chosen = block[block["claim"] == claim]
            _shade(panel, chosen["smallest_effect"].max())
            for row in chosen.to_dict("records"):
                pairs, (color, _) = pair_differences(own, row), LOOKS[row["verdict"]]
                dots = {"color": color, "alpha": 0.7, "markersize": 2.0, "linestyle": ""}
                y = places[row["sspo"], row["baseline"]] + BELOW
                panel.plot(pairs, np.full(len(pairs), y), "o", gid="pairs", **dots)
    for column, claim in zip(panels.T, claims, strict=True):
        chosen = compared[compared["claim"] == claim]
        drawn = [line.get_xdata() for panel in column for line in panel.lines if line.get_gid()]
        ends = chosen[ENDS[:3]].to_numpy(float).ravel()
        _limit(column[0], np.concatenate([ends, *drawn]), chosen["smallest_effect"].max())
        for panel, block in zip(column, blocks.values(), strict=True):
            _draw_intervals(panel, block[block["claim"] == claim])
    pair = Line2D([], [], color="0.4", marker="o", markersize=2.0, linestyle="", label="one pair")
    note = "paired differences of runs with one base model and seed; to the right speaks for SSPO"
    style.add_legend(figure, [*_entries(), pair], columns=3, title=note)
    return figure


@style.drawn_from(comparisons=COLUMNS, runs=RUN)
def draw_verdicts(frames: Frames, methods: Methods) -> Figure:
    """F16: every comparison in a deciding measure on one scale; those that decide nothing stand below."""
    compared = deciding_measures(frames["comparisons"])
    compared[ENDS] = compared[ENDS].div(compared["smallest_effect"], axis=0)
    blocks = {}
    for text, chosen in {
        "decides": compared[compared["deciding"] & ~compared["remedy"]],
        "another regime, decides no claim": compared[~compared["deciding"] & ~compared["remedy"]],
        "ablation, decides no claim": compared[compared["remedy"]],
    }.items():
        for regime in regimes_of(frames["runs"]):
            block = chosen[chosen["regime"] == regime]
            if len(block):
                blocks[regime, f"{text}; {_pairs(block)}"] = block
    if not blocks:
        return style.empty_figure("nothing to compare")
    claims = [claim for claim in CLAIM_TEXT if claim in set(compared["claim"])]
    heads = [_head(compared, claim, HEAD // len(claims), "unit {:g}") for claim in claims]
    heights = [_room(block) for block in blocks.values()]
    figure, panels = rows.row_panels(heights, [*blocks], heads, share="all", below=1.2)
    _limit(panels[0, 0], compared[ENDS[:3]].to_numpy(float).ravel(), 1.0)
    for line, block in zip(panels, blocks.values(), strict=True):
        _name(line[0], block, methods)
        for panel, claim in zip(line, claims, strict=True):
            _shade(panel, 1.0)
            _draw_intervals(panel, block[block["claim"] == claim])
    note = "paired differences in units of the smallest effect of interest, positive for the first method"
    style.add_legend(figure, _entries(), columns=3, title=note)
    return figure


def deciding_measures(comparisons: DataFrame) -> DataFrame:
    """The comparisons of deciding measures that have pairs.

    ``remedy`` says whether the first method is one of ours that no claim is about: such are compared with
    SSPO too.
    """
    of_measures = comparisons[comparisons["primary"].astype(bool)].dropna(subset="effect")
    remedies = set(comparisons.loc[comparisons["baseline"].isin(comparisons["sspo"]), "sspo"])
    return of_measures.astype(dict.fromkeys(ENDS, float)).assign(
        remedy=of_measures["sspo"].isin(remedies)
    )


def pair_differences(runs: DataFrame, comparison: Mapping[str, Any]) -> Series:
    """The differences of one comparison, a value per base model and seed, positive for its first method.

    Args:
        runs: the runs of its regime, with its measure.
        comparison: a row of ``comparisons``. Whether a higher value is better shows in its effect, which
            has the sign of the difference of its means, or the opposite one.
    """
    values = runs.pivot(index=PAIR, columns="method", values=comparison["measure"]).astype(float)
    turned = comparison["effect"] * (comparison["sspo_mean"] - comparison["baseline_mean"]) < 0.0
    differences = (values[comparison["sspo"]] - values[comparison["baseline"]]).dropna()
    return -differences if turned else differences


def _places(block: DataFrame) -> dict[tuple[str, str], float]:
    """Where every pair of methods stands in its row of panels, with a gap between first methods."""
    pairs = block[["sspo", "baseline"]].drop_duplicates().itertuples(index=False, name=None)
    firsts = [*dict.fromkeys(block["sspo"])]
    return {pair: i + GAP * firsts.index(pair[0]) for i, pair in enumerate(pairs)}


def _room(block: DataFrame) -> float:
    return max(_places(block).values()) + 1.2


def _name(panel: Axes, block: DataFrame, methods: Methods) -> None:
    places = _places(block)
    names = [" \N{MINUS SIGN} ".join(method_label(m, methods) for m in pair) for pair in places]
    rows.name_rows(panel, [*places.values()], names)


def _pairs(block: DataFrame) -> str:
    """How many pairs the comparisons have."""
    counts = dict.fromkeys(f"{count:g}" for count in (block["n"].min(), block["n"].max()))
    return f"{' to '.join(counts)} pair{'s' * int(block['n'].max() > 1)}"


def _head(compared: DataFrame, claim: str, width: int, unit: str = "") -> str:
    """What stands above the column of a claim: its name, its measure, and the unit of its axis."""
    first = compared[compared["claim"] == claim].iloc[0]
    measure = MEASURES.get(first["measure"], first["measure"].replace("_", " "))
    text = style.wrapped(f"{claim}: {measure}", width)
    return f"{text}\n{unit.format(first['smallest_effect'])}" if unit else text


def _shade(panel: Axes, margin: float) -> None:
    """The smallest effect of interest, and no difference."""
    panel.axvspan(-margin, margin, color=BAND, linewidth=0, zorder=0)
    panel.axvline(0.0, color="0.6", linewidth=0.8, zorder=0.5)


def _limit(panel: Axes, values: NDArray[np.float64], margin: float) -> None:
    """Limits that hold these values and the band; 0 is always inside."""
    ends = np.append(values[np.isfinite(values)], [-1.4 * margin, 1.4 * margin])
    space = 0.05 * np.ptp(ends)
    panel.set_xlim(ends.min() - space, ends.max() + space)
    panel.locator_params(axis="x", nbins=3)
    panel.xaxis.set_major_formatter("{x:g}")


def _draw_intervals(panel: Axes, block: DataFrame) -> None:
    """Mean, interval and adjusted interval; an arrow at the border where that runs out of the panel."""
    places, (left, right) = _places(block), panel.get_xlim()
    for row in block.to_dict("records"):
        y, (color, marker) = places[row["sspo"], row["baseline"]], LOOKS[row["verdict"]]
        wide = max(row["wide_low"], left), min(row["wide_high"], right)
        panel.hlines(y, *wide, color=color, linewidth=0.7, gid="wide")
        panel.hlines(y, row["low"], row["high"], color=color, linewidth=2.0, gid="interval")
        for arrow, end, out in (
            ("<", left, row["wide_low"] < left),
            (">", right, row["wide_high"] > right),
        ):
            if out:
                panel.plot(end, y, arrow, color=color, markersize=3, clip_on=False)
        mark = {"color": color, "markersize": 4.5, "markeredgecolor": "white", "gid": "mean"}
        panel.plot(row["effect"], y, marker, markeredgewidth=0.4, **mark)


def _entries() -> list[Artist]:
    """Legend entries of both figures."""
    marks = [
        Line2D([], [], color=color, label=text, marker=marker, markersize=5, linestyle="")
        for text, (color, marker) in LOOKS.items()
    ]
    return [
        *marks,
        Line2D([], [], color="0.2", linewidth=2.0, label="95 % t interval"),
        Line2D([], [], color="0.2", linewidth=0.7, label="adjusted for all comparisons"),
        Patch(color=BAND, label="smaller than the smallest effect of interest"),
    ]
