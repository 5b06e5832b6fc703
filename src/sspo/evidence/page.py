"""The claims as a page of Markdown; every number on it comes from ``sspo.evidence.report``.

Not by ``DataFrame.to_markdown``, which pads columns, so that one new number changes every line of a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sspo.config.reading import JsonDict, load_json
from sspo.evidence.protocol import CLAIM_TEXT

NONE = "\N{EN DASH}"
MEASURES = {
    "area": "area under the validation curve",
    "tokens_to_target_capped": "tokens to the target accuracy",
    "drawdown": "worst drawdown",
    "collapsed": "collapse rate",
    "weight_decades": "variance of the sequence weights (decades)",
    "final_entropy": "entropy at the end (nats per token)",
    "spike_share": "share of steps with a gradient spike",
    "test_pass@1_deviation": "deviation of test pass@1 from the median over seeds",
}


def read_labels(methods: str | Path) -> dict[str, str]:
    """Method -> its name in tables, from the JSON with the looks of the methods."""
    return {name: look["label"] for name, look in load_json(methods).items()}


def claims_page(report: JsonDict, labels: Mapping[str, str]) -> str:
    """The verdicts, then every comparison behind them, then the 2 x 2.

    Args:
        report: what ``claims_report`` returns.
        labels: method -> name in tables.
    """
    plan, comparisons = report["plan"], report["comparisons"]
    regimes = list(dict.fromkeys(c["regime"] for c in comparisons))
    kinds = plan["deciding_regimes"]
    deciding = [regime for regimes_of_kind in kinds.values() for regime in regimes_of_kind]
    where = "; ".join(f"{', '.join(regimes)} ({kind})" for kind, regimes in kinds.items())
    parts = [
        "# The verdicts\n",
        f"Decided in: {where}. Effects are paired differences, positive where they speak for the "
        f"first method, with a {plan['level']:.0%} t interval; p-values and verdicts by "
        "`workflow/claims.yaml` and `sspo.evidence.claims`. No gain means that the two are equal within "
        "the smallest effect of interest, worse that the first method is behind by at least that.\n",
        _verdicts(report, labels, regimes),
    ]
    for claim, text in CLAIM_TEXT.items():
        chosen = [c for c in comparisons if c["claim"] == claim]
        parts += [f"## {text}?\n", *_by_measure(chosen, deciding, labels)]
    if report["remedies"]:
        primary = [c for c in report["remedies"] if c["primary"]]
        parts += ["## The remedy (ours)\n", *_by_measure(primary, regimes, labels)]
    parts += ["## The 2 x 2\n", _factorial(report["factorial"], deciding, labels)]
    others = [r for r in regimes if r not in deciding]
    for regime in others:
        chosen = [c for c in comparisons if c["regime"] == regime and c["primary"]]
        parts += [f"## Regime {regime}\n", *_by_measure(chosen, [regime], labels)]
    return "\n".join(parts)


def last_lines(report: JsonDict, labels: Mapping[str, str], results: str, figures: str) -> str:
    """What a pipeline ends with in a terminal: a line per claim, and where everything lies.

    Args:
        report: what ``claims_report`` returns.
        labels: method -> name.
        results: folder of the results.
        figures: folder of the figures.
    """
    kinds = report["plan"]["deciding_regimes"]
    regimes = [regime for regimes_of_kind in kinds.values() for regime in regimes_of_kind]
    width = max(map(len, CLAIM_TEXT.values()))
    lines = [f"Verdicts, decided in {', '.join(regimes)}:"]
    for claim, text in CLAIM_TEXT.items():
        found = report["overall"][claim]
        variants = (f"{labels.get(v, v)}: {verdict}" for v, verdict in found["by_variant"].items())
        lines.append(f"  {text:{width}}  {found['verdict']:9}  ({'; '.join(variants)})")
    lines += [
        f"Every comparison: {results}/claims.md. Figures and tables: {figures}/. One page with the"
        f" curves: {results}/overview.html.",
        f"`make report` writes everything into one file, {results}/report.html.",
    ]
    return "\n".join(lines)


def _verdicts(report: JsonDict, labels: Mapping[str, str], regimes: Sequence[str]) -> str:
    """Claim x variant x kind and regime; the overall verdict is that of the deciding regimes."""
    rows = []
    for claim, text in CLAIM_TEXT.items():
        found = report["overall"][claim]
        for variant, verdicts in found["by_regime"].items():
            name = labels.get(variant, variant)
            cells = [verdicts.get(regime, NONE) for regime in regimes]
            cells = [*found["by_kind"][variant].values(), *cells]
            rows.append((text, f"**{found['verdict']}**", name, *cells))
    return _table(
        ("claim", "verdict", "variant", *report["plan"]["deciding_regimes"], *regimes), rows
    )


def _by_measure(
    comparisons: Sequence[JsonDict], regimes: Sequence[str], labels: Mapping[str, str]
) -> list[str]:
    parts = []
    for measure in dict.fromkeys(c["measure"] for c in comparisons):
        chosen = [c for c in comparisons if c["measure"] == measure and c["regime"] in regimes]
        if not chosen:
            continue
        role = "decides" if chosen[0]["primary"] else "told beside it"
        name = MEASURES.get(measure, measure.replace("_", " "))
        smallest = f"{chosen[0]['smallest_effect']:g}"
        parts.append(
            f"{name[0].upper()}{name[1:]} ({role}; smallest effect of interest {smallest}):\n"
        )
        parts.append(_comparisons(chosen, labels))
    return parts


def _comparisons(comparisons: Sequence[JsonDict], labels: Mapping[str, str]) -> str:
    head = ("regime", "method", "against", "its mean", "other's", "effect", "p of a gain", "p of harm",
            "p of no gain that matters", "pairs", "verdict")  # fmt: skip
    rows = [
        (
            c["regime"],
            labels.get(c["sspo"], c["sspo"]),
            labels.get(c["baseline"], c["baseline"]),
            _number(c["sspo_mean"]),
            _number(c["baseline_mean"]),
            _interval(c),
            f"{c['p_gain']:.2g}",
            f"{c['p_harm']:.2g}",
            f"{c['p_no_gain']:.2g}",
            str(c["n"]),
            c["verdict"],
        )
        for c in comparisons
    ]
    return _table(head, rows)


def _factorial(rows: Sequence[JsonDict], regimes: Sequence[str], labels: Mapping[str, str]) -> str:
    """Main effects and interaction of the deciding regimes."""
    head = ("measure", "variant", "sequence-hard cell", "contrast", "effect", "pairs")
    chosen = [r for r in rows if r["regime"] in regimes]
    return _table(
        head,
        [
            (
                MEASURES.get(r["measure"], r["measure"].replace("_", " ")),
                labels.get(r["sspo"], r["sspo"]),
                " and ".join(labels.get(m, m) for m in r["sequence_hard"].split("+")),
                r["contrast"],
                _interval(r),
                str(r["n"]),
            )
            for r in chosen
        ],
    )


def _interval(row: JsonDict) -> str:
    if row["effect"] is None:
        return NONE
    known = row["low"] is not None
    return f"{row['effect']:+.3g}" + (f" [{row['low']:+.3g}, {row['high']:+.3g}]" if known else "")


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.3g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n"
