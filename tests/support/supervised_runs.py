"""A supervised run of a few updates."""

from pathlib import Path

from sspo.config.rollout import SamplingConfig
from sspo.config.run import ControlConfig
from sspo.config.settings import ComputeConfig, RewardConfig, SupervisedConfig, ValidationConfig
from sspo.training.supervised import run_supervised

PROBLEMS = [
    {"id": "a", "prompt": "1+2=", "answer": "3"},
    {"id": "b", "prompt": "1+2+3+4+5+6=", "answer": "21"},
]


def supervised_config(steps):
    supervised = SupervisedConfig(
        steps=steps,
        batch_size=2,
        micro_batch=2,
        learning_rate=1e-3,
        schedule="constant",
        warmup_steps=0,
        betas=(0.9, 0.99),
        weight_decay=0.0,
        max_grad_norm=1.0,
        log_every=2,
        eval_every=2,
    )
    return ControlConfig(
        run="supervised-s0",
        method="supervised",
        regime="main",
        base="base",
        seed=0,
        supervised=supervised,
        updates_per_step=2,
        sampling=SamplingConfig(
            temperature=1.0, max_response_tokens=8, max_batch=64, stop_tokens=()
        ),
        reward=RewardConfig(name="exact", time_limit=5.0, memory_mb=1024, max_characters=1000),
        validation=ValidationConfig(problems=2, samples=1),
        compute=ComputeConfig(device="cpu", dtype="float32", threads=1),
    )


def train_supervised_run(
    model, tokenizer, output, records, tracker=lambda step, record: None, config=None
):
    """Four updates, reported as two steps, on the given worked solutions."""
    run_supervised(
        model,
        tokenizer,
        records,
        PROBLEMS,
        config or supervised_config(4),
        "supervised-s0",
        output,
        validation_file=Path("validation.jsonl"),
        tracker=tracker,
        updates_per_step=2,
    )
