"""Save an update that met NaN or infinity, compute it again, and find the first bad token.

The saved folder holds the policy before the update (a Hugging Face checkpoint), the minibatch
(safetensors) and ``failure.json``. Nothing in it is executable.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from sspo.config.errors import ConfigError
from sspo.config.reading import JsonDict, load_json, parse, plain
from sspo.config.run import RunConfig
from sspo.models.policy import ScoreBatch, load_policy, save_model
from sspo.models.weights import merge_adapters
from sspo.objectives.advantages import mask_off_policy
from sspo.objectives.losses import LOSSES
from sspo.pipeline.files import write_json
from sspo.training.metrics import UpdateStats
from sspo.training.minibatches import MicroBatch
from sspo.training.update import PoisonedUpdateError, Scorer, accumulate_gradient

BATCH, FAILURE, MODEL = "batch.safetensors", "failure.json", "model"
SCORED = ("input_ids", "starts", "response_ids", "mask")
OPTIONAL = ("old_logprobs", "reference_logprobs")


@dataclass(frozen=True)
class Finding:
    """The first quantity of a response that is not finite."""

    row: int  # the response's place in the rollout
    problem: str  # id
    stage: str  # name of the quantity
    token: int | None  # the response token it belongs to, from 0; None for the whole response


@dataclass(frozen=True)
class Replay:
    """The update computed again; ``findings`` has an entry for each response that is not finite."""

    failure: JsonDict  # what failure.json holds
    loss: float
    grad_norm: float
    findings: list[Finding]


def save_failure(
    folder: str | Path,
    error: PoisonedUpdateError,
    config: RunConfig,
    policy: PreTrainedModel,
    tokenizer,
) -> None:
    """Save policy, minibatch and circumstances of a failed update; adapters of the policy are merged.

    The folder is written under another name and then renamed, so a crash leaves no half of it.
    """
    folder = Path(folder)
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    merge_adapters(policy)  # ``replay`` adds new ones, which start as no change
    save_model(policy, tokenizer, partial / MODEL)
    save_file(_flatten(error.minibatch), partial / BATCH)
    failure = {
        "run": config.run,
        "method": config.method,
        "step": error.step,
        "update": error.update,
        "found": error.found,
        "problems": error.problems,
        "config": plain(config),
    }
    write_json(partial / FAILURE, failure)
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(partial, folder)


def replay(folder: str | Path) -> Replay:
    """Compute a saved update again, without applying it.

    A policy with adapters was saved with them merged. Its replay has new adapters: the loss is the
    update's, the gradient norm is not.

    Raises:
        ConfigError: a file is missing or damaged.
    """
    folder = Path(folder)
    failure = load_json(folder / FAILURE)
    config = parse(RunConfig, failure["config"], f"{folder / FAILURE}: config.")
    policy = load_policy(folder / MODEL, config)
    try:
        minibatch = _unflatten(load_file(folder / BATCH, device=config.compute.device))
    except Exception as error:  # safetensors raises many types for damaged files
        raise ConfigError(f"{folder / BATCH}: cannot be read ({error}); run again") from None
    scorer, problems = Scorer(config, policy), failure["problems"]
    findings = [f for micro in minibatch for f in _trace(config, scorer, micro, problems)]
    loss = accumulate_gradient(config, scorer, minibatch, UpdateStats())
    norm = nn.utils.get_total_norm([p.grad for p in policy.parameters() if p.grad is not None])
    return Replay(failure, loss, float(norm), sorted(findings, key=lambda f: f.row))


def _trace(
    config: RunConfig, scorer: Scorer, micro: MicroBatch, problems: list[str]
) -> list[Finding]:
    """One finding for each response of the micro-batch that has a quantity which is not finite."""
    objective, batch = LOSSES[config.objective.name], micro.batch
    logprobs = scorer.score(micro).detach().requires_grad_()
    threshold, sampled = config.train.off_policy_threshold, micro.engine_logprobs
    advantages = mask_off_policy(micro.advantages, logprobs, sampled, batch.mask, threshold)
    findings = []
    for i, row in enumerate(micro.rows):
        one, old_logprobs = slice(i, i + 1), _row(micro.old_logprobs, i)
        loss, _ = objective(
            logprobs[one],
            old_logprobs.unsqueeze(0),
            advantages[one],
            batch.mask[one],
            **config.objective.params,
        )
        (gradient,) = torch.autograd.grad(loss, logprobs)
        stages = {  # in the order in which an update computes them
            "advantage": micro.advantages[one],
            "old log-probability": old_logprobs,
            "reference log-probability": _row(micro.reference_logprobs, i),
            "log-probability": logprobs[i],
            "loss": loss.view(1),
            "gradient": gradient[i],
        }
        for stage, values in stages.items():
            bad = (~torch.isfinite(values)).nonzero().flatten().tolist()
            if bad:
                token = None if stage in ("advantage", "loss") else bad[0]
                findings.append(Finding(row, problems[row], stage, token))
                break
    return findings


def _row(values: Tensor | None, row: int) -> Tensor:
    return torch.zeros(0) if values is None else values[row]


def _flatten(minibatch: list[MicroBatch]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for i, micro in enumerate(minibatch):
        named = {name: getattr(micro.batch, name) for name in SCORED}
        named |= {"advantages": micro.advantages, "engine_logprobs": micro.engine_logprobs}
        named |= {name: getattr(micro, name) for name in OPTIONAL}
        named["differentiate"] = torch.tensor(micro.differentiate)
        named["rows"] = torch.tensor(micro.rows)
        tensors |= {f"{i}.{k}": v.contiguous() for k, v in named.items() if v is not None}
    return tensors


def _unflatten(tensors: dict[str, Tensor]) -> list[MicroBatch]:
    count = 1 + max(int(name.split(".")[0]) for name in tensors)
    return [
        MicroBatch(
            ScoreBatch(*(tensors[f"{i}.{name}"] for name in SCORED)),
            tensors[f"{i}.advantages"],
            tensors[f"{i}.engine_logprobs"],
            bool(tensors[f"{i}.differentiate"]),
            tensors[f"{i}.rows"].tolist(),
            *(tensors.get(f"{i}.{name}") for name in OPTIONAL),
        )
        for i in range(count)
    ]
