"""Which rollout engine a configuration asks for; each is imported when it is."""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from sspo.config.settings import SamplingConfig
from sspo.rollout.engine import RolloutEngine


def make_engine(
    name: str,
    model,
    tokenizer,
    *,
    folder: str | Path,
    dtype: str,
    sampling: SamplingConfig,
    seed: int,
    vllm_memory: float = 0.3,
    scratch: Path | None = None,
) -> RolloutEngine:
    """The engine called ``name`` ("torch", "vllm" or "vllm_server"), sampling from ``model``.

    Args:
        name: engine.
        model: the live policy; the torch engine samples from it directly where it has ``dtype``.
        tokenizer: the model's tokenizer.
        folder: the checkpoint vLLM builds its own copy from, or its server has built it from.
        dtype: of the weights that are sampled from, "float32" or "bfloat16".
        sampling: tokens that end a response, and responses sampled at once (torch engine).
        seed: engine seed (vLLM); samples carry their own.
        vllm_memory: share of the GPU's memory that vLLM takes.
        scratch: a folder for weights on their way to the server, removed when the engine is closed.

    Raises:
        ValueError: unknown name.
        ConfigError: vLLM asked for and not installed, or no server that can be used; an end token that
            the tokenizer does not know.
    """
    if name == "torch":
        from sspo.rollout.torch_engine import TorchEngine

        shares = str(model.dtype) == f"torch.{dtype}"
        if not shares:
            model = copy.deepcopy(model)
            # Parameters alone: position frequencies stay float32, as in a model loaded in ``dtype``.
            for parameter in model.parameters():
                parameter.data = parameter.data.to(getattr(torch, dtype))
        return TorchEngine(
            model,
            tokenizer,
            max_batch=sampling.max_batch,
            shares_policy=shares,
            stop_tokens=sampling.stop_tokens,
        )
    if name == "vllm":
        from sspo.rollout.vllm_engine import VllmEngine

        return VllmEngine(
            folder,
            tokenizer,
            seed=seed,
            dtype=dtype,
            gpu_memory_fraction=vllm_memory,
            stop_tokens=sampling.stop_tokens,
        )
    if name == "vllm_server":
        from sspo.rollout.vllm_server import VllmServerEngine

        if scratch is None:
            raise ValueError("an engine that shares weights with a server needs a scratch folder")

        return VllmServerEngine(
            folder, tokenizer, weights=scratch, dtype=dtype, stop_tokens=sampling.stop_tokens
        )
    raise ValueError(f"unknown rollout engine {name!r}; choose torch, vllm or vllm_server")
