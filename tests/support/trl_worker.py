"""One process of ``tests/backends/test_trl_run.py``.

Trains every objective inside TRL and keeps the gradients; or, given ``run``, is a script whose
parameters or gradients are sharded.
"""

import dataclasses
import os
import runpy
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from sspo.backends.launch import process_place
from sspo.backends.trl_run import RunTrainer
from sspo.objectives.losses import LOSSES
from sspo.training.metrics import RunLog
from support.runs import PROBLEMS, make_actors, run_config

# A rate at which the second update of a rollout is far from on-policy; no clipping of gradients.
DRIFT = {"steps": 2, "learning_rate": 3e-3, "warmup_updates": 2, "max_grad_norm": 1e9}
VARIANTS = {name: (name, {}) for name in LOSSES} | {
    "kl": ("sspo", {"kl_coefficient": 0.5}),
    "checkpointed": ("sspo", {"gradient_checkpointing": True}),
    "bfloat16": ("sspo", {"dtype": "bfloat16"}),
    "mismatched": ("sspo", {"correction": "sequence"}),
    "old_logprobs": ("sspo", {"old_logprobs": "engine"}),
    "off_policy_mask": ("grpo", {"off_policy_threshold": 0.01}),
}


def drifting_config(variant, micro_batch):
    """A run of two updates per rollout, sampled and scored at a temperature other than 1."""
    objective, changes = VARIANTS[variant]
    config = run_config(objective, micro_batch=micro_batch, **DRIFT, **changes)
    return config.changed(rollout={"temperature": 0.8})


def drifting_actors(variant):
    """An engine with weights of its own: bfloat16 in training must not change what is sampled here."""
    actors = make_actors()
    actors.engine.own_model()
    if variant in ("mismatched", "old_logprobs"):
        sample = actors.engine.generate
        actors.engine.generate = lambda *request: [
            dataclasses.replace(c, logprobs=[1.02 * x for x in c.logprobs])
            for c in sample(*request)
        ]
    return actors


class Gradients:
    """The whole gradient at every optimizer step, whoever takes it."""

    def __enter__(self):
        self.kept = {}
        self.handle = register_optimizer_step_pre_hook(self._keep)
        return self

    def __exit__(self, *_):
        self.handle.remove()

    def _keep(self, optimizer, *_):
        grads = [p.grad for group in optimizer.param_groups for p in group["params"]]
        whole = [g.full_tensor() if isinstance(g, DTensor) else g for g in grads]
        self.kept[f"update-{len(self.kept)}"] = torch.cat([g.flatten() for g in whole]).clone()


def shard_on_cpu():
    """Let accelerate shard here (FSDP2, DeepSpeed), which it offers for accelerators alone."""
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        from deepspeed import comm

        comm.init_distributed("gloo", auto_mpi_discovery=False)
        del os.environ["ACCELERATE_USE_CPU"]
    else:
        torch.distributed.init_process_group("gloo")
    PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_XPU)
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"


def main(folder, micro_batch, processes, sharded):
    torch.set_num_threads(1)
    if sharded:
        shard_on_cpu()
    for variant in VARIANTS:
        log, actors = RunLog(folder / variant), drifting_actors(variant)
        trainer = RunTrainer(drifting_config(variant, micro_batch), actors, PROBLEMS, log)
        assert trainer.accelerator.num_processes == processes
        with Gradients() as gradients:
            trainer.train()
        shards = [p for p in actors.policy.parameters() if isinstance(p, DTensor)]
        assert bool(sharded) == bool(shards)
        if process_place()[0] == 0:
            save_file(gradients.kept, folder / variant / "gradients.safetensors")


if __name__ == "__main__":
    if sys.argv[1] == "run":
        shard_on_cpu()
        sys.argv = sys.argv[2:]
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
