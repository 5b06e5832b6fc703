"""The content of claims.json: verdicts, comparisons, the 2 x 2, and sentences with their numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import get_args

from pandas import DataFrame

from sspo.config.reading import JsonDict, plain
from sspo.evidence.claims import Comparison, Verdict, compare, overall
from sspo.evidence.factorial import factorial_effects
from sspo.evidence.protocol import CLAIM_TEXT, Protocol


def claims_report(
    protocol: Protocol,
    runs: DataFrame,
    scores: DataFrame | None = None,
    labels: Mapping[str, str] | None = None,
) -> JsonDict:
    """Everything that is known about the claims, as plain data for JSON.

    Args:
        protocol: what was to be compared.
        runs: a row per run, as for ``sspo.evidence.claims.compare``.
        scores: a row per run and problem, as for the same.
        labels: method -> name in sentences.

    Returns:
        ``plan`` (the protocol), ``overall`` (claim -> verdict and counts), ``comparisons``, ``remedies``
        (comparisons of ours with SSPO and the baselines), ``factorial``, ``text``.

    Raises:
        ValueError: a column is missing, or a run occurs twice.
    """
    comparisons, labels = compare(protocol, runs, scores), labels or {}
    remedies = []
    if protocol.remedies:
        others = (*protocol.sspo, *protocol.baselines)
        ours = protocol.changed(sspo=protocol.remedies, baselines=others)
        remedies = compare(ours, runs, scores)
    verdicts = overall(protocol, comparisons)
    text = [claim_sentence(claim, found, labels) for claim, found in verdicts.items()]
    text += [comparison_sentence(protocol, c, labels) for c in comparisons if c.primary]
    return {
        "plan": plain(protocol),
        "overall": verdicts,
        "comparisons": [dataclasses.asdict(c) for c in comparisons],
        "remedies": [dataclasses.asdict(c) for c in remedies],
        "factorial": factorial_effects(protocol, runs),
        "text": text,
    }


def claim_sentence(claim: str, found: JsonDict, labels: Mapping[str, str]) -> str:
    """A claim in one line: its verdict, and for every variant the verdicts of its comparisons."""
    parts = []
    for variant, counts in found["counts"].items():
        total = sum(counts.values())
        shares = ", ".join(f"{counts[v]} {v}" for v in get_args(Verdict) if v in counts)
        parts.append(
            f"{labels.get(variant, variant)}: {found['by_variant'][variant]} "
            f"({shares} of {total} comparisons)"
        )
    return f"{CLAIM_TEXT[claim]}: {found['verdict']}. {'; '.join(parts)}."


def comparison_sentence(protocol: Protocol, c: Comparison, labels: Mapping[str, str]) -> str:
    """A comparison in one line: effect, interval, pairs, p-values and verdict."""
    who = f"{labels.get(c.sspo, c.sspo)} against {labels.get(c.baseline, c.baseline)}"
    head = f"{c.claim}, {c.measure}, {c.regime}: {who}"
    if c.effect is None:
        return f"{head}: no paired runs; undecided."
    interval = "no interval"
    if c.low is not None:
        interval = f"{protocol.level:.0%} interval {c.low:+.3g} to {c.high:+.3g}"
    censored = ""
    if c.sspo_censored or c.baseline_censored:
        censored = f", {c.sspo_censored} and {c.baseline_censored} values are only bounds"
    adjusted = "" if protocol.multiplicity == "none" else "adjusted "
    return (
        f"{head}: {c.effect:+.3g} in its favour ({interval}, {c.n} paired runs{censored}; {adjusted}"
        f"p of a gain {c.p_gain:.2g}, of harm {c.p_harm:.2g}, of neither above {c.smallest_effect:g} "
        f"{max(c.p_no_gain, c.p_no_harm):.2g}): "
        f"{c.verdict}."
    )
