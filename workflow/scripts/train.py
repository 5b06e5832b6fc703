"""Train one method with one seed by reinforcement learning, from the base checkpoint."""

from pathlib import Path

from sspo.checkpoint import CheckpointStore
from sspo.cli import parse_paths, run, set_up_torch
from sspo.config import RunConfig, TrackingConfig, from_json
from sspo.datasets import read_problems
from sspo.failures import PoisonedUpdateError, TrainingError
from sspo.locks import hold_folder
from sspo.policy import load_policy, load_reference, load_tokenizer, save_policy
from sspo.provenance import fingerprint, import_closure, write_record
from sspo.replay import save_failure
from sspo.rewards import check_golds, make_reward
from sspo.rollout import make_engine
from sspo.session import Progress, check_lengths, make_validation
from sspo.tracking import TrackedLog, Tracker
from sspo.trainer import train
from sspo.update import Actors


def main() -> None:
    paths = parse_paths(
        __doc__,
        config="run config",
        base="base checkpoint",
        problems="training problems",
        validation="validation problems",
        tracking="tracking config",
        output="folder for model/, metrics.jsonl and rollouts.jsonl.gz",
    )
    hold_folder(paths.output)
    config = from_json(RunConfig, paths.config)
    set_up_torch(config.compute)
    problems, validation = read_problems(paths.problems), read_problems(paths.validation)
    reward = make_reward(config.reward)
    check_golds(problems, reward, paths.problems)
    check_golds(validation, reward, paths.validation)
    tokenizer = load_tokenizer(paths.base)
    policy = load_policy(paths.base, config)
    reference = load_reference(paths.base, config)
    limit = config.rollout.max_response_tokens
    context = policy.config.max_position_embeddings
    check_lengths(problems, tokenizer, context, limit, paths.problems)
    check_lengths(validation, tokenizer, context, limit, paths.validation)
    engine = make_engine(
        config.rollout.engine,
        policy,
        tokenizer,
        folder=str(paths.base),
        dtype=config.compute.dtype,
        max_batch=config.rollout.max_batch,
        seed=config.seed,
        stop_tokens=config.rollout.stop_tokens,
        vllm_memory=config.rollout.vllm_memory,
    )
    validate = make_validation(
        validation, engine, tokenizer, reward, config.validation, config.rollout, config.seed
    )
    actors = Actors(policy, reference, engine, tokenizer, reward, validate)
    store = CheckpointStore(
        paths.output / "checkpoint",
        fingerprint(
            [
                paths.config,
                paths.base / "model.safetensors",
                paths.problems,
                paths.validation,
                *import_closure(__file__, Path(__file__).parents[2] / "src"),
            ]
        ),
    )
    progress = Progress(paths.output / "progress.json", config.run, config.train.steps)
    tracker = Tracker(paths.output, config.run, from_json(TrackingConfig, paths.tracking))
    log = TrackedLog(store.folder, tracker)
    try:
        train(config, actors, problems, store, log, progress)
    except PoisonedUpdateError as error:
        folder = paths.output / "failure"
        save_failure(folder, error, config, policy, tokenizer)
        raise TrainingError(f"{error}; saved for workflow/scripts/replay.py in {folder}") from None
    save_policy(policy, tokenizer, paths.output / "model", config.compute.dtype)
    log.publish(paths.output)
    results = [paths.output / name for name in ("metrics.jsonl", "rollouts.jsonl.gz")]
    write_record(
        paths.output / "provenance.json",
        __file__,
        inputs=[paths.config, *paths.base.iterdir(), paths.problems, paths.validation],
        outputs=[*(paths.output / "model").iterdir(), *results],
        seeds=[config.seed],
    )
    store.clear()
    engine.close()


if __name__ == "__main__":
    run(main)
