"""Equal tuning: of equally many trials per method, the one with the best validation accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sspo.config.reading import JsonDict
from sspo.config.study import Trial, TuningConfig

Records = Sequence[JsonDict]


def last_validations(records: Records, config: TuningConfig) -> list[float]:
    """A run's last validation accuracies, from its ``metrics.jsonl``.

    Raises:
        ValueError: the run was validated less often than that.
    """
    found = [float(r[config.accuracy]) for r in records if r.get(config.accuracy) is not None]
    if len(found) < config.validations:
        raise ValueError(
            f"tuning.validations = {config.validations} exceeds the {len(found)} validations of a run; "
            "lower it or train.eval_every"
        )
    return found[-config.validations :]


def run_scores(trial: Trial, records: Mapping[str, Records], config: TuningConfig) -> list[float]:
    """Mean accuracy over the last validations of each of a trial's runs."""
    return [float(np.mean(last_validations(records[run], config))) for run in trial.runs]


def choose(config: TuningConfig, records: Mapping[str, Records]) -> list[JsonDict]:
    """Every trial with its score and whether it is its method's best, the first one of equals.

    Args:
        config: the trials.
        records: run -> records of its ``metrics.jsonl``.

    Returns:
        Rows with method, trial, learning_rate, params, score (the mean over its runs), lowest and
        highest (of its runs), chosen.
    """
    rows = []
    for method, trials in config.trials.items():
        scores = [run_scores(trial, records, config) for trial in trials]
        means = [float(np.mean(of_runs)) for of_runs in scores]
        best = int(np.argmax(means))
        rows += [
            {
                "method": method,
                "trial": i,
                "learning_rate": trial.learning_rate,
                "params": trial.params,
                "score": means[i],
                "lowest": min(scores[i]),
                "highest": max(scores[i]),
                "chosen": i == best,
            }
            for i, trial in enumerate(trials)
        ]
    return rows


def apply_choice(run: JsonDict, choices: Mapping[str, JsonDict]) -> JsonDict:
    """A tuned run's config with the parameters, and the learning rate, chosen for its method."""
    chosen = choices[run["method"]]
    rate = {"learning_rate": chosen["learning_rate"]} if run["tuned"] == "everything" else {}
    return {
        **run,
        "objective": {**run["objective"], "params": chosen["params"]},
        "train": {**run["train"], **rate},
    }
