"""The figure of the gates (F1).

Frames: ``gates`` has a row per method, sign of the advantage and ratio, ``gate_facts`` one per gate of SSPO
and temperature.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FixedLocator, NullLocator
from pandas import DataFrame

from sspo.figures import style
from sspo.figures.inputs import Frames, Methods
from sspo.figures.style import Looks

APART = 0.065  # of the panel's height, between two names
FLOOR = 0.02  # the axis is logarithmic down to this weight, and linear from there to 0
FACTS = {
    "exponent": ("exponent of the\nsequence weight", "all tokens moved"),
    "slope": ("log-slope of\nthe token weight", "one token moved"),
    "left": ("weight left\nat log r = -1", "one token, A < 0"),
}


@style.drawn_from(
    gates=("method", "sign", "ratio", "coefficient"), gate_facts=("gate", "tau", *FACTS)
)
def draw_gates(frames: Frames, methods: Methods) -> Figure:
    """F1: the gradient weight of a token against its log-ratio, by the sign of the advantage.

    Below, what the temperature does to SSPO's two gates, for all methods alike.
    """
    gates, shown = frames["gates"], style.shown_looks(frames["gates"], methods)
    gates = gates.assign(log_ratio=np.log(gates["ratio"].astype(float)))
    figure = style.new_figure(5.6)
    upper, lower = figure.subfigures(2, 1, height_ratios=(3.3, 2.0))
    panels = upper.subplots(1, 2, sharex=True, sharey=True)
    panels[0].set_yscale("symlog", linthresh=FLOOR, linscale=0.4)
    for panel, sign in zip(panels, ("A > 0", "A < 0"), strict=True):
        rows = gates[gates["sign"] == sign]
        panel.axvline(0.0, color="0.7", linewidth=0.8)
        panel.axhline(1.0, color="0.7", linewidth=0.8)
        style.draw_layers(panel, rows, shown, "log_ratio", "coefficient", last=1.2)
        panel.set(title=sign, xlabel="log-ratio of the token, log r (nats)")
    largest = gates["log_ratio"].max()
    panels[0].set_ylim(-0.3 * FLOOR, 1.3 * gates["coefficient"].max())
    panels[0].set_xlim(gates["log_ratio"].min(), largest)
    for panel, sign in zip(panels, ("A > 0", "A < 0"), strict=True):
        at_end = gates[(gates["sign"] == sign) & (gates["log_ratio"] == largest)]
        _label_ends(panel, at_end.set_index("method")["coefficient"].to_dict(), shown)
    panels[0].set_ylabel("gradient weight (1 = on-policy)")
    panels[0].yaxis.set_major_locator(FixedLocator([0, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]))
    panels[0].yaxis.set_major_formatter("{x:g}")
    panels[0].yaxis.set_minor_locator(NullLocator())
    _draw_facts(lower, frames["gate_facts"])
    return figure


def _label_ends(panel: Axes, weights: dict[str, float], shown: Looks) -> None:
    """Names beside the ends of the curves, moved apart as far as they need to be read."""
    to_axes = panel.transScale + panel.transLimits
    ends = {name: to_axes.transform((0.0, weights[name]))[1] for name in weights if name in shown}
    names = sorted(ends, key=lambda name: ends[name])
    places: list[float] = []
    for name in names:
        places.append(max(ends[name], places[-1] + APART if places else 0.0))
    too_high = max(0.0, places[-1] - 1.0) if places else 0.0
    for i, name in enumerate(names):
        room = 1.0 - APART * (len(names) - 1 - i)  # below the names above it
        place = min(places[i], room) if too_high else places[i]
        line = {"color": shown[name].color, "linewidth": 0.8, "transform": panel.transAxes}
        panel.plot(
            [1.0, 1.045], [ends[name], place], clip_on=False, scalex=False, scaley=False, **line
        )
        text = {"va": "center", "size": 7, "transform": panel.transAxes}
        panel.text(1.055, place, shown[name].label, **text)


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
