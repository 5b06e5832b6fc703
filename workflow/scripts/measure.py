"""A row per run: speed, stability, drift, final scores. What the claims and their figures rest on."""

import pandas as pd

from sspo.config.names import BASE, CONTROL
from sspo.config.reading import load_json
from sspo.evidence.measures import (
    add_spread,
    drift_measures,
    final_scores,
    run_measures,
    sampled_tokens,
)
from sspo.evidence.protocol import load_protocol
from sspo.pipeline.provenance import write_record
from sspo.pipeline.script import parse_paths, run

SETTINGS = ("learning_rate", "updates_per_rollout")
IDENTITY = ["run", "method", "regime", "base", "seed"]


def main() -> None:
    paths = parse_paths(
        __doc__,
        plan="YAML of the claims",
        metrics="CSV, a row per run and step",
        evaluations="CSV, a row per run, split and score",
        runs="folder of the runs, for their configs",
        output="CSV to write",
    )
    protocol = load_protocol(paths.plan)
    metrics, evaluations = pd.read_csv(paths.metrics), pd.read_csv(paths.evaluations)
    trained = metrics[~metrics["method"].isin([BASE, CONTROL])]
    records = {tuple(key): to_records(part) for key, part in trained.groupby(IDENTITY, sort=False)}
    budgets: dict[tuple, float] = {}
    for (_, _, regime, base, _), found in records.items():
        spent = sampled_tokens(found)
        budgets[regime, base] = min(spent, budgets.get((regime, base), spent))
    scores = {name: final_scores(to_records(part)) for name, part in evaluations.groupby("run")}
    rows = []
    for key, found in records.items():
        identity = dict(zip(IDENTITY, key, strict=True))
        budget = budgets[identity["regime"], identity["base"]]
        measures = run_measures(found, protocol.learning, budget) | drift_measures(found)
        config = load_json(paths.runs / identity["run"] / "config.json")
        settings = {"tuned": config["tuned"]} | {k: config["train"][k] for k in SETTINGS}
        rows.append(identity | settings | {"budget": budget} | measures | scores[identity["run"]])
    add_spread(pd.DataFrame(rows), "test_pass@1").to_csv(paths.output, index=False)
    write_record(
        paths.output.with_suffix(".provenance.json"),
        __file__,
        inputs=[
            *(paths.plan, paths.metrics, paths.evaluations),
            *(paths.runs / row["run"] / "config.json" for row in rows),
        ],
        outputs=[paths.output],
        seeds={int(row["seed"]) for row in rows},
    )


def to_records(frame: pd.DataFrame) -> list[dict]:
    """The rows as records; what a row does not have is None."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


if __name__ == "__main__":
    run(main)
