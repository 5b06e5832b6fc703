"""Load what a run needs from its files: problems, models, engine, reward and validation."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from sspo.config.run import RunConfig
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
    """Policy, reference, tokenizer and engine from a checkpoint, with an empty validation.

    ``scratch`` is a folder for weights on their way to a server (``make_engine``).

    Raises:
        ConfigError: the checkpoint, the engine or the server cannot be used.
    """
    tokenizer = load_tokenizer(folder)
    policy = load_policy(folder, config)
    rollout = config.rollout
    engine = make_engine(
        rollout,
        rollout,
        config.compute,
        folder,
        tokenizer,
        policy,
        scratch,
        rollout.weights_dtype,
    )
    reference = load_reference(folder, config)
    return Actors(policy, reference, engine, tokenizer, reward, validate=dict)


def open_run(
    config: RunConfig, base: Path, problems_file: Path, validation_file: Path, scratch: Path
) -> tuple[list[Record], Actors]:
    """The training problems and the actors of a run.

    Gold answers are checked before the models are loaded, so that a bad one stops the run early.

    Raises:
        ConfigError: as ``load_actors``, or a gold answer does not verify against itself, or a prompt
            leaves no room for a response.
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
