"""Rollout engines behind one interface: ``TorchEngine`` (reference) and ``VllmEngine``."""

from sspo.rollout.engine import Completion, RolloutEngine, Sampling, sample_seed

__all__ = ["Completion", "RolloutEngine", "Sampling", "make_engine", "sample_seed"]


def make_engine(
    name: str, model, tokenizer, *, folder: str, dtype: str, max_batch: int, seed: int
) -> RolloutEngine:
    """The engine called ``name`` ("torch" or "vllm"), sampling from ``model``.

    Args:
        name: engine.
        model: the live policy; the torch engine samples from it directly.
        tokenizer: the model's tokenizer.
        folder: the checkpoint vLLM builds its own copy from.
        dtype: of vLLM's copy, the policy's own.
        max_batch: responses sampled at once (torch engine).
        seed: engine seed (vLLM); samples carry their own.

    Raises:
        ValueError: unknown name.
        ConfigError: vLLM asked for and not installed.
    """
    if name == "torch":
        from sspo.rollout.torch_engine import TorchEngine

        return TorchEngine(model, tokenizer, max_batch=max_batch, shares_policy=True)
    if name == "vllm":
        from sspo.rollout.vllm_engine import VllmEngine

        return VllmEngine(folder, tokenizer, seed=seed, dtype=dtype)
    raise ValueError(f"unknown rollout engine {name!r}; choose torch or vllm")
