"""Train one method with one seed by reinforcement learning, from the base checkpoint."""

from sspo.config.reading import plain, read
from sspo.config.run import RunConfig
from sspo.config.settings import TrackingConfig
from sspo.models.policy import save_policy
from sspo.models.torch_setup import set_up_torch
from sspo.pipeline.closure import code_files
from sspo.pipeline.locks import hold_folder
from sspo.pipeline.provenance import fingerprint
from sspo.pipeline.script import parse_paths, record_training, run
from sspo.training.checkpoint import CheckpointStore
from sspo.training.errors import TrainingError
from sspo.training.progress import Progress
from sspo.training.replay import save_failure
from sspo.training.setup import open_run
from sspo.training.tracking import TrackedLog, Tracker
from sspo.training.trainer import train
from sspo.training.update import PoisonedUpdateError


def main() -> None:
    paths = parse_paths(
        __doc__,
        *("config", "base", "problems", "validation", "tracking"),
        output="folder for model/, metrics.jsonl and rollouts.jsonl.gz",
    )
    hold_folder(paths.output)
    config = read(RunConfig, paths.config)
    set_up_torch(config.compute)
    problems, actors = open_run(
        config, paths.base, paths.problems, paths.validation, paths.output / "engine"
    )
    store = CheckpointStore(
        paths.output / "checkpoint",
        fingerprint(
            [
                paths.config,
                paths.base / "model.safetensors",
                paths.problems,
                paths.validation,
                *code_files(__file__, config=plain(config)),
            ]
        ),
    )
    progress = Progress(paths.output / "progress.json", config.run, config.train.steps)
    tracker = Tracker(paths.output, config.run, read(TrackingConfig, paths.tracking))
    log = TrackedLog(store.folder, tracker)
    try:
        train(config, actors, problems, store, log, progress)
    except PoisonedUpdateError as error:
        folder = paths.output / "failure"
        save_failure(folder, error, config, actors.policy, actors.tokenizer)
        raise TrainingError(f"{error}; saved for workflow/scripts/replay.py in {folder}") from None
    save_policy(actors.policy, actors.tokenizer, paths.output / "model", config.compute.dtype)
    log.publish(paths.output)
    record_training(
        paths,
        __file__,
        "metrics.jsonl",
        "rollouts.jsonl.gz",
        **actors.engine.provenance,
    )
    actors.engine.close()
    store.clear()


if __name__ == "__main__":
    run(main)
