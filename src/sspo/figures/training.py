"""Figures of training, a row per regime (F2 to F7, F9). Frame: ``metrics``, a row per run and step."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sspo.figures import curves, style
from sspo.figures.curves import Part
from sspo.figures.inputs import CURVE, Frames, Methods, regimes_of

RIBBONS = {("min", "max"): 0.15, ("p01", "p99"): 0.35}  # pairs of quantiles -> how dark
LOG_RATIOS = [f"log_ratio_{name}" for name in ("min", "p01", "p50", "p99", "max")]
DIFFERENCE = "difference from {reference}"

draw_reward = curves.by_regime(
    [
        Part("reward", "training reward\n(share correct)"),
        Part("reward", f"training reward,\n{DIFFERENCE}", differs=True),
    ]
)
draw_accuracy = curves.by_regime(
    [
        Part("pass@1", "validation accuracy,\nsampled (pass@1)"),
        Part("pass@1", f"sampled (pass@1),\n{DIFFERENCE}", differs=True),
        Part("greedy", f"greedy,\n{DIFFERENCE}", differs=True),
    ],
    control=True,
)
draw_entropy = curves.by_regime(
    [
        Part("entropy", "entropy\n(nats per token)"),
        Part("entropy", f"entropy,\n{DIFFERENCE}", differs=True),
    ]
)
# Linear near 0, where the divergence starts, and where differences may have either sign.
draw_kl = curves.by_regime(
    [
        Part("kl", "KL to the initial policy\n(nats per token)", linear_below=1e-2),
        Part("kl", f"KL, {DIFFERENCE}\n(nats per token)", differs=True, linear_below=0.1),
    ]
)
draw_grad_norm = curves.by_regime(
    [
        Part("grad_norm", "gradient norm before clipping,\nmean of the updates", linear_below=1.0),
        Part("grad_norm_max", "gradient norm before clipping,\nlargest update", linear_below=1.0),
    ]
)
draw_length = curves.by_regime(
    [
        Part("response_tokens", "response length (tokens)"),
        Part("truncated", "truncated (share of responses)"),
    ]
)


@style.drawn_from(metrics=(*CURVE, "regime", *LOG_RATIOS))
def draw_log_ratio(frames: Frames, methods: Methods) -> Figure:
    """F6: the token log-ratios of every method and regime, as ribbons between their quantiles."""
    metrics, shown = frames["metrics"], style.shown_looks(frames["metrics"], methods)
    regimes = regimes_of(metrics)
    figure = style.new_figure((1.6 if len(regimes) == 1 else 1.05 * len(regimes)) + 1.1)
    panels = figure.subplots(len(regimes), len(shown), squeeze=False, sharex="row", sharey=True)
    panels[0, 0].set_yscale("symlog", linthresh=0.1)
    for line, regime in zip(panels, regimes, strict=True):
        part = metrics[metrics["regime"] == regime]
        line[0].set_ylabel(curves.regime_label(part, shown, regime), weight="bold")
        for panel, (name, look) in zip(line, shown.items(), strict=True):
            for ends, alpha in RIBBONS.items():
                low, high = (curves.mean_curve(part, name, f"log_ratio_{end}") for end in ends)
                band = {"alpha": alpha, "linewidth": 0, "gid": f"{name} {ends[0]}"}
                panel.fill_between(low.index, low["mean"], high["mean"], color=look.color, **band)
            middle = curves.mean_curve(part, name, "log_ratio_p50")
            panel.plot(middle.index, middle["mean"], color=look.color, linewidth=1.0, gid=name)
            panel.locator_params(axis="x", integer=True, nbins=2)
            if middle.empty:
                style.note_empty(panel)
    for panel, look in zip(panels[0], shown.values(), strict=True):
        panel.set_title(style.wrapped(look.label, 12))
    for panel in panels[-1]:
        panel.set_xlabel("step")
    figure.supylabel("log-ratio of tokens (nats)")
    labels = {0.15: "smallest to largest token", 0.35: "1 % to 99 % of the tokens"}
    entries = [Patch(color="0.2", alpha=a, linewidth=0, label=text) for a, text in labels.items()]
    median = Line2D([], [], color="0.2", linewidth=1.0, label="median token")
    style.add_legend(figure, [median, *reversed(entries)])
    return figure
