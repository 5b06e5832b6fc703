"""The figure of the verdicts (F16). Frame: ``comparisons``, a row per comparison of the claims."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sspo.config.names import MAIN
from sspo.evidence.protocol import CLAIM_TEXT
from sspo.figures import style
from sspo.figures.inputs import Frames, Methods, method_label

COLORS = {"supported": "#009E73", "contradicted": "#D55E00", "undecided": "0.45"}
PAIR = ["sspo", "baseline"]
EFFECT = ("effect", "low", "high", "smallest_effect", "verdict")


@style.drawn_from(whole=True, comparisons=(*PAIR, "claim", "measure", "primary", "regime", *EFFECT))
def draw_verdicts(frames: Frames, methods: Methods) -> Figure:
    """F16: every comparison that decides a claim, its interval, and its verdict.

    The grey band holds gains too small to matter.
    """
    rows = frames["comparisons"]
    rows = rows[rows["primary"] & (rows["regime"] == MAIN)].dropna(subset="effect")
    pairs = list(rows[PAIR].drop_duplicates().itertuples(index=False, name=None))
    figure = style.new_figure(0.17 * len(pairs) + 1.35)
    panels = figure.subplots(1, len(CLAIM_TEXT), sharey=True)
    for panel, claim in zip(panels, CLAIM_TEXT, strict=True):
        part = rows[rows["claim"] == claim]
        if part.empty:
            style.note_empty(panel)
            continue
        panel.axvspan(0.0, part["smallest_effect"].max(), color="0.9", linewidth=0)
        panel.axvline(0.0, color="0.6", linewidth=0.8)
        for row in part.itertuples():
            y, color = -pairs.index((row.sspo, row.baseline)), COLORS[row.verdict]
            panel.plot(row.effect, y, "o", color=color, markersize=4)
            panel.hlines(y, row.low, row.high, color=color, linewidth=1.2)
        panel.set(title=f"{claim}\n({part['measure'].iloc[0].replace('_', ' ')})")
        panel.locator_params(axis="x", nbins=3)
        panel.xaxis.set_major_formatter("{x:g}")
    names = [" vs ".join(method_label(name, methods) for name in pair) for pair in pairs]
    panels[0].set_yticks([-i for i in range(len(pairs))], names)
    panels[1].set_xlabel("paired difference, positive for the first method")
    mark = {"marker": "o", "markersize": 4}
    entries = [Line2D([], [], color=color, label=text, **mark) for text, color in COLORS.items()]
    style.add_legend(figure, entries)
    return figure
