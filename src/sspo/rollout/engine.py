"""The interface of rollout engines: sample completions, and follow the policy as it learns."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sspo.config.errors import ConfigError
from sspo.config.reading import load_json

if TYPE_CHECKING:  # who reads completions needs no PyTorch
    from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How to sample. A response depends on its own seed alone, not on its neighbours."""

    max_tokens: int  # of a response; one that has no end token by then is truncated
    temperature: float = 1.0  # 0 takes the most likely token (greedy)
    seeds: Sequence[int | None] = ()  # one per prompt, where None is greedy; none at temperature 0


@dataclass(frozen=True)
class Completion:
    """One sampled response."""

    token_ids: list[int]  # including the end token
    text: str  # without special tokens
    finish_reason: str  # "stop" (end token) or "length" (truncated)
    logprobs: list[float]  # of each token under the sampling distribution, in nats


class RolloutEngine(Protocol):
    """The interface that all engines share."""

    provenance: Mapping[str, object]  # for the record of the run, such as the version of a server

    def generate(self, prompts: Sequence[list[int]], sampling: Sampling) -> list[Completion]:
        """One completion per prompt (token ids), in order."""

    def load_weights(self, state_dict: Mapping[str, Tensor]) -> None:
        """Sample from these weights from now on."""

    def close(self) -> None:
        """Free the engine's memory and files; it cannot be used afterwards."""


def check_request(prompts: Sequence[list[int]], sampling: Sampling) -> None:
    """Check what every engine needs of a request.

    Raises:
        ValueError: not exactly one seed per prompt above temperature 0, an empty prompt, or
            ``max_tokens`` below 1.
    """
    if sampling.temperature > 0.0 and len(sampling.seeds) != len(prompts):
        raise ValueError(f"{len(prompts)} prompts need as many seeds, got {len(sampling.seeds)}")
    if not all(prompts):
        raise ValueError("an empty prompt has no position to sample from")
    if sampling.max_tokens < 1:
        raise ValueError(f"max_tokens = {sampling.max_tokens} must be at least 1")


def end_tokens(
    tokenizer, stop_tokens: Sequence[str] = (), generation: int | Sequence[int] | None = None
) -> list[int]:
    """Ids of the tokens that end a response.

    Args:
        tokenizer: gives the first one, its own end token.
        stop_tokens: names of further ones.
        generation: ``eos_token_id`` of the model's generation configuration, one or several or none.

    Raises:
        ConfigError: the tokenizer has no end token, or does not know one of ``stop_tokens``.
    """
    if tokenizer.eos_token_id is None:
        raise ConfigError("the tokenizer has no end token; set eos_token in its configuration")
    vocabulary = tokenizer.get_vocab()
    for token in stop_tokens:
        if token not in vocabulary:
            raise ConfigError(
                f"rollout.stop_tokens: {token!r} is not a token of this tokenizer; remove it or spell "
                "it as the tokenizer does"
            )
    own = [generation] if isinstance(generation, int) else generation or ()
    stops = [vocabulary[token] for token in stop_tokens]
    return list(dict.fromkeys([tokenizer.eos_token_id, *own, *stops]))


def generation_ends(folder: str | Path) -> int | list[int] | None:
    """``eos_token_id`` of a checkpoint, from the file that transformers takes it from as well."""
    file = Path(folder, "generation_config.json")
    return load_json(file if file.is_file() else Path(folder, "config.json")).get("eos_token_id")


def sample_seed(*parts: int | str) -> int:
    """A 63-bit seed from all coordinates of a sample, e.g. (run seed, step, prompt, sample).

    A hash of the whole tuple, because sums or products of the parts would let different samples share
    a seed.
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
