"""Frames of a study of several regimes with made-up numbers, for the figure tests."""

import json
from functools import cache

import numpy as np
import pandas as pd

from sspo.evidence.measures import add_spread
from sspo.evidence.protocol import load_protocol
from sspo.evidence.report import claims_report
from sspo.figures import regimes as figures
from sspo.figures.tables import EFFECTS, OUTCOMES

AGES = {"main": 4, "stale1": 1, "stale16": 16, "stale16_fast": 16}
MEASURES = ("tokens_to_target_capped", "reached", "collapsed", "spike_share", "test_pass@8",
            "hard_pass@8", "hard_greedy", "test_greedy", "final_entropy", "weight_decades")  # fmt: skip


def make_runs(methods, seeds: int = 3) -> pd.DataFrame:
    """A row per run; drift grows with the age of responses, and is 0 with one update per rollout."""
    rng = np.random.default_rng(0)
    rows = [
        {"run": f"{m}-{r}-{b}-s{s}", "method": m, "regime": r, "base": b, "seed": s,
         "updates_per_rollout": age, "tuned": "params" if r.endswith("fast") else "everything",
         "learning_rate": 2e-4 if r.endswith("fast") else 5e-5,
         "drift": 0.0 if age == 1 else 0.05 * age * rng.uniform(0.9, 1.1)}
        for r, age in AGES.items() for b in (("base", "second") if r == "main" else ("base",))
        for m in methods for s in range(seeds)
    ]  # fmt: skip
    runs = pd.DataFrame(rows)
    for column in sorted({*MEASURES, *OUTCOMES, *EFFECTS}):
        if column not in runs:
            runs[column] = rng.uniform(0.2, 0.9, len(runs))
    return add_spread(runs, "test_pass@1")


def make_steps(methods, seeds: int = 3, steps: int = 12) -> pd.DataFrame:
    """A row per run of the main base model and step, with what figures of regimes need of ``metrics``."""
    rng = np.random.default_rng(1)
    rows = [
        {"run": f"{m}-{r}-base-s{s}", "method": m, "regime": r, "base": "base", "seed": s, "step": t}
        for r in ("main", "stale1", "stale16") for m in methods for s in range(seeds)
        for t in range(steps + 1)
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    frame["log_ratio_rms"] = rng.lognormal(-3.0, 1.0, len(frame))
    frame["sequence_weight_var"] = frame["log_ratio_rms"] ** 2
    for column in (*figures.MASSES, *figures.EFFECTS):
        frame[column] = rng.uniform(0.0, 0.25, len(frame))
    measured = ["log_ratio_rms", "sequence_weight_var", *figures.MASSES]
    frame.loc[frame["regime"] == "stale1", measured] = 0.0
    frame.loc[frame["step"] == 0, measured] = np.nan
    return frame


def make_trials(methods) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    rows = [
        {"regime": "main", "method": m, "learning_rate": rate, "params": json.dumps({"clip": clip}),
         "score": rng.random(), "chosen": (rate, clip) == (1e-4, 0.2)}
        for m in methods for rate in (2e-4, 5e-5, 1e-4) for clip in (0.2, 0.4)
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    return frame.assign(lowest=frame["score"] - 0.1, highest=frame["score"] + 0.05)


def evidence_frames(methods, plan_file, seeds: int = 3) -> dict[str, pd.DataFrame]:
    """``runs``, ``trials``, ``comparisons`` and ``factorial``: copies, free to be changed."""
    frames = _evidence_frames(tuple(methods), plan_file, seeds)
    return {name: frame.copy() for name, frame in frames.items()}


@cache  # the intervals of all comparisons take seconds
def _evidence_frames(methods, plan_file, seeds):
    runs = make_runs(methods, seeds)
    report = claims_report(load_protocol(plan_file), runs)
    return {
        "runs": runs,
        "trials": make_trials(methods),
        "comparisons": pd.DataFrame(report["comparisons"]),
        "factorial": pd.DataFrame(report["factorial"]),
    }
