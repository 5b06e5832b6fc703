"""Figures of the gates and of the runs of one regime, entries of ``sspo.figures.registry.FIGURES``."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FixedLocator, NullLocator
from pandas import DataFrame

from sspo.figures.curves import (
    CONTROL,
    Frames,
    Methods,
    add_legend,
    curves,
    draw_compared,
    draw_last,
    draw_mean,
    draw_overlaid,
    draw_seeds,
    method_handles,
    method_legend,
    method_panels,
    panel_grid,
    panel_handles,
    show_zero,
    shown_looks,
)
from sspo.figures.tables import WIDTH

LOG_RATIO_LINES = {"max": "-", "p99": "--", "p01": "--", "min": "-"}
ATTENUATION = {
    "clip_fraction": "clipped tokens",
    "coefficient_mean": "all tokens",
    "coefficient_pos_up": "A > 0, r > 1",
    "coefficient_pos_down": "A > 0, r < 1",
    "coefficient_neg_up": "A < 0, r > 1",
    "coefficient_neg_down": "A < 0, r < 1",
}
WEIGHT = "gradient weight\n(1 = on-policy)"


def draw_gates(frames: Frames, methods: Methods) -> Figure:
    """F1: gate value and gradient weight against the ratio, by the sign of the advantage."""
    gates, shown = frames["gates"], shown_looks(frames["gates"], methods)
    figure, panels = _grid(2, 2, 4.2, sharex=True, sharey="row")
    for column, sign in enumerate(("A > 0", "A < 0")):
        rows = gates[gates["sign"] == sign].sort_values("ratio")
        panels[0, column].set_title(sign)
        for panel, quantity in zip(panels[:, column], ("value", "coefficient"), strict=True):
            # Linear near 0, where gates close; logarithmic far up, where an unclipped side grows.
            panel.set_yscale("asinh", linear_width=1.0)
            panel.set_xscale("log", base=2)
            panel.axvline(1.0, color="0.7", linewidth=0.8)
            for i, (name, look) in enumerate(shown.items()):
                curve = rows[rows["method"] == name]
                # Earlier methods are wider, so that they show from under identical later ones.
                style = {"linewidth": 2.4 - 1.2 * i / len(shown), "linestyle": look.dashes}
                panel.plot(curve["ratio"], curve[quantity], color=look.color, gid=name, **style)
        panels[1, column].set_xlabel("ratio r of the token")
    panels[0, 0].xaxis.set_major_formatter("{x:g}")
    for panel, label in zip(panels[:, 0], ("gate value\n(1 = on-policy)", WEIGHT), strict=True):
        panel.yaxis.set_major_locator(FixedLocator([-5, -2, -1, 0, 0.5, 1, 2, 5, 10, 20, 50]))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_locator(NullLocator())
        panel.set_ylabel(label)
    add_legend(figure, method_handles(shown, markers=False))
    return figure


def draw_reward(frames: Frames, methods: Methods) -> Figure:
    """F2: training reward against the step."""
    return _by_method(frames["metrics"], methods, "reward", "training reward (share correct)")


def draw_accuracy(frames: Frames, methods: Methods) -> Figure:
    """F3: validation accuracy against step and sampled tokens, and at the last step."""
    metrics, shown = frames["metrics"], shown_looks(frames["metrics"], methods)
    has_control = (metrics["method"] == CONTROL).any()
    grey = {"color": "0.45", "linestyle": "--"}
    figure, panels = _grid(2, 3, 4.6, sharex="col", sharey="row", width_ratios=(1, 1, 0.5))
    for row, column in enumerate(("pass@1", "greedy")):
        draw_overlaid(panels[row, 0], metrics, shown, column)
        draw_overlaid(panels[row, 1], metrics, shown, column, x="sampled_tokens")
        if has_control:
            draw_mean(panels[row, 0], curves(metrics, CONTROL, column), gid=CONTROL, **grey)
        draw_last(panels[row, 2], metrics, shown, column)
    panels[0, 0].set_ylabel("validation accuracy,\nsampled pass@1")
    panels[1, 0].set_ylabel("validation accuracy,\ngreedy")
    panels[1, 1].xaxis.set_major_formatter(EngFormatter(sep=""))
    for panel, label in zip(panels[1], ("step", "sampled tokens", "last step"), strict=True):
        panel.set_xlabel(label)
    label = methods.get(CONTROL, {}).get("label", "Supervised only")
    control = [Line2D([], [], label=label, **grey)] if has_control else []
    method_legend(figure, metrics, shown, extra=control)
    return figure


def draw_entropy(frames: Frames, methods: Methods) -> Figure:
    """F4: entropy of the policy on its own responses."""
    return _by_method(frames["metrics"], methods, "entropy", "entropy (nats per token)")


def draw_kl(frames: Frames, methods: Methods) -> Figure:
    """F5: KL divergence to the initial policy; the axis is linear near 0, where it starts."""
    label = "KL to initial policy (nats per token)"
    return _by_method(frames["metrics"], methods, "kl", label, linear_below=1e-2)


def draw_log_ratio(frames: Frames, methods: Methods) -> Figure:
    """F6: range of the token log-ratios of every method, and their variance."""
    metrics, shown = frames["metrics"], shown_looks(frames["metrics"], methods)
    rows, _ = panel_grid(len(shown))
    figure = Figure(figsize=(WIDTH, 2.6 * rows + 1.4), layout="constrained")
    upper, lower = figure.subfigures(2, 1)
    for name, panel in method_panels(upper, metrics, shown).items():
        panel.set_yscale("symlog", linthresh=0.1)
        for quantity, dashes in LOG_RATIO_LINES.items():
            found, color = curves(metrics, name, f"log_ratio_{quantity}"), shown[name].color
            draw_seeds(panel, found, name, color, alpha=0.3)
            draw_mean(panel, found, gid=f"{name} {quantity}", color=color, linestyle=dashes)
    upper.supylabel("log-ratio (nats)")
    labels = {"-": "smallest and largest token", "--": "1 % and 99 % quantile"}
    handles = [Line2D([], [], color="0.2", linestyle=d, label=text) for d, text in labels.items()]
    add_legend(upper, handles)
    panels = method_panels(lower, metrics, shown)
    if (metrics["log_ratio_var"].dropna() > 0.0).all():  # it is 0 with one update per rollout
        panels[next(iter(panels))].set_yscale("log")
    draw_compared(panels, {name: curves(metrics, name, "log_ratio_var") for name in shown}, shown)
    lower.supylabel("variance of log-ratios (nats²)")
    add_legend(lower, panel_handles(), columns=4)
    return figure


def draw_grad_norm(frames: Frames, methods: Methods) -> Figure:
    """F7: gradient norm before clipping, mean and largest of a step's updates."""
    metrics, label = frames["metrics"], "gradient norm before clipping"
    figure = _by_method(metrics, methods, "grad_norm", label, "grad_norm_max", linear_below=1.0)
    axis = figure.axes[0].yaxis  # shared by all panels
    axis.set_major_locator(FixedLocator([0, 0.5, 1, 2, 5, *(10.0**k for k in range(1, 9))]))
    axis.set_major_formatter("{x:g}")
    return figure


