"""Next-token training on worked solutions: the warm-up, and the supervised-only control."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transformers import PreTrainedModel

from sspo.config import SupervisedConfig
from sspo.datasets import Record, batches, micro_batches
from sspo.optim import NonFiniteError, apply_update, learning_rate_at, make_optimizer
from sspo.policy import ScoreBatch, score

Metrics = dict[str, object]


def encode_solutions(records: Sequence[Record], tokenizer) -> list[tuple[list[int], list[int]]]:
    """(prompt ids, solution ids with the end token) of every record."""
    prompts = tokenizer([str(r["prompt"]) for r in records])["input_ids"]
    solutions = tokenizer([str(r["solution"]) for r in records])["input_ids"]
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

    Args:
        model: the model to train.
        examples: (prompt ids, solution ids) pairs; only solution tokens carry loss.
        config: updates, batch size, schedule, optimizer.
        seed: order of the examples.
        validate: measures held-out accuracy.
        report: receives one record per ``log_every`` updates and per validation.
        dtype: what matrix products are computed in.

    Raises:
        NonFiniteError: names the step; no weight is changed by the update that failed.
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
    """Add the gradient of the mean loss per solution token; returns that loss in nats."""
    tokens = sum(len(solution) for _, solution in examples)
    total = 0.0
    for rows in micro_batches([len(p) + len(s) for p, s in examples], micro_batch):
        prompts, solutions = zip(*(examples[i] for i in rows), strict=True)
        batch = ScoreBatch.collate(prompts, solutions, model.device)
        logprobs, _ = score(model, batch, dtype=dtype)
        loss = -logprobs.sum() / tokens
        loss.backward()
        total += loss.item()
    return total
