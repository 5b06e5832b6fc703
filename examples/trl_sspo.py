"""SSPO in a script for TRL's GRPOTrainer, of which one line changes: the import marked below.

    python examples/trl_sspo.py Qwen/Qwen2.5-0.5B-Instruct

The argument is a model of the Hugging Face hub, or a folder that save_pretrained wrote.
"""

import sys

import torch
from datasets import Dataset
from trl import GRPOConfig

from sspo.backends.trl import SSPOTrainer as GRPOTrainer  # it was: from trl import GRPOTrainer


def right(completions, answer, **_):
    """1 for a completion that begins with the answer."""
    return [float(c.strip().startswith(a)) for c, a in zip(completions, answer, strict=True)]


pairs = [(a, b) for a in range(10) for b in range(10)]
sums = [{"prompt": f"{a}+{b}=", "answer": str(a + b)} for a, b in pairs]
trainer = GRPOTrainer(
    model=sys.argv[1],
    reward_funcs=right,
    args=GRPOConfig(
        output_dir="results/trl_sspo",
        per_device_train_batch_size=16,
        num_generations=8,
        steps_per_generation=4,  # 4 updates per rollout, so that ratios differ from 1
        max_completion_length=16,
        max_steps=16,
        learning_rate=1e-5,
        bf16=torch.cuda.is_available(),
        logging_steps=1,
        save_strategy="no",
        report_to="none",
    ),
    train_dataset=Dataset.from_list(sums),
    # Another objective: objective="maspo", params={"sigma": 1.0, "alpha": 0.3, ...}
)
trainer.train()