def draw_attenuation(frames: Frames, methods: Methods) -> Figure:
    """F8: clip fraction, mean gradient weight, and the weight by sign of A and side of r."""
    metrics, shown = frames["metrics"], shown_looks(frames["metrics"], methods)
    figure, panels = _grid(3, 2, 5.8, sharex=True)
    for panel in panels[1:].flat:
        panel.sharey(panels[0, 1])  # before any data, so that the limits hold them all
    for panel, (column, title) in zip(panels.flat, ATTENUATION.items(), strict=True):
        draw_overlaid(panel, metrics, shown, column)
        panel.set_title(title)
    show_zero(panels[0, 0], linear_below=1e-4)
    panels[0, 0].set_ylabel("share of tokens")
    for panel in (panels[0, 1], panels[1, 0], panels[2, 0]):
        panel.set_ylabel(WEIGHT)
    for panel in panels[2]:
        panel.set_xlabel("step")
    method_legend(figure, metrics, shown)
    return figure


def draw_length(frames: Frames, methods: Methods) -> Figure:
    """F9: response length, and the share of responses cut at the length limit."""
    metrics, shown = frames["metrics"], shown_looks(frames["metrics"], methods)
    figure, panels = _grid(2, 1, 4.4, sharex=True)
    draw_overlaid(panels[0, 0], metrics, shown, "response_tokens")
    draw_overlaid(panels[1, 0], metrics, shown, "truncated")
    panels[0, 0].set_ylabel("response length\n(tokens)")
    panels[1, 0].set(xlabel="step", ylabel="truncated\n(share of responses)")
    method_legend(figure, metrics, shown)
    return figure


def _by_method(
    metrics: DataFrame,
    methods: Methods,
    column: str,
    label: str,
    peak: str | None = None,
    linear_below: float | None = None,
) -> Figure:
    """One quantity, a panel per method; ``peak`` is a second quantity, its mean dotted."""
    shown = shown_looks(metrics, methods)
    rows, _ = panel_grid(len(shown))
    figure = Figure(figsize=(WIDTH, 1.3 * rows + 0.9), layout="constrained")
    panels = method_panels(figure, metrics, shown)
    dotted = {"linewidth": 0.9, "linestyle": ":"}
    handles = panel_handles()
    if peak:
        for name, panel in panels.items():
            style = {"gid": f"{name} peak", "color": shown[name].color, **dotted}
            draw_mean(panel, curves(metrics, name, peak), **style)
        handles.append(Line2D([], [], color="0.2", label="mean of largest update", **dotted))
    if linear_below:
        for panel in panels.values():
            show_zero(panel, linear_below)
    draw_compared(panels, {name: curves(metrics, name, column) for name in shown}, shown)
    figure.supylabel(label)
    add_legend(figure, handles, columns=3 if peak else 4)
    return figure


def _grid(rows: int, columns: int, height: float, **options: object) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)
