"""Tables drawn as figures: the 2 x 2 (T2), the tuning (T3), outcomes by regime (T5)."""

from __future__ import annotations

import math

from matplotlib.figure import Figure
from pandas import Series

from sspo.config.names import MAIN
from sspo.figures.curves import Frames, Methods
from sspo.figures.regimes import short_params
from sspo.figures.tables import NO_BREAK, WIDTH, Row, draw_table, method_label

NONE = "\N{EN DASH}"

MEASURES = {
    "area": "area",
    "drawdown": "drawdown",
    "test_pass@1": "test pass@1",
    "test_greedy": "test greedy",
    "hard_pass@1": "hard pass@1",
}
# Hyphens say where a heading may break.
OUTCOMES = {
    "area": "area",
    "test_pass@1": "test",
    "hard_pass@1": "hard",
    "drawdown": "draw-down",
    "collapsed": "col-lapsed",
    "final_entropy": "en-tropy",
    "final_kl": "KL",
    "test_response_tokens": "tokens",
    "test_truncated": "trun-cated",
    "drift": "drift",
}


def draw_factorial(frames: Frames, methods: Methods) -> Figure:
    """T2: main effects of level and gate, and their interaction, with intervals over paired runs."""
    rows = frames["factorial"]
    rows = rows[(rows["regime"] == MAIN) & rows["measure"].isin(MEASURES)]
    contrasts = ["level", "gate", "interaction"]
    table = [Row(("", "sequence-hard", "n", *contrasts), bold=frozenset(range(6)))]
    for variant, of_variant in rows.groupby("sspo", sort=False):
        table.append(
            Row((f"sequence-soft: {method_label(variant, methods)}",), frozenset({0}), rule=True)
        )
        for measure, name in MEASURES.items():
            part = of_variant[of_variant["measure"] == measure]
            for filling, found in part.groupby("sequence_hard", sort=False):
                effects = found.set_index("contrast").loc[contrasts]
                cells = [
                    _effect(*row) for row in effects[["effect", "low", "high"]].to_numpy(float)
                ]
                hard = " + ".join(method_label(m, methods) for m in filling.split("+"))
                table.append(Row((name, hard, str(int(effects["n"].iloc[0])), *cells)))
                name = ""
    note = (
        "Effect in points (0.01) [95 % t interval over paired runs], not adjusted, positive is better: "
        "level is sequence minus token, gate soft minus hard, interaction what the soft gate gains more "
        "at sequence level. Token-hard: GRPO; token-soft: SAPO. n: pairs (base model and seed). Area under "
        "the validation curve, its worst drawdown."
    )
    return draw_table(table, [0.8, 0.97, 0.2, 1.17, 1.18, 1.18], note, right_from=2)


def draw_trials(frames: Frames, methods: Methods) -> Figure:
    """T3: every tuning trial, its validation accuracy, and what was chosen."""
    trials = frames["trials"]
    rates = sorted(trials["learning_rate"].unique())
    table = [Row(("", "parameters", *(f"{1e5 * r:g}" for r in rates)), bold=frozenset(range(9)))]
    for method, part in trials.groupby("method", sort=False):
        name = method_label(method, methods)
        for i, (params, line) in enumerate(part.groupby("params", sort=False)):
            scores = line.set_index("learning_rate").loc[rates]
            cells = [f"{100.0 * score:.1f}" for score in scores["score"]]
            bold = frozenset(2 + j for j, chosen in enumerate(scores["chosen"]) if chosen)
            table.append(Row((name, short_params(params), *cells), bold, rule=i == 0))
            name = ""
    note = (
        "Columns: learning rate / 1e-5. Validation pass@1 in %, mean over training; one run per trial. "
        "Bold: chosen. The first row of a method has its published or default parameters."
    )
    widths = [1.7, 1.4, *[(WIDTH - 3.1) / len(rates)] * len(rates)]
    return draw_table(table, widths, note, right_from=2)


def draw_outcomes(frames: Frames, methods: Methods) -> Figure:
    """T5: what every method came to in every regime, means over runs."""
    runs = frames["runs"]
    table = [Row(("", "n", *OUTCOMES.values()))]
    for regime, part in runs.groupby("regime", sort=False):
        table.append(Row((f"{regime}",), bold=frozenset({0}), rule=True))
        for method in (m for m in methods if (part["method"] == m).any()):
            found = part[part["method"] == method]
            cells = [_mean(found[c], 1 if c.endswith("tokens") else 3) for c in OUTCOMES]
            table.append(Row((method_label(method, methods), str(len(found)), *cells)))
    note = (
        "Means over n runs. Area under the validation curve; pass@1 on test and hard; drawdown of the "
        "validation curve; collapsed: share of runs; "
        "entropy and KL to the initial policy at the end, nats per token; tokens per test response and "
        "share truncated; drift: root mean square log-ratio, nats."
    )
    widths = [1.15, 0.2, *[(WIDTH - 1.35) / len(OUTCOMES)] * len(OUTCOMES)]
    return draw_table(table, widths, note, right_from=1)


def _effect(effect: float, low: float, high: float) -> str:
    """In points, a hundredth each."""
    if math.isnan(effect):
        return NONE
    if math.isnan(low):  # a single pair
        return f"{100.0 * effect:+.1f}"
    bounds = f"{100.0 * effect:+.1f} [{100.0 * low:+.1f}, {100.0 * high:+.1f}]"
    return bounds.replace(" ", NO_BREAK)


def _mean(values: Series, digits: int) -> str:
    known = values.dropna()
    return f"{known.mean():.{digits}f}" if len(known) else NONE
