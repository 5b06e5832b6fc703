"""Data of the interactive page: every run's curves, thinned, and some of its responses.

Nothing is averaged or smoothed here. The page (``workflow/report/curves.html``) draws the runs and
their mean.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pandas import DataFrame

from sspo.config.errors import ConfigError
from sspo.config.names import BASE, CONTROL, MAIN
from sspo.config.reading import JsonDict
from sspo.figures.inputs import CONTROLS, RUN, Frames, Methods, made_from

MEASURES = {  # column of metrics.csv -> its name on the page
    "pass@1": "Validation pass@1, sampled",
    "greedy": "Validation accuracy, greedy",
    "reward": "Training reward",
    "response_tokens": "Response length (tokens)",
    "truncated": "Share of truncated responses",
    "entropy": "Entropy (nats per token)",
    "kl": "KL to the initial policy (nats per token)",
    "grad_norm": "Gradient norm",
    "log_ratio_rms": "Drift: root mean square log-ratio (nats)",
    "clip_fraction": "Share of tokens without gradient",
    "coefficient_mean": "Mean gradient weight (1 is on-policy)",
    "grpo_clip_share": "Share of tokens that GRPO's clip of 0.2 would cut",
    "sequence_weight_distance": "Mean distance of sequence weights from 1",
    "engine_logprob_gap_mean": "Gap of log-probabilities, policy and engine (nats)",
}
VALUES = 250_000  # numbers in the page: about two megabytes
DIGITS = 4
SAMPLED_STEPS, RESPONSES, CHARACTERS = 6, 2, 400  # responses of a run, and what is kept of a text
CONTROL_COLOR = "#777777"


@made_from(metrics=(*RUN, "step"))
def curves_data(frames: Frames, methods: Methods) -> JsonDict:
    """What the page draws, ready for JSON.

    Args:
        frames: ``metrics``, a row per run and step.
        methods: labels and colours; runs of other methods are left out, the control is grey.

    Returns:
        ``measures``: column -> name, of those that were measured; ``methods``: label and colour;
        ``runs``: method, regime, base and seed, and by measure a pair of the place in ``steps`` and the
        values; ``steps``: the different lists of steps; ``every``: one of how many steps was kept.
    """
    metrics = frames["metrics"]
    looks = {name: dict(methods[name]) for name in methods}
    looks |= {CONTROL: {"label": CONTROLS[CONTROL], "color": CONTROL_COLOR}}
    metrics = metrics[metrics["method"].isin(looks)].sort_values("step", kind="stable")
    columns = [name for name in MEASURES if name in metrics and metrics[name].notna().any()]
    every = max(1, -(-int(metrics[columns].notna().sum().sum()) // VALUES))
    steps: dict[tuple[int, ...], int] = {}
    runs: JsonDict = {}
    for place, rows in metrics.groupby(list(RUN), sort=False):
        known = dict(zip(RUN, place, strict=True))
        curves = {name: _curve(rows, name, every) for name in columns}
        runs[known.pop("run")] = known | {
            "curves": {
                name: [steps.setdefault(at, len(steps)), values]
                for name, (at, values) in curves.items()
                if values
            }
        }
    order = [*looks]
    runs = dict(sorted(runs.items(), key=lambda item: _place(item[1], order)))
    shown = {run["method"] for run in runs.values()}
    return {
        "measures": {name: MEASURES[name] for name in columns},
        "methods": {name: look for name, look in looks.items() if name in shown},
        "runs": runs,
        "steps": list(steps),
        "every": every,
    }


def run_samples(file: Path) -> list[JsonDict]:
    """The first responses of some steps of a run, evenly spread over training.

    Args:
        file: its ``rollouts.jsonl.gz``, in the order of steps.

    Returns:
        ``step``, ``prompt`` and ``responses`` (pairs of text and reward) of each of these steps; texts
        are cut at ``CHARACTERS``.

    Raises:
        ConfigError: the file cannot be read.
    """
    by_step: dict[int, list[Mapping]] = {}
    try:
        for line in gzip.decompress(file.read_bytes()).decode().splitlines():
            record = json.loads(line)
            by_step.setdefault(record["step"], []).append(record)
        steps = list(by_step)
        chosen = np.unique(np.linspace(0, len(steps) - 1, SAMPLED_STEPS).round().astype(int))
        return [_sample(by_step[steps[i]]) for i in chosen] if steps else []
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise ConfigError(
            f"{file}: not readable ({error}); delete it to leave its samples out"
        ) from None


def _place(run: Mapping, methods: list[str]) -> tuple[bool, bool, int]:
    """Where a run stands in the lists of the page: the main regime and base model come first."""
    return run["regime"] != MAIN, run["base"] != BASE, methods.index(run["method"])


def _curve(rows: DataFrame, column: str, every: int) -> tuple[tuple[int, ...], list[float | None]]:
    """Steps and values of one run: one of ``every`` measured ones, and the last."""
    measured = rows[["step", column]].dropna()
    if not len(measured):
        return (), []
    kept = measured.iloc[sorted({*range(0, len(measured), every), len(measured) - 1})]
    # JSON has no infinity: null is a gap in the line.
    values = [float(f"{v:.{DIGITS}g}") if np.isfinite(v) else None for v in kept[column]]
    return tuple(map(int, kept["step"])), values


def _sample(records: list[Mapping]) -> JsonDict:
    """The first responses among a step's records, which are of one prompt."""
    first = records[0]
    return {
        "step": first["step"],
        "prompt": _cut(first["prompt"]),
        "responses": [
            (_cut(record["response"]), record["reward"])
            for record in records[:RESPONSES]
            if record["prompt"] == first["prompt"]
        ],
    }


def _cut(text: str) -> str:
    return text if len(text) <= CHARACTERS else text[:CHARACTERS] + "\N{HORIZONTAL ELLIPSIS}"
