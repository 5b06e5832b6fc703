"""The native loop inside TRL's GRPOTrainer (TRL 1.16), for as many processes as are launched.

TRL and the Trainer below it bring what many processes need: the distributed model, the optimizer, and
log-probabilities from a fused language-model head. Rollouts, rewards, advantages, losses and statistics
are the native trainer's own functions, so that a run means the same in both. The differences are:

1) Every process samples and rewards its own share of the prompts, which has whole groups of every
   update. It has an engine of its own, or shares a vLLM server with the others. Where parameters
   are sharded (FSDP2), engines get the whole weights.
2) Micro-batches are equal parts of that share, and all of them are differentiated.
3) A gradient that is not finite stops the run without a ``failure/`` folder.
4) An interrupted run starts over.

A micro-batch's loss is weighted by its share of the whole update, times the number of processes. The
factor is there because the gradients of processes are averaged. The Trainer adds no factor of its own: it
does not divide by the accumulation steps (TRL's ``loss_is_scaled_for_ga``), and it does not know how many
tokens other processes hold. So the sum is the gradient of the whole update.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from sspo.backends.launch import check_launch, process_place, shards_are_asked_for
from sspo.config.errors import ConfigError
from sspo.config.run import RunConfig
from sspo.data.batching import batches, distinct
from sspo.data.problems import Record
from sspo.models.policy import ScoreBatch
from sspo.objectives.losses import LOSSES, check_objective
from sspo.rollout.torch_engine import TorchEngine
from sspo.training.errors import TrainingError
from sspo.training.metrics import Metrics, RunLog, UpdateStats
from sspo.training.minibatches import MicroBatch, Rollout, micro_batch
from sspo.training.optim import learning_rate_at
from sspo.training.trainer import collect_rollout, kept_rollouts, rollout_metrics
from sspo.training.update import (
    Actors,
    Scorer,
    kl_reference,
    response_gradient,
    update_metrics,
)


def micro_batch_size(config: RunConfig, processes: int) -> int:
    """Responses per micro-batch: the largest equal part, up to ``train.micro_batch``, of a process's share.

    Raises:
        ConfigError: the prompts cannot be shared out in whole groups.
    """
    prompts, updates = config.rollout.prompts_per_step, config.train.updates_per_rollout
    if prompts % (updates * processes):
        raise ConfigError(
            f"rollout.prompts_per_step = {prompts} is not divisible by train.updates_per_rollout = "
            f"{updates} times {processes} processes; change one so that all get whole groups"
        )
    share = prompts // (updates * processes) * config.rollout.group_size
    return max(n for n in range(1, min(share, config.train.micro_batch) + 1) if share % n == 0)


def schedule(config: RunConfig, problems: Sequence[Record], processes: int) -> list[Record]:
    """The prompts of the whole run, in the order in which TRL deals them out.

    The prompts of a rollout are those of the native trainer. TRL gives each process one contiguous
    stretch of them, so a stretch is put together from equal parts of every update. Then an update has
    the same prompts as in the native trainer, whatever the number of processes.
    """
    size, updates = config.rollout.prompts_per_step, config.train.updates_per_rollout
    order = batches(len(problems), size, config.seed)
    rows = []
    for _ in range(config.train.steps):
        chosen = distinct([problems[i] for i in next(order)])
        parts = torch.arange(size).view(updates, processes, -1).transpose(0, 1)
        rows += [chosen[i] for i in parts.flatten().tolist()]
    keys = ("id", "prompt", "answer", "gold")
    return [{key: str(row[key]) for key in keys if key in row} for row in rows]


def make_arguments(config: RunConfig, output: Path, processes: int) -> GRPOConfig:
    """TRL's arguments for a run: batch sizes and optimizer. TRL itself samples nothing."""
    train, group = config.train, config.rollout.group_size
    size = micro_batch_size(config, processes)
    per_process = config.rollout.prompts_per_step * group // processes
    return GRPOConfig(
        output_dir=str(output),
        per_device_train_batch_size=size,
        gradient_accumulation_steps=per_process // train.updates_per_rollout // size,
        steps_per_generation=per_process // size,
        num_generations=group,
        max_completion_length=config.rollout.max_response_tokens,
        temperature=config.rollout.temperature,
        max_steps=train.steps * train.updates_per_rollout,
        shuffle_dataset=False,
        learning_rate=train.learning_rate,
        adam_beta1=train.betas[0],
        adam_beta2=train.betas[1],
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
        optim="adamw_torch_fused",
        beta=0.0,  # the native gradient has the KL term already
        disable_dropout=True,
        bf16=config.compute.dtype == "bfloat16",
        gradient_checkpointing=train.gradient_checkpointing,
        use_cpu=config.compute.device == "cpu",
        dataloader_pin_memory=False,
        seed=config.seed,
        disable_tqdm=True,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
    )


