"""The figure of the gates (F1). Frame: ``gates``, a row per method, sign of the advantage and ratio."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from sspo.figures import style
from sspo.figures.inputs import Frames, Methods

LABELS = {"value": "gate value\n(1 = on-policy)", "coefficient": "gradient weight\n(1 = on-policy)"}


@style.drawn_from(gates=("method", "sign", "ratio", *LABELS))
def draw_gates(frames: Frames, methods: Methods) -> Figure:
    """F1: gate value and gradient weight against the ratio, by the sign of the advantage."""
    gates, shown = frames["gates"], style.shown_looks(frames["gates"], methods)
    figure = style.new_figure(4.2)
    panels = figure.subplots(2, 2, sharex=True, sharey="row")
    for column, sign in zip(panels.T, ("A > 0", "A < 0"), strict=True):
        rows = gates[gates["sign"] == sign]
        for panel, quantity in zip(column, LABELS, strict=True):
            # Linear near 0, where gates close; logarithmic far up, where an unclipped side grows.
            panel.set_yscale("asinh", linear_width=1.0)
            panel.set_xscale("log", base=2)
            panel.axvline(1.0, color="0.7", linewidth=0.8)
            style.draw_layers(panel, rows, shown, "ratio", quantity, last=1.2)
        column[0].set_title(sign)
        column[1].set_xlabel("ratio r of the token")
    panels[0, 0].xaxis.set_major_formatter("{x:g}")
    for panel, label in zip(panels[:, 0], LABELS.values(), strict=True):
        panel.yaxis.set_major_locator(FixedLocator([-5, -2, -1, 0, 0.5, 1, 2, 5, 10, 20, 50]))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_locator(NullLocator())
        panel.set_ylabel(label)
    style.add_legend(figure, style.method_entries(shown, markers=False))
    return figure
