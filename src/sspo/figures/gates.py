"""The figure of the gates (F1).

Frames: ``gates`` has a row per method, sign of the advantage and ratio, ``gate_facts`` one per gate of SSPO
and temperature.
"""

from __future__ import annotations

from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FixedLocator, NullLocator
from pandas import DataFrame

from sspo.figures import style
from sspo.figures.inputs import Frames, Methods

LABELS = {"value": "gate value\n(1 = on-policy)", "coefficient": "gradient weight\n(1 = on-policy)"}
FACTS = {
    "exponent": ("exponent of the\nsequence weight", "all tokens moved"),
    "slope": ("log-slope of\nthe token weight", "one token moved"),
    "left": ("weight left\nat log r = -1", "one token, A < 0"),
}


@style.drawn_from(gates=("method", "sign", "ratio", *LABELS), gate_facts=("gate", "tau", *FACTS))
def draw_gates(frames: Frames, methods: Methods) -> Figure:
    """F1: gate value and gradient weight against the ratio, by the sign of the advantage.

    Below, what the temperature does to SSPO's two gates, for all methods alike.
    """
    gates, shown = frames["gates"], style.shown_looks(frames["gates"], methods)
    figure = style.new_figure(6.2)
    upper, lower = figure.subfigures(2, 1, height_ratios=(4.2, 2.0))
    panels = upper.subplots(2, 2, sharex=True, sharey="row")
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
    style.add_legend(upper, style.method_entries(shown, markers=False))
    _draw_facts(lower, frames["gate_facts"])
    return figure


def _draw_facts(figure: SubFigure, facts: DataFrame) -> None:
    """A panel per fact against tau, with a line per gate; the neutral value is a grey line."""
    neutral = {"exponent": 1.0, "slope": 0.0, "left": 0.5}
    for panel, (fact, (label, title)) in zip(figure.subplots(1, 3), FACTS.items(), strict=True):
        panel.axhline(neutral[fact], color="0.7", linewidth=0.8)
        for gate, look in style.GATES.items():
            rows = facts[facts["gate"] == gate]
            line = {"color": look.color, "linestyle": look.dashes, "gid": gate}
            panel.plot(rows["tau"], rows[fact], **line)
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_locator(FixedLocator([0.5, 1, 2, 4, 8]))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.set(xlabel="temperature tau", ylabel=label, title=title)
    style.add_legend(figure, style.method_entries(style.GATES, markers=False), title="SSPO's gate")
