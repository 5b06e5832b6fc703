"""Make the rollout engine that a configuration names; vLLM is imported only when it is used."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Protocol

from transformers import PreTrainedModel

from sspo.config.rollout import SamplingConfig
from sspo.config.settings import ComputeConfig
from sspo.models.policy import DTYPES, load_model
from sspo.models.weights import merge_adapters
from sspo.rollout.engine import RolloutEngine
from sspo.rollout.torch_engine import TorchEngine


class EngineSettings(Protocol):
    """What both the section ``rollout`` and the section ``evaluation`` say about the engine."""

    @property
    def engine(self) -> str: ...
    @property
    def vllm_memory(self) -> float: ...


def make_engine(
    settings: EngineSettings,
    sampling: SamplingConfig,
    compute: ComputeConfig,
    folder: str | Path,
    tokenizer,
    policy: PreTrainedModel | None = None,
    scratch: Path | None = None,
    weights_dtype: str = "float32",
) -> RolloutEngine:
    """The engine that ``settings`` name, sampling from the checkpoint in ``folder``.

    Args:
        settings: section ``rollout`` or ``evaluation``.
        sampling: tokens that end a response; responses sampled at once (torch engine).
        compute: precision of the weights that are sampled from; device (torch engine).
        folder: vLLM loads this checkpoint, or its server was started with it.
        tokenizer: the checkpoint's.
        policy: the model in training, if any; the torch engine samples from it instead of loading.
        scratch: a folder for weights on their way to a server, removed when the engine is closed.
        weights_dtype: what the engine's weights are rounded to (``sspo.models.rounding``). vLLM has
            bfloat16 and its own fp8, which rounds activations as well, and computes in bfloat16 then.

    Raises:
        ValueError: no engine has this name, or a server is asked for without ``scratch``.
        ConfigError: vLLM is not installed, no server can be used, the weights cannot be rounded, or
            the tokenizer does not know an end token.
    """
    if settings.engine == "torch":
        model = load_model(folder, compute.dtype, compute.device) if policy is None else policy
        return make_torch_engine(model, tokenizer, sampling, compute.dtype, weights_dtype)
    dtype, stop = compute.dtype, sampling.stop_tokens
    if weights_dtype != "float32":
        dtype = "bfloat16"
    quantization = "fp8" if weights_dtype == "float8_e4m3" else None  # vLLM's own name
    if settings.engine == "vllm":
        from sspo.rollout.vllm_engine import VllmEngine

        memory = settings.vllm_memory
        return VllmEngine(
            folder,
            tokenizer,
            dtype=dtype,
            quantization=quantization,
            gpu_memory_fraction=memory,
            stop_tokens=stop,
        )
    if settings.engine == "vllm_server":
        from sspo.rollout.vllm_server import VllmServerEngine

        if scratch is None:
            raise ValueError(
                "engine vllm_server gives the server weights in a folder; pass scratch"
            )
        return VllmServerEngine(
            folder,
            tokenizer,
            weights=scratch,
            dtype=dtype,
            quantization=quantization,
            stop_tokens=stop,
        )
    raise ValueError(
        f"unknown rollout engine {settings.engine!r}; choose torch, vllm or vllm_server"
    )


def make_torch_engine(
    model: PreTrainedModel,
    tokenizer,
    sampling: SamplingConfig,
    dtype: str,
    weights_dtype: str = "float32",
) -> TorchEngine:
    """An engine that samples from ``model`` itself, or from a copy where its weights are to differ."""
    shares = model.dtype == DTYPES[dtype] and weights_dtype == "float32"
    if not shares:
        model = copy.deepcopy(model)
        merge_adapters(model)  # a copy is given plain weights
        # Parameters alone: position frequencies stay float32, as in a model loaded in ``dtype``.
        for parameter in model.parameters():
            parameter.data = parameter.data.to(DTYPES[dtype])
    return TorchEngine(
        model,
        tokenizer,
        max_batch=sampling.max_batch,
        shares_policy=shares,
        stop_tokens=sampling.stop_tokens,
        weights_dtype=weights_dtype,
        cuda_graphs=sampling.cuda_graphs,
    )
