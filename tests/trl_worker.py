"""One process of ``test_backends_trl.py``: trains every objective inside TRL and keeps its gradients."""

import dataclasses
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from test_trainer import PROBLEMS, make_actors, run_config
from torch.optim.optimizer import register_optimizer_step_pre_hook

from sspo.backends.trl import SspoTrainer, process_place
from sspo.losses import LOSSES
from sspo.metrics import RunLog

# A rate at which the second update of a rollout is far from on-policy; no clipping of gradients.
DRIFT = {"steps": 2, "learning_rate": 3e-3, "warmup_updates": 2, "max_grad_norm": 1e9}
VARIANTS = {name: (name, {}) for name in LOSSES} | {"kl": ("sspo", {"kl_coefficient": 0.5})}


def drifting_config(variant, micro_batch):
    """A run of two updates per rollout, sampled and scored at a temperature other than 1."""
    objective, changes = VARIANTS[variant]
    config = run_config(objective, micro_batch=micro_batch, **DRIFT, **changes)
    rollout = dataclasses.replace(config.rollout, temperature=0.8)
    return dataclasses.replace(config, rollout=rollout)


class Gradients:
    """The whole gradient at every optimizer step, whoever takes it."""

    def __enter__(self):
        self.kept = {}
        self.handle = register_optimizer_step_pre_hook(self._keep)
        return self

    def __exit__(self, *_):
        self.handle.remove()

    def _keep(self, optimizer, *_):
        grads = [p.grad.flatten() for group in optimizer.param_groups for p in group["params"]]
        self.kept[f"update-{len(self.kept)}"] = torch.cat(grads).clone()


def main(folder, micro_batch, processes):
    torch.set_num_threads(1)
    for variant in VARIANTS:
        log, actors = RunLog(folder / variant), make_actors()
        trainer = SspoTrainer(drifting_config(variant, micro_batch), actors, PROBLEMS, log)
        assert trainer.accelerator.num_processes == processes
        with Gradients() as gradients:
            trainer.train()
        if process_place()[0] == 0:
            save_file(gradients.kept, folder / variant / "gradients.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
