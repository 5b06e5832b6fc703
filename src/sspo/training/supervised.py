"""Next-token training on worked solutions: the warm-up, and the supervised-only control."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from transformers import PreTrainedModel

from sspo.config.run import ControlConfig, PretrainConfig
from sspo.config.settings import SupervisedConfig
from sspo.data.batching import batches, micro_batches
from sspo.data.problems import Record, check_lengths, write_jsonl
from sspo.models.policy import ScoreBatch, save_model, score
from sspo.models.prompts import encode_continuations, encode_prompts
from sspo.rewards.base import check_golds
from sspo.rewards.factory import make_reward
from sspo.rollout.factory import make_torch_engine
from sspo.training.checkpoint import refuse_non_finite
from sspo.training.errors import NonFiniteError
from sspo.training.metrics import Metrics
from sspo.training.optim import apply_update, learning_rate_at, make_optimizer
from sspo.training.progress import Progress
from sspo.training.validation import make_validation


def encode_solutions(records: Sequence[Record], tokenizer) -> list[tuple[list[int], list[int]]]:
    """(prompt ids, solution ids and end token) of every record."""
    prompts = encode_prompts(tokenizer, [str(r["prompt"]) for r in records])
    solutions = encode_continuations(tokenizer, [str(r["solution"]) for r in records])
    eos = [tokenizer.eos_token_id]
    return [(p, s + eos) for p, s in zip(prompts, solutions, strict=True)]


def train_supervised(
    model: PreTrainedModel,
    examples: Sequence[tuple[list[int], list[int]]],
    config: SupervisedConfig,
    seed: int,
    validate: Callable[[], Metrics],
    report: Callable[[Metrics], None],
    dtype: str = "float32",
) -> None:
    """Minimise the mean negative log-likelihood (nats per token) of the solutions, in place.

    ``examples`` are (prompt ids, solution ids), in an order that ``seed`` decides; only solution tokens
    carry loss. ``report`` receives a record every ``log_every`` updates and after every validation.

    Raises:
        NonFiniteError: names the step; the update that failed changes no weight.
    """
    optimizer = make_optimizer(model, config.learning_rate, config.betas, config.weight_decay)
    order = batches(len(examples), config.batch_size, seed)
    for step in range(1, config.steps + 1):
        chosen = [examples[i] for i in next(order)]
        loss = _accumulate_gradient(model, chosen, config.micro_batch, dtype)
        rate = learning_rate_at(
            step - 1, config.learning_rate, config.warmup_steps, config.steps, config.schedule
        )
        try:
            norm = apply_update(model, optimizer, rate, config.max_grad_norm, loss)
        except NonFiniteError as error:
            raise NonFiniteError(
                f"supervised training, step {step}: {error}; lower supervised.learning_rate"
            ) from None
        validating = step == config.steps or (config.eval_every and step % config.eval_every == 0)
        if step % config.log_every == 0 or validating:
            record = {"step": step, "loss": loss, "grad_norm": norm, "learning_rate": rate}
            report(record | (validate() if validating else {}))


def _accumulate_gradient(
    model: PreTrainedModel,
    examples: Sequence[tuple[list[int], list[int]]],
    micro_batch: int,
    dtype: str,
) -> float:
    """Add the gradient of the mean loss per solution token; returns that loss in nats per token."""
    tokens = sum(len(solution) for _, solution in examples)
    total = 0.0
    for rows in micro_batches([len(p) + len(s) for p, s in examples], micro_batch):
        prompts, solutions = [examples[i][0] for i in rows], [examples[i][1] for i in rows]
        batch = ScoreBatch.collate(prompts, solutions, model.device)
        logprobs, _ = score(model, batch, dtype=dtype)
        loss = -logprobs.sum() / tokens
        loss.backward()
        total += loss.item()
    return total


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
        run: name for reports and error messages.
        output: folder of the run.
        validation_file: the file of ``validation``, for error messages.
        tracker: called with (step, record) for every record.
        updates_per_step: records count steps of this many updates, to share an axis with RL steps.

    Raises:
        ConfigError: a gold answer does not verify against itself, or a prompt leaves no room for a
            response.
        NonFiniteError: as ``train_supervised``.
    """
    reward = make_reward(config.reward)
    check_golds(validation, reward, validation_file)
    limit = config.sampling.max_response_tokens
    context = model.config.max_position_embeddings
    check_lengths(validation, tokenizer, context, limit, validation_file)
    engine = make_torch_engine(model, tokenizer, config.sampling, config.compute.dtype)
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
