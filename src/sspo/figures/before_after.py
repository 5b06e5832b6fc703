"""What one run changed: its curves, its accuracy before and after, and answers to read."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from pandas import DataFrame

from sspo.evidence.intervals import proportion_interval
from sspo.figures import style

Record = Mapping[str, Any]
SHOWN = 2  # problems whose answers are shown, the first of the split
LETTERS, LINES = 46, 4  # of such an answer
QUESTION = re.compile(r"user\n(.*?)<\|", re.DOTALL)  # in chat formats of this kind


def quoted(text: str, letters: int = LETTERS, lines: int = LINES) -> str:
    """A response in a few short lines; one that is cut ends with dots."""
    wrapped = textwrap.wrap(" ".join(text.split()), letters) or ["(nothing)"]
    return "\n".join([*wrapped[:lines], *(["..."] if len(wrapped) > lines else [])])


def answers_to_show(
    problems: Sequence[Record], before: Sequence[Record], after: Sequence[Record]
) -> list[tuple[str, str, str]]:
    """The first problems with the first sampled answer of both models: (problem, before, after)."""
    rows = list(zip(problems, before, after, strict=True))[:SHOWN]
    return [(question(p["prompt"]), b["texts"][1], a["texts"][1]) for p, b, a in rows]


def question(prompt: str) -> str:
    """What the user says in a prompt in chat format; a prompt in another format whole."""
    found = QUESTION.search(prompt)
    return " ".join((found[1] if found else prompt).split())


def accuracy_table(scores: Mapping[str, Mapping[str, Sequence[Record]]]) -> str:
    """Markdown: a row per split and model, accuracy of sampled answers with its 95 % interval, length.

    Args:
        scores: split -> ``before`` and ``after`` -> its records in ``completions.jsonl.gz``.
    """
    lines = [
        "| problems | model | accuracy | 95 % interval | tokens per answer |",
        "|---|---|---|---|---|",
    ]
    for split, models in scores.items():
        for name, records in models.items():
            means = [float(np.mean(r["rewards"])) for r in records]
            mean, low, high = proportion_interval(means, np.random.default_rng(0))
            tokens = np.mean([r["lengths"] for r in records])
            cells = f"{split} ({len(records)})", name, f"{mean:.2f}", f"{low:.2f} to {high:.2f}"
            lines.append(f"| {' | '.join(cells)} | {tokens:.1f} |")
    return "\n".join(lines) + "\n"


def draw_before_after(
    metrics: DataFrame, answers: Sequence[tuple[str, str, str]], label: str, color: str
) -> Figure:
    """Reward and response length against the step, above answers of the base model and of the run's."""
    with matplotlib.rc_context(style.STYLE):
        figure = style.new_figure(2.0 + 0.95 * len(answers))
        curves, texts = figure.subfigures(2, 1, height_ratios=[2.0, 0.95 * len(answers)])
        names = {"reward": "reward (share right)", "response_tokens": "tokens per answer"}
        for panel, (column, name) in zip(curves.subplots(1, 2), names.items(), strict=True):
            rows = metrics.dropna(subset=[column])
            panel.plot(rows["step"], rows[column], color=color, marker="o", markersize=2.5)
            panel.locator_params(axis="x", integer=True)
            panel.set(title=name, xlabel="step", ylim=(0, 1.03 if column == "reward" else None))
        curves.suptitle(label)
        axes = texts.subplots()
        axes.set_axis_off()
        place = {"transform": axes.transAxes, "va": "top", "parse_math": False}
        for i, (problem, *pair) in enumerate(answers):
            top, line = 1.0 - i / len(answers), 0.17 / len(answers)
            axes.text(0.0, top, quoted(problem, 95, 1), weight="bold", size=7, **place)
            for x, title, text in zip((0.0, 0.52), ("before", "after"), pair, strict=True):
                axes.text(x, top - line, title, size=7, color="0.4", **place)
                mono = {"family": "DejaVu Sans Mono", "size": 7}
                axes.text(x, top - 2 * line, quoted(text), **mono, **place)
    return figure
