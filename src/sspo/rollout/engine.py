"""What every rollout engine offers: sample completions, and follow the policy as it learns."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from sspo.config.errors import ConfigError


@dataclass(frozen=True)
class Sampling:
    """How to sample.

    Attributes:
        max_tokens: length cap in tokens; a response that reaches it without its end token is
            truncated.
        temperature: 0 takes the most likely token (greedy).
        seeds: one seed per prompt; a response depends on its own seed only, not on its neighbours.
    """

    max_tokens: int
    temperature: float = 1.0
    seeds: Sequence[int] = ()


@dataclass(frozen=True)
class Completion:
    """One sampled response.

    Attributes:
        token_ids: response tokens, the token that ended it included.
        text: decoded without special tokens.
        finish_reason: "stop" (end token) or "length" (truncated).
        logprobs: log-probability of each token under the sampling distribution, in nats.
    """

    token_ids: list[int]
    text: str
    finish_reason: str
    logprobs: list[float]


class RolloutEngine(Protocol):
    """The interface that all engines share.

    Attributes:
        provenance: what a run's record says of an engine that computes elsewhere.
    """

    provenance: Mapping[str, object]

    def generate(self, prompts: Sequence[list[int]], sampling: Sampling) -> list[Completion]:
        """One completion per prompt (token ids), in order."""

    def load_weights(self, state_dict: Mapping[str, Tensor]) -> None:
        """Sample from these weights from now on."""

    def close(self) -> None:
        """Free what the engine holds; it cannot be used afterwards."""


def check_request(prompts: Sequence[list[int]], sampling: Sampling) -> None:
    """Refuse what no engine can sample.

    Raises:
        ValueError: sampling without exactly one seed per prompt, an empty prompt, or no room for a
            response.
    """
    if sampling.temperature > 0.0 and len(sampling.seeds) != len(prompts):
        raise ValueError(f"{len(prompts)} prompts need as many seeds, got {len(sampling.seeds)}")
    if not all(prompts):
        raise ValueError("an empty prompt has no position to sample from")
    if sampling.max_tokens < 1:
        raise ValueError(f"max_tokens = {sampling.max_tokens} must be at least 1")


def end_tokens(tokenizer, stop_tokens: Sequence[str] = ()) -> list[int]:
    """Ids of the tokens that end a response: the tokenizer's own end token, then further ones.

    Raises:
        ConfigError: no end token, or a further one that the tokenizer does not know.
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
    return list(dict.fromkeys([tokenizer.eos_token_id, *(vocabulary[t] for t in stop_tokens)]))


def sample_seed(*parts: int | str) -> int:
    """A 63-bit seed from the full coordinates of a sample, e.g. (run seed, step, prompt, sample).

    Hashing the whole tuple keeps streams apart that adding or multiplying the parts would let collide.
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
