"""Sampling with vLLM inside the trainer's process; imported only when asked for."""

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
from sspo.rollout.engine import Completion, Sampling, check_request, end_tokens

LOWEST_TEMPERATURE = 0.01  # vLLM raises a lower one to this, with no more than a warning


class VllmEngine:
    """Samples from vLLM's own copy of a checkpoint, which ``load_weights`` brings up to date."""

    provenance: Mapping[str, object] = {}

    def __init__(
        self,
        folder: str | Path,
        tokenizer,
        *,
        seed: int = 0,
        dtype: str = "float32",
        gpu_memory_fraction: float = 0.3,
        stop_tokens: Sequence[str] = (),
        cpu_cache_gib: float = 1.0,
    ) -> None:
        """Args:
        folder: checkpoint saved with ``save_pretrained``.
        tokenizer: gives the end token and decodes; vLLM sees token ids only.
        seed: vLLM's own; samples carry theirs.
        dtype: of weights and cache; the policy's own keeps log-probabilities comparable.
        gpu_memory_fraction: share of the GPU for weights and cache; training needs the rest.
        stop_tokens: tokens that end a response beside the tokenizer's end token.
        cpu_cache_gib: key-value cache without a GPU.

        Raises:
            ConfigError: vLLM is not installed, there is no checkpoint in ``folder``, or an end token that
                the tokenizer does not know.
        """
        self.tokenizer = tokenizer
        self.ends = end_tokens(tokenizer, stop_tokens)
        self.context = int(load_json(Path(folder, "config.json"))["max_position_embeddings"])
        vllm = _import_vllm()
        from vllm.platforms import current_platform

        on_cpu = current_platform.is_cpu()
        # Compiling helpers takes 20 s on a CPU and gains nothing there.
        self._stance = "force_eager" if on_cpu else "default"
        with _process_state_kept(self._stance):
            self._llm = vllm.LLM(
                str(folder),
                skip_tokenizer_init=True,
                trust_remote_code=False,
                generation_config="vllm",  # no sampling defaults from the checkpoint
                logprobs_mode="processed_logprobs",  # of the distribution sampled from
                enable_prefix_caching=True,  # a group shares its prompt
                max_model_len=self.context,
                dtype=dtype,
                seed=seed,
                # Processes that a launcher started have a vLLM each.
                distributed_executor_backend="external_launcher" if is_one_of_many() else None,
                enforce_eager=on_cpu,
                gpu_memory_utilization=gpu_memory_fraction,
                kv_cache_memory_bytes=int(cpu_cache_gib * 2**30) if on_cpu else None,
                use_tqdm_on_load=False,
            )

    def load_weights(self, state_dict: Mapping[str, Tensor]) -> None:
        """Copy the given weights into vLLM's model and forget what the old ones computed.

        Raises:
            RuntimeError: the cache is still in use, after a ``generate`` that failed.
        """
        weights = list(state_dict.items())
        with _failure_explained():
            self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        if not self._llm.reset_prefix_cache():
            raise RuntimeError(
                "vLLM still holds keys and values of the old weights; restart the run"
            )

    def generate(self, prompts: Sequence[list[int]], sampling: Sampling) -> list[Completion]:
        """One completion per prompt, in order.

        Raises:
            ValueError: a request that ``check_request`` refuses, a temperature vLLM would change,
                or a prompt whose response may not fit the model's context.
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
    """Refuse what vLLM would sample otherwise than asked.

    Raises:
        ValueError: a request that ``check_request`` refuses, a temperature vLLM would change,
            or a prompt whose response may not fit the model's context (tokens).
    """
    check_request(prompts, sampling)
    if 0.0 < sampling.temperature < LOWEST_TEMPERATURE:
        raise ValueError(
            f"temperature {sampling.temperature}: vLLM samples at {LOWEST_TEMPERATURE} or "
            "more, or greedily at 0"
        )
    longest = max(map(len, prompts), default=0)
    if longest + sampling.max_tokens > context:
        raise ValueError(
            f"a prompt of {longest} tokens and a response of {sampling.max_tokens} exceed the "
            f"model's context of {context}; vLLM would cut the response short"
        )


def sampling_fields(count: int, sampling: Sampling, ends: Sequence[int]) -> list[dict[str, object]]:
    """vLLM's sampling parameters for each of ``count`` prompts, by name: plain sampling."""
    shared = {
        "temperature": sampling.temperature,
        "max_tokens": sampling.max_tokens,
        # The tokens of the configuration, not one vLLM reads from the checkpoint.
        "ignore_eos": True,
        "stop_token_ids": list(ends),
        "detokenize": False,
        "logprobs": 0,  # of the sampled token alone
    }
    seeds = sampling.seeds if sampling.temperature > 0.0 else [None] * count
    return [{**shared, "seed": seed} for seed in seeds]


def is_one_of_many() -> bool:
    """Whether a launcher started several processes."""
    group = torch.distributed
    return group.is_available() and group.is_initialized() and group.get_world_size() > 1


def _import_vllm():
    # Read when vLLM is imported or starts. In one process it takes live tensors as weights.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    try:
        import vllm
    except ModuleNotFoundError as error:
        if error.name != "vllm":
            raise
        raise ConfigError(
            "rollout.engine = 'vllm': vLLM is not installed; run `make vllm` or set it to 'torch'"
        ) from None
    return vllm


@contextmanager
def _failure_explained() -> Iterator[None]:
    """A dead or failing vLLM, whatever it raises, as one line that says how to go on."""
    try:
        yield
    except Exception as error:  # vLLM has no common class of errors
        raise RuntimeError(
            f"vLLM stopped ({first_line(error)}); run again, the run resumes from its newest saved state"
        ) from error


@contextmanager
def _process_state_kept(stance: str) -> Iterator[None]:
    """vLLM seeds the generators of the process and disables ``set_num_threads``: undo both."""
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
