"""The supervised-only control: go on training the base model on worked solutions, without reward."""

from sspo.config.reading import read
from sspo.config.run import ControlConfig
from sspo.config.settings import TrackingConfig
from sspo.data.problems import read_problems
from sspo.models.policy import load_model, load_tokenizer
from sspo.models.torch_setup import set_up_torch
from sspo.pipeline.locks import hold_folder
from sspo.pipeline.script import parse_paths, record_training, run
from sspo.training.supervised import run_supervised
from sspo.training.tracking import Tracker


def main() -> None:
    paths = parse_paths(
        __doc__,
        *("config", "base", "warmup", "validation", "tracking"),
        output="folder for model/ and metrics.jsonl",
    )
    hold_folder(paths.output)
    config = read(ControlConfig, paths.config)
    set_up_torch(config.compute)
    records, validation = read_problems(paths.warmup), read_problems(paths.validation)
    tokenizer = load_tokenizer(paths.base)
    model = load_model(paths.base, "float32", config.compute.device)
    tracker = Tracker(paths.output, config.run, read(TrackingConfig, paths.tracking))
    run_supervised(
        model,
        tokenizer,
        records,
        validation,
        config,
        config.run,
        paths.output,
        validation_file=paths.validation,
        tracker=tracker,
        updates_per_step=config.updates_per_step,
    )
    record_training(paths, __file__, "metrics.jsonl")


if __name__ == "__main__":
    run(main)
