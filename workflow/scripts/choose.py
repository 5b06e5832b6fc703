"""Choose every method's learning rate and parameters by the validation accuracy of its trials."""

import json

import pandas as pd

from sspo.config.reading import read
from sspo.config.study import TuningConfig
from sspo.data.problems import read_jsonl
from sspo.experiment.tuning import choose
from sspo.pipeline.files import write_json
from sspo.pipeline.provenance import write_record
from sspo.pipeline.script import parse_paths, run


def main() -> None:
    paths = parse_paths(
        __doc__,
        config="JSON of the tuning",
        runs="folder of the trials' runs",
        output="folder for trials.csv and choices.json",
    )
    config = read(TuningConfig, paths.config)
    names = [name for trials in config.trials.values() for trial in trials for name in trial.runs]
    metrics = {name: paths.runs / name / "metrics.jsonl" for name in names}
    rows = choose(config, {name: read_jsonl(file) for name, file in metrics.items()})
    keys = ("trial", "learning_rate", "params")
    choices = {row["method"]: {key: row[key] for key in keys} for row in rows if row["chosen"]}
    outputs = [paths.output / name for name in ("choices.json", "trials.csv")]
    write_json(outputs[0], choices)
    regime = paths.output.name
    table = pd.DataFrame(
        [{"regime": regime, **row, "params": json.dumps(row["params"])} for row in rows]
    )
    table.to_csv(outputs[1], index=False)
    write_record(
        paths.output / "provenance.json",
        __file__,
        inputs=[paths.config, *metrics.values()],
        outputs=outputs,
    )


if __name__ == "__main__":
    run(main)
