"""Train one method with one seed inside TRL, in every process that `accelerate launch` starts."""

import shutil

from sspo.backends.launch import join_processes, on_local_device, process_place
from sspo.backends.trl_run import RunTrainer
from sspo.config.reading import read
from sspo.config.run import RunConfig
from sspo.config.settings import TrackingConfig
from sspo.models.policy import load_model, save_model
from sspo.models.torch_setup import set_up_torch
from sspo.models.weights import plain_weights
from sspo.pipeline.locks import hold_folder
from sspo.pipeline.script import parse_paths, record_training, run
from sspo.training.checkpoint import refuse_non_finite
from sspo.training.progress import Progress
from sspo.training.setup import open_run
from sspo.training.tracking import TrackedLog, Tracker


def main() -> None:
    paths = parse_paths(
        __doc__,
        *("config", "base", "problems", "validation", "tracking"),
        output="folder for model/, metrics.jsonl and rollouts.jsonl.gz",
    )
    rank, processes = process_place()
    if rank == 0:
        hold_folder(paths.output)
    config = on_local_device(read(RunConfig, paths.config))
    set_up_torch(config.compute)
    join_processes(config)
    scratch = paths.output / "engine"
    problems, actors = open_run(config, paths.base, paths.problems, paths.validation, scratch)
    tracker = Tracker(paths.output, config.run, read(TrackingConfig, paths.tracking))
    log = TrackedLog(paths.output / "checkpoint", tracker)
    progress = Progress(paths.output / "progress.json", config.run, config.train.steps)
    RunTrainer(config, actors, problems, log, progress).train()
    weights = plain_weights(actors.policy)
    if rank != 0:
        return
    policy = load_model(paths.base, config.compute.dtype)
    policy.load_state_dict(weights)
    refuse_non_finite(policy, config.run)
    save_model(policy, actors.tokenizer, paths.output / "model")
    log.publish(paths.output)
    record_training(
        paths,
        __file__,
        "metrics.jsonl",
        "rollouts.jsonl.gz",
        **actors.engine.provenance,
        trainer="trl",
        processes=processes,
    )
    shutil.rmtree(log.folder)
    shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    run(main)
