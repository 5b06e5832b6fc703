"""Time the rollouts and updates of TRL's GRPOTrainer, in one process of the comparison with TRL."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import torch
from datasets import Dataset
from setting import Setting
from transformers import TrainerCallback
from transformers.utils import logging as transformers_logging
from trl import GRPOConfig, GRPOTrainer

from sspo.models.policy import load_model, load_tokenizer
from sspo.rewards.exact import exact_reward
from sspo.rollout.engine import Completion


def main(setting: Setting, threads: int, rollouts: int) -> None:
    config = setting.config
    torch.set_num_threads(threads)
    transformers_logging.set_verbosity_error()
    clock = Clock(config.train.updates_per_rollout)
    with tempfile.TemporaryDirectory() as output:
        trainer = make_trainer(setting, rollouts, output)
        trainer.add_callback(clock)
        trainer.train()
    count = config.rollout.prompts_per_step * config.rollout.group_size
    key = "completions/mean_length"
    tokens = [round(entry[key] * count) for entry in trainer.state.log_history if key in entry]
    print(json.dumps({"seconds": clock.seconds, "tokens": tokens}))


def make_trainer(setting: Setting, rollouts: int, output: str) -> GRPOTrainer:
    """TRL's GRPO with the model, prompts, batch sizes, optimizer and lengths of a native run."""
    config = setting.config
    group, updates = config.rollout.group_size, config.train.updates_per_rollout
    responses = config.rollout.prompts_per_step * group
    arguments = GRPOConfig(
        output_dir=output,
        per_device_train_batch_size=responses // updates,
        gradient_accumulation_steps=1,
        steps_per_generation=updates,
        num_generations=group,
        max_completion_length=config.rollout.max_response_tokens,
        max_steps=rollouts * updates,
        temperature=config.rollout.temperature,
        top_k=0,
        learning_rate=config.train.learning_rate,
        lr_scheduler_type="constant",
        adam_beta1=config.train.betas[0],
        adam_beta2=config.train.betas[1],
        max_grad_norm=config.train.max_grad_norm,
        optim="adamw_torch_fused",
        loss_type="grpo",
        epsilon=0.2,
        beta=0.0,
        scale_rewards="group",
        shuffle_dataset=False,
        use_cpu=config.compute.device == "cpu",
        bf16=config.compute.dtype == "bfloat16",
        gradient_checkpointing=False,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        logging_strategy="steps",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        seed=config.seed,
    )
    rows = [{"prompt": str(p["prompt"]), "answer": str(p["answer"])} for p in setting.problems]
    tokenizer = load_tokenizer(setting.model)
    tokenizer.padding_side = "left"
    return GRPOTrainer(
        load_model(setting.model),
        reward,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )


def reward(completions: list[str], answer: list[str], completion_ids, **_) -> list[float]:
    """The same reward as the native run's."""
    return [
        exact_reward(gold, Completion(list(ids), text, "stop", [])).value
        for gold, text, ids in zip(answer, completions, completion_ids, strict=True)
    ]


class Clock(TrainerCallback):
    """Measures the seconds of each rollout and its updates."""

    def __init__(self, updates: int) -> None:
        self.updates, self.seconds, self.last = updates, [], None

    def on_train_begin(self, *_, **__) -> None:
        self.last = time.perf_counter()

    def on_step_end(self, args, state, control, **_) -> None:
        if state.global_step % self.updates == 0:
            now = time.perf_counter()
            self.seconds.append(now - self.last)
            self.last = now


if __name__ == "__main__":
    main(Setting(Path(sys.argv[1]), sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
