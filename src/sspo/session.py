"""What training scripts set up alike: model, tokenizer, engine, validation, progress file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from transformers import PreTrainedModel

from sspo.checkpoint import refuse_non_finite
from sspo.config import (
    ConfigError,
    ControlConfig,
    PretrainConfig,
    SamplingConfig,
    ValidationConfig,
)
from sspo.datasets import Record, write_jsonl
from sspo.evaluation import evaluate_problems, summarize
from sspo.files import write_json
from sspo.metrics import Metrics
from sspo.policy import save_model
from sspo.rewards import RewardFunction, check_golds, make_reward
from sspo.rollout import RolloutEngine, make_engine
from sspo.supervised import encode_solutions, train_supervised


def check_lengths(
    problems: Sequence[Record],
    tokenizer,
    context: int,
    max_response_tokens: int,
    path: Path,
) -> None:
    """Refuse problems whose prompt and longest response overflow the model's context (tokens).

    Raises:
        ConfigError: names the file, the problem and what to change.
    """
    prompts = tokenizer([str(p["prompt"]) for p in problems])["input_ids"]
    worst = max(range(len(prompts)), key=lambda i: len(prompts[i]))
    if len(prompts[worst]) + max_response_tokens > context:
        raise ConfigError(
            f"{path}: problem {problems[worst]['id']} has {len(prompts[worst])} prompt tokens; with "
            f"{max_response_tokens} of a response it exceeds the model's context of {context}; lower "
            "rollout.max_response_tokens or drop the problem"
        )


def make_validation(
    problems: Sequence[Record],
    engine: RolloutEngine,
    tokenizer,
    reward: RewardFunction,
    validation: ValidationConfig,
    sampling: SamplingConfig,
    seed: int,
) -> Callable[[], Metrics]:
    """A function that measures greedy and sampled pass@1 on the first validation problems.

    The random numbers are the same at every call, so that a change in accuracy is the policy's.
    """
    chosen = problems[: validation.problems]

    def validate() -> Metrics:
        records = evaluate_problems(
            chosen,
            engine,
            tokenizer,
            reward,
            samples=validation.samples,
            temperature=sampling.temperature,
            max_tokens=sampling.max_response_tokens,
            seed=seed,
        )
        summary = summarize(records, pass_at=(1,))
        return {"greedy": summary["greedy"], "pass@1": summary["pass@1"]}

    return validate


def run_supervised(
    model: PreTrainedModel,
    tokenizer,
    records: Sequence[Record],
    validation: Sequence[Record],
    config: PretrainConfig | ControlConfig,
    run: str,
    output: Path,
    *,
    validation_file: Path,
    tracker: Callable[[int, Metrics], None],
    updates_per_step: int = 1,
) -> None:
    """Train on worked solutions, then save ``model/`` and ``metrics.jsonl`` under ``output``.

    Args:
        model: trained in place.
        tokenizer: the model's.
        records: problems with a ``solution``.
        validation: validation problems.
        config: the warm-up or the control.
        run: name for the progress file.
        output: folder of the run.
        validation_file: where ``validation`` was read, for error messages.
        tracker: shown every record.
        updates_per_step: divides the update count in the records, to share an axis with RL steps.
    """
    reward = make_reward(config.reward)
    check_golds(validation, reward, validation_file)
    limit = config.sampling.max_response_tokens
    context = model.config.max_position_embeddings
    check_lengths(validation, tokenizer, context, limit, validation_file)
    engine = make_engine(
        "torch",
        model,
        tokenizer,
        folder="",
        dtype=config.compute.dtype,
        sampling=config.sampling,
        seed=config.seed,
    )
    measure = make_validation(
        validation, engine, tokenizer, reward, config.validation, config.sampling, config.seed
    )

    def validate() -> Metrics:
        engine.load_weights(model.state_dict())
        return measure()

    progress = Progress(output / "progress.json", run, config.supervised.steps // updates_per_step)
    metrics: list[Metrics] = [{"step": 0, **validate()}]
    tracker(0, metrics[0])
    began = time.perf_counter()

    def report(record: Metrics) -> None:
        nonlocal began
        step = record["step"] // updates_per_step
        now = time.perf_counter()
        metrics.append({**record, "step": step})
        tracker(step, record)
        progress(step, record, (now - began) / (step - metrics[-2]["step"]))
        began = now

    examples = encode_solutions(records, tokenizer)
    dtype = config.compute.dtype
    train_supervised(model, examples, config.supervised, config.seed, validate, report, dtype)
    refuse_non_finite(model, run)
    save_model(model, tokenizer, output / "model")
    write_jsonl(output / "metrics.jsonl", metrics)


class Progress:
    """Where a run stands, in ``progress.json`` for ``make status`` and as lines in the log."""

    def __init__(self, path: Path, run: str, steps: int) -> None:
        self.path, self.run, self.steps = path, run, steps
        self.seconds: list[float] = []

    def __call__(self, step: int, record: Metrics, seconds: float) -> None:
        """Report the end of a step that took ``seconds``."""
        self.seconds.append(seconds)
        recent = self.seconds[-20:]
        left = (self.steps - step) * sum(recent) / len(recent)
        state = {
            "run": self.run,
            "step": step,
            "steps": self.steps,
            "reward": record.get("reward"),
            "greedy": record.get("greedy"),
            "seconds_left": round(left, 1),
        }
        write_json(self.path, {k: v for k, v in state.items() if v is not None})
        shown = " ".join(
            f"{key} {record[key]:.3f}"
            for key in ("loss", "reward", "entropy", "grad_norm", "greedy", "pass@1")
            if record.get(key) is not None
        )
        print(f"{self.run} step {step}/{self.steps} {shown} | {left:.0f} s left", flush=True)
