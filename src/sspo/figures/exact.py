"""Figures of the exact study (F13, F14).

Lines are means over draws (start policies). Frames are those of ``workflow/scripts/exact_study.py``:
``gradients``, ``pushes`` and ``training``.
"""

from __future__ import annotations

from matplotlib.figure import Figure

from sspo.figures import style
from sspo.figures.inputs import Frames, Methods

GRADIENT_PANELS = {
    "cosine": "cosine with the\ntrue gradient",
    "variance": "variance of one response\n/ squared true gradient",
    "weight_neg_down": "weight at A < 0, r < 1\n(1 = on-policy)",
    "weight_pos_up": "weight at A > 0, r > 1\n(1 = on-policy)",
}
DIRECTIONS = {"ascent": "drift along the gradient", "random": "random drift"}
AGE, RATE = "updates_per_rollout", "learning_rate"


@style.drawn_from(gradients=("method", "lengths", "direction", "drift", *GRADIENT_PANELS))
def draw_gradients(frames: Frames, methods: Methods) -> Figure:
    """F13: what drift does to every expected gradient, along the true gradient and at random.

    Variable lengths only; mean over draws, no smoothing.
    """
    rows = frames["gradients"]
    rows, shown = rows[rows["lengths"] == "variable"], style.shown_looks(rows, methods)
    figure = style.new_figure(7.4)
    panels = figure.subplots(len(GRADIENT_PANELS), 2, sharex=True, sharey="row")
    for column, (direction, title) in zip(panels.T, DIRECTIONS.items(), strict=True):
        for panel, quantity in zip(column, GRADIENT_PANELS, strict=True):
            part = rows[rows["direction"] == direction]
            style.draw_layers(panel, part, shown, "drift", quantity, last=1.0)
        column[0].set_title(title)
        column[-1].set_xlabel("drift (root mean square\nlog-ratio, nats)")
    for panel, (quantity, label) in zip(panels[:, 0], GRADIENT_PANELS.items(), strict=True):
        panel.set(ylabel=label, yscale="log" if quantity == "variance" else "linear")
    style.add_legend(figure, style.method_entries(shown))
    return figure


@style.drawn_from(
    pushes=("method", "push", "log_ratio"), training=("method", AGE, RATE, "update", "reward")
)
def draw_staleness(frames: Frames, methods: Methods) -> Figure:
    """F14: a bad response pushed again and again, and the exact reward after stale training."""
    pushes, training = frames["pushes"], frames["training"]
    shown, rates = style.shown_looks(pushes, methods), sorted(training[RATE].unique())
    figure = style.new_figure(3.4)
    first, *others = figure.subplots(1, 1 + len(rates))
    style.draw_layers(first, pushes, shown, "push", "log_ratio", last=1.0)
    first.set(xlabel="pushes", ylabel="log-ratio of a response\nwith A < 0 (nats)")
    for panel in others[1:]:
        panel.sharey(others[0])  # before any data, so that the limits hold them all
        panel.tick_params(labelleft=False)
    last = training[training["update"] == training["update"].max()]
    for panel, rate in zip(others, rates, strict=True):
        style.draw_layers(panel, last[last[RATE] == rate], shown, AGE, "reward", last=1.0)
        panel.set(title=f"learning rate {rate:g}", xlabel="updates per rollout")
        panel.set_xscale("log", base=2)
        panel.set_xticks(sorted(last[AGE].unique()))
        panel.xaxis.set_major_formatter("{x:g}")
    others[0].set_ylabel("expected reward\nafter training")
    style.add_legend(figure, style.method_entries(shown))
    return figure
