"""Sample with vLLM inside the trainer's process."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sspo.config.errors import ConfigError, first_line
from sspo.config.reading import load_json
from sspo.rollout.engine import Completion, Sampling, check_request, end_tokens, generation_ends

LOWEST_TEMPERATURE = 0.01  # vLLM raises lower temperatures to this one and only warns


class VllmEngine:
    """Samples from vLLM's own copy of a checkpoint, which ``load_weights`` updates."""

    provenance: Mapping[str, object] = {}

    def __init__(
        self,
        folder: str | Path,
        tokenizer,
        *,
        dtype: str = "float32",
        quantization: str | None = None,
        gpu_memory_fraction: float = 0.3,
        stop_tokens: Sequence[str] = (),
        cpu_cache_gib: float = 1.0,
    ) -> None:
        """Args:
        folder: checkpoint saved with ``save_pretrained``.
        tokenizer: gives the end token and decodes; vLLM sees token ids only.
        dtype: precision of weights and cache; log-probabilities are comparable if the policy's is the same.
        quantization: vLLM's name of what it rounds weights to when it loads them, such as fp8.
        gpu_memory_fraction: share of the GPU for weights and cache; training needs the rest.
        stop_tokens: tokens that end a response beside those of the tokenizer and of the checkpoint.
        cpu_cache_gib: size of the key-value cache in GiB where there is no GPU.

        Raises:
            ConfigError: vLLM is not installed, there is no checkpoint in ``folder``, or the tokenizer
                does not know one of the end tokens.
        """
        self.tokenizer = tokenizer
        self.ends = end_tokens(tokenizer, stop_tokens, generation_ends(folder))
        self.context = int(load_json(Path(folder, "config.json"))["max_position_embeddings"])
        vllm = _import_vllm()
        from vllm.platforms import current_platform

        on_cpu = current_platform.is_cpu()
        # On a CPU, compiling helper functions takes 20 s and gains nothing.
        self._stance = "force_eager" if on_cpu else "default"
        with _process_state_kept(self._stance):
            self._llm = vllm.LLM(
                str(folder),
                skip_tokenizer_init=True,
                trust_remote_code=False,
                generation_config="vllm",  # no sampling defaults from the checkpoint
                logprobs_mode="processed_logprobs",  # of the distribution at this temperature
                enable_prefix_caching=True,  # the prompt of a group is read once
                # A prompt read in two steps makes vLLM rewind its seed, which a CPU's generator refuses.
                enable_chunked_prefill=False if on_cpu else None,
                max_model_len=self.context,
                dtype=dtype,
                quantization=quantization,
                seed=0,  # without effect: every sampled response has a seed of its own
                # Where a launcher started several processes, each has a vLLM of its own.
                distributed_executor_backend="external_launcher" if is_one_of_many() else None,
                enforce_eager=on_cpu,
                gpu_memory_utilization=gpu_memory_fraction,
                kv_cache_memory_bytes=int(cpu_cache_gib * 2**30) if on_cpu else None,
                use_tqdm_on_load=False,
            )

    def load_weights(self, state_dict: Mapping[str, Tensor]) -> None:
        """Copy the weights into vLLM's model and clear the cache that the old ones computed.

        Raises:
            RuntimeError: vLLM failed, or a ``generate`` that failed still holds the cache.
        """
        weights = list(state_dict.items())
        with _failure_explained():
            self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        if not self._llm.reset_prefix_cache():
            raise RuntimeError(
                "vLLM still holds keys and values of the old weights; run again, the run resumes from its "
                "newest saved state"
            )

    def generate(self, prompts: Sequence[list[int]], sampling: Sampling) -> list[Completion]:
        """One completion per prompt, in order.

        Raises:
            ValueError: ``check_fits`` refuses the request.
            RuntimeError: vLLM failed.
        """
        check_fits(prompts, sampling, self.context)
        params = self._sampling_params(len(prompts), sampling)
        inputs = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        with _process_state_kept(self._stance), _failure_explained():
            requests = self._llm.generate(inputs, params, use_tqdm=False)
        outputs = [request.outputs[0] for request in requests]
        return [
            Completion(
                token_ids=list(output.token_ids),
                text=self.tokenizer.decode(output.token_ids, skip_special_tokens=True),
                finish_reason=output.finish_reason,
                logprobs=list(output.logprobs.logprobs),
            )
            for output in outputs
        ]

    def close(self) -> None:
        """Stop vLLM and free its memory; the engine cannot be used afterwards."""
        from vllm.distributed import cleanup_dist_env_and_memory

        self._llm.llm_engine.engine_core.shutdown()
        del self._llm
        cleanup_dist_env_and_memory()

    def _sampling_params(self, count: int, sampling: Sampling) -> list:
        from vllm import SamplingParams

        fields = sampling_fields(count, sampling, self.ends)
        return [SamplingParams(**one, flat_logprobs=True) for one in fields]


