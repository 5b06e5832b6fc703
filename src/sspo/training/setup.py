"""What a run trains with, loaded from its files: problems, models, engine, reward and validation."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from sspo.config.settings import RunConfig
from sspo.data.problems import Record, check_lengths, read_problems
from sspo.models.policy import load_policy, load_reference, load_tokenizer
from sspo.rewards.base import RewardFunction, check_golds
from sspo.rewards.factory import make_reward
from sspo.rollout.factory import make_engine
from sspo.training.update import Actors
from sspo.training.validation import make_validation


def load_actors(
    config: RunConfig, folder: str | Path, reward: RewardFunction, scratch: Path | None = None
) -> Actors:
    """Policy, reference, tokenizer and engine from a checkpoint; validation measures nothing yet.

    ``scratch`` is a folder for an engine that shares weights with a server (``make_engine``).

    Raises:
        ConfigError: a checkpoint, an engine or a server that cannot be used.
    """
    tokenizer = load_tokenizer(folder)
    policy = load_policy(folder, config)
    engine = make_engine(
        config.rollout.engine,
        policy,
        tokenizer,
        folder=folder,
        dtype=config.compute.dtype,
        sampling=config.rollout,
        seed=config.seed,
        vllm_memory=config.rollout.vllm_memory,
        scratch=scratch,
    )
    return Actors(policy, load_reference(folder, config), engine, tokenizer, reward, dict)


def open_run(
    config: RunConfig, base: Path, problems_file: Path, validation_file: Path, scratch: Path
) -> tuple[list[Record], Actors]:
    """Training problems, and all that takes part in the run.

    Golds are checked before a model is loaded, as that takes longer.

    Args:
        config: the run.
        base: checkpoint to start from.
        problems_file: training problems.
        validation_file: validation problems.
        scratch: a folder for the engine.

    Raises:
        ConfigError: as ``load_actors``; a gold answer that does not verify against itself; a prompt
            that leaves no room for a response.
    """
    reward = make_reward(config.reward)
    problems, validation = read_problems(problems_file), read_problems(validation_file)
    files = {problems_file: problems, validation_file: validation}
    for file, records in files.items():
        check_golds(records, reward, file)
    actors = load_actors(config, base, reward, scratch)
    context = actors.policy.config.max_position_embeddings
    for file, records in files.items():
        limit = config.rollout.max_response_tokens
        check_lengths(records, actors.tokenizer, context, limit, file)
    validate = make_validation(
        validation,
        actors.engine,
        actors.tokenizer,
        reward,
        config.validation,
        config.rollout,
        config.seed,
    )
    return problems, dataclasses.replace(actors, validate=validate)