class FusedScorer(Scorer):
    """Scores through the distributed model, because its forward pass lets processes share gradients."""

    def _score_policy(self, batch: ScoreBatch) -> tuple[Tensor, Tensor]:
        """As ``sspo.models.policy.score``, with TRL's fused language-model head."""
        rows, columns = batch.mask.nonzero(as_tuple=True)
        places = batch.starts[rows] + columns
        labels = torch.full_like(batch.input_ids, -100)
        labels[rows, places] = batch.response_ids[rows, columns]
        found = self.policy(input_ids=batch.input_ids, labels=labels, fused_lm_head=True)
        zeros = torch.zeros_like(batch.mask, dtype=torch.float32)
        # The first token has no prediction, so TRL's columns begin with the second.
        values = (found.log_probs.float(), found.entropy.detach().float())
        logprobs, entropy = (
            zeros.index_put((rows, columns), value[rows, places - 1]) for value in values
        )
        return logprobs, entropy


@dataclass
class Share:
    """One process's part of a rollout and of its updates."""

    rollout: Rollout
    micros: list[MicroBatch]  # all of them, update by update
    scorer: Scorer
    units: list[float]  # of every update: sequences or tokens of all processes
    losses: list[float]  # of every update: this process's part
    norms: list[float] = field(
        default_factory=list
    )  # of every update so far, in all processes alike
    stats: UpdateStats = field(default_factory=UpdateStats)


