"""Train one method with one seed inside TRL, in every process that `accelerate launch` starts."""

import shutil

from sspo.backends.trl import SspoTrainer, local_device, process_place
from sspo.checkpoint import refuse_non_finite
from sspo.cli import parse_paths, run, set_up_torch
from sspo.config import RunConfig, TrackingConfig, from_json
from sspo.datasets import read_problems
from sspo.locks import hold_folder
from sspo.policy import load_policy, load_reference, load_tokenizer, save_policy
from sspo.provenance import write_record
from sspo.rewards import check_golds, make_reward
from sspo.rollout import make_engine
from sspo.session import Progress, check_lengths, make_validation
from sspo.tracking import TrackedLog, Tracker
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
    rank, processes = process_place()
    if rank == 0:
        hold_folder(paths.output)
    config = from_json(RunConfig, paths.config)
    set_up_torch(config.compute)
    problems, validation = read_problems(paths.problems), read_problems(paths.validation)
    reward = make_reward(config.reward)
    check_golds(problems, reward, paths.problems)
    check_golds(validation, reward, paths.validation)
    tokenizer = load_tokenizer(paths.base)
    policy, reference = load_policy(paths.base, config), load_reference(paths.base, config)
    limit = config.rollout.max_response_tokens
    context = policy.config.max_position_embeddings
    check_lengths(problems, tokenizer, context, limit, paths.problems)
    check_lengths(validation, tokenizer, context, limit, paths.validation)
    engine = make_engine(
        "torch",
        policy.to(local_device(config)),
        tokenizer,
        folder="",
        dtype=config.compute.dtype,
        max_batch=config.rollout.max_batch,
        seed=config.seed,
        stop_tokens=config.rollout.stop_tokens,
    )
    validate = make_validation(
        validation, engine, tokenizer, reward, config.validation, config.rollout, config.seed
    )
    tracker = Tracker(paths.output, config.run, from_json(TrackingConfig, paths.tracking))
    log = TrackedLog(paths.output / "checkpoint", tracker)
    progress = Progress(paths.output / "progress.json", config.run, config.train.steps)
    actors = Actors(policy, reference, engine, tokenizer, reward, validate)
    SspoTrainer(config, actors, problems, log, progress).train()
    if rank != 0:
        return
    refuse_non_finite(policy, config.run)
    save_policy(policy, tokenizer, paths.output / "model", config.compute.dtype)
    log.publish(paths.output)
    results = [paths.output / name for name in ("metrics.jsonl", "rollouts.jsonl.gz")]
    write_record(
        paths.output / "provenance.json",
        __file__,
        inputs=[paths.config, *paths.base.iterdir(), paths.problems, paths.validation],
        outputs=[*(paths.output / "model").iterdir(), *results],
        seeds=[config.seed],
        trainer="trl",
        processes=processes,
    )
    shutil.rmtree(log.folder)


if __name__ == "__main__":
    run(main)
