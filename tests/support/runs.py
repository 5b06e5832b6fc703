"""A run on the chain task small enough for a test: its configuration, its actors and what it wrote."""

import copy
import json

import torch

from sspo.config.rollout import RolloutConfig
from sspo.config.run import RunConfig
from sspo.config.settings import (
    AdvantageConfig,
    ComputeConfig,
    LoraConfig,
    ModelConfig,
    ObjectiveConfig,
    RewardConfig,
    TrainConfig,
    ValidationConfig,
)
from sspo.data.tasks import CHARACTERS, SplitSpec, TraceStyle, make_splits
from sspo.models.policy import build_model
from sspo.models.tokenizer import character_tokenizer
from sspo.rewards.base import Reward
from sspo.rollout.torch_engine import TorchEngine
from sspo.training.checkpoint import CheckpointStore
from sspo.training.metrics import RunLog, UpdateStats
from sspo.training.minibatches import split_rollout
from sspo.training.trainer import collect_rollout, train
from sspo.training.update import Actors, Scorer, accumulate_gradient
from support.loss_cases import MASPO, VESPO

PARAMS = {
    "grpo": {"clip_low": 0.2, "clip_high": 0.2},
    "dr_grpo": {"clip_low": 0.2, "clip_high": 0.2, "max_response_tokens": 12},
    "dapo": {"clip_low": 0.2, "clip_high": 0.28},
    "cispo": {"clip_high": 0.28},
    "gspo": {"clip_low": 3e-4, "clip_high": 4e-4},
    "gmpo": {"clip": 0.4},
    "sapo": {"tau_pos": 1.0, "tau_neg": 1.05},
    "sspo": {"gate": "sigmoid", "tau_pos": 1.0, "tau_neg": 1.0},
    "vespo": VESPO,
    "luspo": {"clip_low": 2e-3, "clip_high": 2.5e-3},
    "maspo": MASPO,
    "dgpo": {"clip_low": 0.2, "clip_high": 0.2, "n": 1.0, "m": 2.0},
}


SEQUENCE_MEAN = ("grpo", "gspo", "gmpo", "sapo", "sspo")


TOKENIZER = character_tokenizer(CHARACTERS)


PROBLEMS = make_splits(
    "chain",
    {"train": SplitSpec(size=16, min_operations=2, max_operations=4)},
    TraceStyle(careful_author=0.1, careful_step=0.2, slip=0.5, noise=0.0),
    0,
)["train"]


def mixed_reward(answer, completion):
    """Some of a random policy's responses are right, so that advantages are not all zero."""
    return Reward(float(sum(completion.token_ids) % 3 == 0), "correct")


def run_config(objective="sspo", **changes):
    settings = {
        "steps": 3,
        "updates_per_rollout": 2,
        "learning_rate": 1e-3,
        "warmup_updates": 0,
        "betas": (0.9, 0.99),
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "kl_coefficient": 0.0,
        "micro_batch": 4,
        "micro_batch_tokens": 0,
        "gradient_checkpointing": False,
        "chunk_tokens": 4096,
        "eval_every": 2,
        "kl_every": 1,
        "checkpoint_every": 1,
        "keep_rollouts": 2,
    }
    seed, dtype = changes.pop("seed", 0), changes.pop("dtype", "float32")
    correction, rank = changes.pop("correction", "none"), changes.pop("rank", 0)
    old_logprobs = changes.pop("old_logprobs", "policy")
    weights_dtype, lag = changes.pop("weights_dtype", "float32"), changes.pop("lag", 0)
    return RunConfig(
        run=f"{objective}-s{seed}",
        method=objective,
        regime="main",
        base="base",
        seed=seed,
        tuned="nothing",
        trainer="native",
        objective=ObjectiveConfig(name=objective, params=PARAMS[objective]),
        advantages=AdvantageConfig(normalize_std=True),
        rollout=RolloutConfig(
            engine="torch",
            prompts_per_step=4,
            group_size=4,
            temperature=1.0,
            max_response_tokens=12,
            max_batch=64,
            stop_tokens=(),
            vllm_memory=0.3,
            lag=lag,
            weights_dtype=weights_dtype,
            old_logprobs=old_logprobs,
            correction=correction,
            correction_cap=1.5,
        ),
        train=TrainConfig(**{**settings, **changes}),
        lora=LoraConfig(rank=rank, alpha=8.0),
        validation=ValidationConfig(problems=4, samples=1),
        reward=RewardConfig(name="exact", time_limit=5.0, memory_mb=1024, max_characters=1000),
        compute=ComputeConfig(device="cpu", dtype=dtype, threads=1),
    )


def make_actors(reward=mixed_reward, weights_dtype="float32"):
    """A policy with sharper logits than at initialisation, its reference and its engine."""
    sizes = ModelConfig(hidden_size=32, layers=2, heads=1, mlp_size=64, context=64)
    policy, reference = (build_model(sizes, len(TOKENIZER), seed=0) for _ in range(2))
    for model in (policy, reference):
        model.get_input_embeddings().weight.data.mul_(4.0)
    engine = TorchEngine(policy, TOKENIZER, shares_policy=True)
    if weights_dtype != "float32":
        engine = TorchEngine(copy.deepcopy(policy), TOKENIZER, weights_dtype=weights_dtype)
    return Actors(policy, reference, engine, TOKENIZER, reward, lambda: {"greedy": 0.0})


def run_training(folder, config, actors=None):
    actors = actors or make_actors()
    train(config, actors, PROBLEMS, CheckpointStore(folder, "f"), RunLog(folder))
    return actors


def read_metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(actors):
    return torch.cat([p.detach().flatten() for p in actors.policy.parameters()])


def gradient_of(config, actors):
    """The gradient of the first minibatch, the loss's value and its statistics."""
    rollout = collect_rollout(config, actors, PROBLEMS[:4], step=1)
    minibatches = split_rollout(config, rollout, actors.policy.device)
    stats = UpdateStats()
    loss = accumulate_gradient(
        config, Scorer(config, actors.policy, actors.reference), minibatches[0], stats
    )
    return torch.cat([p.grad.flatten() for p in actors.policy.parameters()]), loss, stats.summary()