class RunTrainer(GRPOTrainer):
    """GRPOTrainer with the native rollouts, losses and records.

    Overrides the methods that sample (``_prepare_inputs``), compute the loss (``_compute_loss``), make
    the learning-rate schedule and report the gradient norm.
    """

    def __init__(
        self,
        config: RunConfig,
        actors: Actors,
        problems: Sequence[Record],
        log: RunLog,
        progress: Callable[[int, Metrics, float], None] = lambda step, record, seconds: None,
    ) -> None:
        """Take the arguments of ``sspo.training.trainer.train``, with actors of this process's own.

        The first process alone writes to ``log`` and calls ``progress``.

        Raises:
            ValueError: the objective or its parameters cannot run.
            ConfigError: this trainer does not support the launch or the batch sizes.
        """
        check_objective(config.objective.name, config.objective.params)
        _, processes = process_place()
        if shards_are_asked_for() and isinstance(actors.engine, TorchEngine):
            # Before TRL replaces the model's forward pass, which a later copy would share.
            actors.engine.own_model()
        super().__init__(
            model=actors.policy,
            reward_funcs=actors.reward,  # TRL requires one but never calls it
            args=make_arguments(config, log.folder, processes),
            train_dataset=Dataset.from_list(schedule(config, problems, processes)),
            processing_class=actors.tokenizer,
            callbacks=[StepEnd(self)],
        )
        check_launch(self.accelerator.state, config)
        self.run, self.actors, self.run_log, self.progress = config, actors, log, progress
        self.objective = LOSSES[config.objective.name]
        self.share: Share  # of the current rollout; set by the first one
        self.sampled_tokens, self.began = 0, 0.0

    def begin(self) -> None:
        """Validate the policy before training and write the record of step 0."""
        validation = self._validate()
        if self.accelerator.is_main_process:
            self.run_log.rewind(None)
            self.run_log.write("metrics", [{"step": 0, "sampled_tokens": 0, **validation}])
        self.began = time.perf_counter()

    def end_update(self) -> None:
        """After the last update of a step, write its record."""
        settings = self.run.train
        step, left = divmod(self.state.global_step, settings.updates_per_rollout)
        if left:
            return
        record = self._step_record(step)
        if step % settings.eval_every == 0 or step == settings.steps:
            record |= self._validate()
        if not self.accelerator.is_main_process:
            return
        self.run_log.write("metrics", [record])
        kept = kept_rollouts(self.share.rollout, step, settings.keep_rollouts)
        self.run_log.write("rollouts", kept)
        now = time.perf_counter()
        self.progress(step, record, now - self.began)
        self.began = now

    def create_scheduler(self, num_training_steps, optimizer=None):
        """Use the native schedule, whose first update has a learning rate above 0."""
        warmup = self.run.train.warmup_updates
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer or self.optimizer, lambda update: learning_rate_at(update, 1.0, warmup)
        )
        return self.lr_scheduler

    def _prepare_inputs(self, generation_batch: list[Record]) -> MicroBatch:
        """The next micro-batch; samples a new rollout once the last one is used up."""
        place = self._step % self.args.steps_per_generation
        if place == 0:
            self.share = self._collect(generation_batch[:: self.num_generations])
        return self.share.micros[place]

    def _collect(self, problems: list[Record]) -> Share:
        """Sample responses to this process's prompts; score ahead what later updates need."""
        config, device = self.run, self.accelerator.device
        step = self.state.global_step // config.train.updates_per_rollout + 1
        rollout = collect_rollout(config, self.actors, problems, step)
        size, count = self.args.per_device_train_batch_size, len(rollout.completions)
        rows = [list(range(first, first + size)) for first in range(0, count, size)]
        micros = [micro_batch(rollout, chosen, True, device) for chosen in rows]
        scorer = FusedScorer(config, self.model_wrapped, kl_reference(config, self.actors, step))
        per_update = self.args.gradient_accumulation_steps
        for micro in micros[per_update:]:
            scorer.score_ahead(micro)
        counts = [self.objective.units(m.batch.mask) for m in micros]
        units = torch.tensor(counts, dtype=torch.float64, device=device)
        totals = self.accelerator.reduce(units.view(-1, per_update).sum(dim=1), reduction="sum")
        return Share(rollout, micros, scorer, totals.tolist(), [0.0] * len(totals))

    def _compute_loss(self, model, inputs: MicroBatch) -> Tensor:
        """A loss whose gradients, averaged over processes, add up to the gradient of the update."""
        share, config = self.share, self.run
        update = len(share.norms)
        rows = len(share.rollout.completions) * self.accelerator.num_processes // len(share.units)
        logprobs = share.scorer.score(inputs)
        weight = self.objective.units(inputs.batch.mask) / share.units[update]
        loss, grad = response_gradient(config, logprobs, inputs, weight, rows, share.stats)
        share.losses[update] += loss
        return (logprobs * grad).sum() * self.accelerator.num_processes

    def _get_grad_norm(self, model, grad_norm=None):
        """Keep the gradient norm before clipping.

        Raises:
            TrainingError: the norm is NaN or infinite; the optimizer has not stepped yet.
        """
        norm = super()._get_grad_norm(model, grad_norm)
        if not math.isfinite(norm):
            step, update = divmod(self.state.global_step, self.run.train.updates_per_rollout)
            raise TrainingError(
                f"{self.run.run}: step {step + 1}, update {update + 1}: gradient norm {float(norm)}; "
                "nothing was updated"
            )
        self.share.norms.append(float(norm))
        return norm

    def _step_record(self, step: int) -> Metrics:
        """The record of a step, pooled over all processes."""
        share, settings = self.share, self.run.train
        tokens = sum(len(c.token_ids) for c in share.rollout.completions)
        part = (tokens, rollout_metrics(share.rollout), share.losses, share.stats)
        counts, metrics, losses, stats = zip(*gather_object([part]), strict=True)
        self._pool_scores(share.scorer)
        pooled = UpdateStats([part for one in stats for part in one.parts])
        self.sampled_tokens += sum(counts)
        record: Metrics = {"step": step, "sampled_tokens": self.sampled_tokens}
        # Shares are of equal size, so the mean of their means is the mean over all responses.
        record |= {key: sum(m[key] for m in metrics) / len(metrics) for key in metrics[0]}
        totals = [sum(parts) for parts in zip(*losses, strict=True)]
        update = self.state.global_step - 1
        rate = learning_rate_at(update, settings.learning_rate, settings.warmup_updates)
        return record | update_metrics(share.scorer, totals, share.norms, rate, pooled)

    def _pool_scores(self, scorer: Scorer) -> None:
        """Add up what the scorers of all processes measured."""
        device = self.accelerator.device
        sums = ("tokens", "entropy", "gap", "kl_tokens", "kl")
        parts = torch.tensor([getattr(scorer, s) for s in sums], dtype=torch.float64, device=device)
        for name, total in zip(sums, self.accelerator.reduce(parts).tolist(), strict=True):
            setattr(scorer, name, total)
        largest = torch.tensor([scorer.largest_gap], device=device)
        scorer.largest_gap = self.accelerator.gather(largest).max().item()

    def _validate(self) -> Metrics:
        """The first process measures, and all of them give it their part of the weights."""
        self.actors.sync_engine()
        return self.actors.validate() if self.accelerator.is_main_process else {}


class StepEnd(TrainerCallback):
    """Tells the trainer when training begins and when an update is done."""

    def __init__(self, trainer: RunTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, *_, **__) -> None:
        self.trainer.begin()

    def on_step_end(self, *_, **__) -> None:
        self.trainer.end_update()
