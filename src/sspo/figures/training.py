"""Figures of the runs of the main regime (F2 to F9). Frame: ``metrics``, a row per run and step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FixedLocator

from sspo.config.names import CONTROL
from sspo.figures import curves, style
from sspo.figures.inputs import CURVE, Frames, Methods, method_label

LOG_RATIO_LINES = {"max": "-", "p99": "--", "p01": "--", "min": "-"}
LOG_RATIOS = [f"log_ratio_{quantity}" for quantity in (*LOG_RATIO_LINES, "var")]
ATTENUATION = {
    "clip_fraction": "clipped tokens",
    "coefficient_mean": "all tokens",
    **{f"coefficient_{quadrant}": label for quadrant, label in style.QUADRANTS.items()},
}


def by_method(
    column: str,
    label: str,
    peak: str | None = None,
    linear_below: float | None = None,
    ticks: Sequence[float] = (),
) -> Callable[[Frames, Methods], Figure]:
    """A function that draws one quantity against the step, a panel per method.

    ``peak`` is a second quantity, its mean dotted; the axis is logarithmic, but ``linear_below``.
    """

    @style.drawn_from(metrics=(*CURVE, column, *([peak] if peak else [])))
    def draw(frames: Frames, methods: Methods) -> Figure:
        metrics, shown = frames["metrics"], style.shown_looks(frames["metrics"], methods)
        entries, dotted = curves.compared_entries(), {"linewidth": 0.9, "linestyle": ":"}
        figure = style.new_figure(1.3 * style.panel_grid(len(shown))[0] + 0.9)
        panels = curves.seed_panels(figure, metrics, shown)
        if peak:
            for name, panel in panels.items():
                line: dict[str, Any] = {"color": shown[name].color, "gid": f"{name} peak", **dotted}
                curves.draw_mean(panel, metrics, name, peak, **line)
            entries.append(Line2D([], [], color="0.2", label="mean of largest update", **dotted))
        if linear_below:
            for panel in panels.values():
                curves.show_zero(panel, linear_below)
        curves.draw_compared(panels, metrics, shown, column)
        if ticks:
            axis = figure.axes[0].yaxis  # shared by all panels
            axis.set_major_locator(FixedLocator(ticks))
            axis.set_major_formatter("{x:g}")
        figure.supylabel(label)
        style.add_legend(figure, entries, columns=3 if peak else 4)
        return figure

    return draw


draw_reward = by_method("reward", "training reward (share correct)")
draw_entropy = by_method("entropy", "entropy (nats per token)")
# Linear near 0, where the divergence starts.
draw_kl = by_method("kl", "KL to initial policy (nats per token)", linear_below=1e-2)
draw_grad_norm = by_method(
    "grad_norm",
    "gradient norm before clipping",
    peak="grad_norm_max",
    linear_below=1.0,
    ticks=[0, 0.5, 1, 2, 5, *(10.0**k for k in range(1, 9))],
)


@style.drawn_from(metrics=(*CURVE, "sampled_tokens", "greedy", "pass@1"))
def draw_accuracy(frames: Frames, methods: Methods) -> Figure:
    """F3: validation accuracy against step and sampled tokens, and at the last step."""
    metrics, shown = frames["metrics"], style.shown_looks(frames["metrics"], methods)
    control = [CONTROL] if (metrics["method"] == CONTROL).any() else []
    grey = {"color": "0.45", "linestyle": "--"}
    figure = style.new_figure(4.6)
    panels = figure.subplots(2, 3, sharex="col", sharey="row", width_ratios=(1, 1, 0.5))
    labels = {"pass@1": "sampled pass@1", "greedy": "greedy"}
    for (by_step, by_tokens, last), (column, label) in zip(panels, labels.items(), strict=True):
        curves.draw_overlaid(by_step, metrics, shown, column)
        curves.draw_overlaid(by_tokens, metrics, shown, column, x="sampled_tokens")
        for name in control:
            curves.draw_mean(by_step, metrics, name, column, gid=name, **grey)
        curves.draw_last(last, metrics, shown, column)
        by_step.set_ylabel(f"validation accuracy,\n{label}")
    panels[1, 1].xaxis.set_major_formatter(EngFormatter(sep=""))
    for panel, label in zip(panels[1], ("step", "sampled tokens", "last step"), strict=True):
        panel.set_xlabel(label)
    extra = [Line2D([], [], label=method_label(name, methods), **grey) for name in control]
    curves.overlaid_legend(figure, metrics, shown, extra)
    return figure


@style.drawn_from(metrics=(*CURVE, *LOG_RATIOS))
def draw_log_ratio(frames: Frames, methods: Methods) -> Figure:
    """F6: range of the token log-ratios of every method, and their variance."""
    metrics, shown = frames["metrics"], style.shown_looks(frames["metrics"], methods)
    figure = style.new_figure(2.6 * style.panel_grid(len(shown))[0] + 1.4)
    upper, lower = figure.subfigures(2, 1)
    for name, panel in curves.seed_panels(upper, metrics, shown).items():
        panel.set_yscale("symlog", linthresh=0.1)
        for quantity, dashes in LOG_RATIO_LINES.items():
            column, color = f"log_ratio_{quantity}", shown[name].color
            curves.draw_seeds(panel, metrics, name, column, color=color, alpha=0.3)
            line = {"color": color, "linestyle": dashes, "gid": f"{name} {quantity}"}
            curves.draw_mean(panel, metrics, name, column, **line)
    upper.supylabel("log-ratio (nats)")
    labels = {"-": "smallest and largest token", "--": "1 % and 99 % quantile"}
    entries = [Line2D([], [], color="0.2", linestyle=d, label=text) for d, text in labels.items()]
    style.add_legend(upper, entries)
    panels = curves.seed_panels(lower, metrics, shown)
    if (metrics["log_ratio_var"].dropna() > 0.0).all():  # it is 0 with one update per rollout
        panels[next(iter(panels))].set_yscale("log")
    curves.draw_compared(panels, metrics, shown, "log_ratio_var")
    lower.supylabel("variance of log-ratios (nats²)")
    style.add_legend(lower, curves.compared_entries(), columns=4)
    return figure


@style.drawn_from(metrics=(*CURVE, *ATTENUATION))
def draw_attenuation(frames: Frames, methods: Methods) -> Figure:
    """F8: clip fraction, mean gradient weight, and the weight by sign of A and side of r."""
    metrics, shown = frames["metrics"], style.shown_looks(frames["metrics"], methods)
    figure = style.new_figure(5.8)
    panels = figure.subplots(3, 2, sharex=True)
    for panel in panels[1:].flat:
        panel.sharey(panels[0, 1])  # before any data, so that the limits hold them all
    for panel, (column, title) in zip(panels.flat, ATTENUATION.items(), strict=True):
        curves.draw_overlaid(panel, metrics, shown, column)
        panel.set_title(title)
    curves.show_zero(panels[0, 0], linear_below=1e-4)
    panels[0, 0].set_ylabel("share of tokens")
    for panel in (panels[0, 1], panels[1, 0], panels[2, 0]):
        panel.set_ylabel("gradient weight\n(1 = on-policy)")
    for panel in panels[2]:
        panel.set_xlabel("step")
    curves.overlaid_legend(figure, metrics, shown)
    return figure


@style.drawn_from(metrics=(*CURVE, "response_tokens", "truncated"))
def draw_length(frames: Frames, methods: Methods) -> Figure:
    """F9: response length, and the share of responses cut at the length limit."""
    metrics, shown = frames["metrics"], style.shown_looks(frames["metrics"], methods)
    figure = style.new_figure(4.4)
    above, below = figure.subplots(2, 1, sharex=True)
    curves.draw_overlaid(above, metrics, shown, "response_tokens")
    curves.draw_overlaid(below, metrics, shown, "truncated")
    above.set_ylabel("response length\n(tokens)")
    below.set(xlabel="step", ylabel="truncated\n(share of responses)")
    curves.overlaid_legend(figure, metrics, shown)
    return figure
