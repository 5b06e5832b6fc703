"""The exact study: bias of every objective, one stale response pushed, training from stale ones."""

import torch

from sspo.config.reading import read
from sspo.config.study import ExactStudyConfig
from sspo.evidence.exact.gradients import exact_study
from sspo.evidence.exact.staleness import push_down, stale_training
from sspo.pipeline.provenance import write_record
from sspo.pipeline.script import parse_paths, run

STUDIES = {"gradients": exact_study, "pushes": push_down, "training": stale_training}


def main() -> None:
    arguments = parse_paths(
        __doc__,
        config="JSON of the study",
        output="folder for gradients.csv, pushes.csv and training.csv",
    )
    torch.set_num_threads(1)  # tiny tensors: more threads only get in each other's way
    config = read(ExactStudyConfig, arguments.config)
    arguments.output.mkdir(parents=True, exist_ok=True)
    files = {name: arguments.output / f"{name}.csv" for name in STUDIES}
    for name, study in STUDIES.items():
        study(config).to_csv(files[name], index=False)
    write_record(
        arguments.output / "provenance.json",
        __file__,
        inputs=[arguments.config],
        outputs=files.values(),
        seeds=[config.seed],
    )


if __name__ == "__main__":
    run(main)