def check_fits(prompts: Sequence[list[int]], sampling: Sampling, context: int) -> None:
    """Check that vLLM would sample exactly what is asked for.

    Raises:
        ValueError: ``check_request`` refuses the request, vLLM would change its temperature, or a
            prompt and its longest response exceed ``context`` (tokens).
    """
    check_request(prompts, sampling)
    if 0.0 < sampling.temperature < LOWEST_TEMPERATURE:
        raise ValueError(
            f"temperature {sampling.temperature}: vLLM samples at {LOWEST_TEMPERATURE} or more, or "
            "greedily at 0; choose one of these"
        )
    longest = max(map(len, prompts), default=0)
    if longest + sampling.max_tokens > context:
        raise ValueError(
            f"a prompt of {longest} tokens and a response of {sampling.max_tokens} exceed the "
            f"model's context of {context}; vLLM would cut the response short"
        )


def sampling_fields(count: int, sampling: Sampling, ends: Sequence[int]) -> list[dict[str, object]]:
    """Names and values of vLLM's sampling parameters for each of ``count`` prompts."""
    shared = {
        "max_tokens": sampling.max_tokens,
        # End tokens come from the configuration, not from what vLLM reads in the checkpoint.
        "ignore_eos": True,
        "stop_token_ids": list(ends),
        "detokenize": False,
        "logprobs": 0,  # that of the sampled token, and 0 of the most likely ones
    }
    seeds = sampling.seeds if sampling.temperature > 0.0 else [None] * count
    temperatures = [0.0 if seed is None else sampling.temperature for seed in seeds]
    pairs = zip(seeds, temperatures, strict=True)
    return [{**shared, "temperature": value, "seed": seed} for seed, value in pairs]


def is_one_of_many() -> bool:
    """Whether this process is one of several that a launcher started."""
    group = torch.distributed
    return group.is_available() and group.is_initialized() and group.get_world_size() > 1


def _import_vllm():
    # vLLM reads these variables when it is imported or started. Only with its engine in this process
    # can it take live tensors as weights.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    try:
        import vllm
    except ModuleNotFoundError as error:
        if error.name != "vllm":
            raise
        raise ConfigError(
            "rollout.engine or evaluation.engine = 'vllm': vLLM is not installed; run `make vllm`, or set "
            "the engine to 'torch'"
        ) from None
    return vllm


@contextmanager
def _failure_explained() -> Iterator[None]:
    """Turn any error of vLLM into one line that says how to go on."""
    try:
        yield
    except Exception as error:  # vLLM has no common class of errors
        raise RuntimeError(
            f"vLLM stopped ({first_line(error)}); run again, the run resumes from its newest saved state"
        ) from error


@contextmanager
def _process_state_kept(stance: str) -> Iterator[None]:
    """Undo that vLLM seeds the generators of the process and disables ``set_num_threads``."""
    set_num_threads, threads = torch.set_num_threads, torch.get_num_threads()
    python_state, numpy_state = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices), torch.compiler.set_stance(stance):
            yield
    finally:
        torch.set_num_threads = set_num_threads
        torch.set_num_threads(threads)
        random.setstate(python_state)
        np.random.set_state(numpy_state)
