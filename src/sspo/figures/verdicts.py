"""The figure of the verdicts (F16). Frame: ``comparisons``, a row per comparison of the claims."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sspo.config.names import MAIN
from sspo.evidence.protocol import CLAIM_TEXT
from sspo.figures import style
from sspo.figures.inputs import Frames, Methods, method_label

# Verdict -> colour and marker, so that grey print tells them apart as well.
LOOKS = {
    "gain": ("#009E73", "^"),
    "no gain": ("#0072B2", "s"),
    "worse": ("#D55E00", "v"),
    "undecided": ("0.45", "o"),
}
PAIR = ["sspo", "baseline"]
EFFECT = ("effect", "low", "high", "wide_low", "wide_high", "smallest_effect", "verdict")


@style.drawn_from(whole=True, comparisons=(*PAIR, "claim", "measure", "primary", "regime", *EFFECT))
def draw_verdicts(frames: Frames, methods: Methods) -> Figure:
    """F16: every comparison that decides a claim, its interval, and its verdict.

    The grey band holds differences too small to matter.
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
        margin = part["smallest_effect"].max()
        panel.axvspan(-margin, margin, color="0.92", linewidth=0)
        panel.axvline(0.0, color="0.6", linewidth=0.8)
        for row in part.itertuples():
            y, (color, marker) = -pairs.index((row.sspo, row.baseline)), LOOKS[row.verdict]
            panel.hlines(y, row.wide_low, row.wide_high, color=color, linewidth=0.8)
            panel.hlines(y, row.low, row.high, color=color, linewidth=2.0)
            panel.plot(row.effect, y, marker, color=color, markersize=4)
        panel.set(title=f"{claim}\n({part['measure'].iloc[0].replace('_', ' ')})")
        panel.locator_params(axis="x", nbins=3)
        panel.xaxis.set_major_formatter("{x:g}")
    names = [" vs ".join(method_label(name, methods) for name in pair) for pair in pairs]
    panels[0].set_yticks([-i for i in range(len(pairs))], names)
    panels[1].set_xlabel("paired difference, positive for the first method")
    entries = [
        Line2D([], [], color=color, label=text, marker=marker, markersize=4)
        for text, (color, marker) in LOOKS.items()
    ]
    style.add_legend(figure, entries)
    return figure
