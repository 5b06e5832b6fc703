"""Frames of the exact study with made-up numbers, for the figure tests."""

import numpy as np
import pandas as pd

from sspo.figures.exact import DIRECTIONS, GRADIENT_PANELS

DRIFTS = (0.0, 0.1, 0.4)


def study_frames(methods=("grpo", "sspo")) -> dict[str, pd.DataFrame]:
    """``gradients``, ``pushes`` and ``training`` of these methods."""
    rng = np.random.default_rng(0)
    where = [
        {"method": m, "lengths": lengths, "direction": d, "draw": draw, "drift": drift}
        for m in methods
        for lengths in ("fixed", "variable")
        for d in DIRECTIONS
        for draw in range(2)
        for drift in DRIFTS
    ]
    gradients = pd.DataFrame(where)
    for column in GRADIENT_PANELS:
        gradients[column] = rng.uniform(0.1, 1.0, len(gradients))
    gradients.loc[gradients["drift"] == 0.0, ["weight_neg_down", "weight_pos_up"]] = np.nan
    pushes = pd.DataFrame(
        [{"method": m, "push": p, "log_ratio": -0.1 * p} for m in methods for p in range(30)]
    )
    training = pd.DataFrame(
        [
            {"method": m, "updates_per_rollout": k, "learning_rate": rate, "draw": d, "update": u,
             "reward": rng.random()}
            for m in methods for k in (1, 8) for rate in (0.1, 0.5)
            for d in range(3) for u in (0, 8, 16)
        ]
    )  # fmt: skip
    return {"gradients": gradients, "pushes": pushes, "training": training}
