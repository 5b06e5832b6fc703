"""Prompts and their continuations as token ids, whatever special tokens a tokenizer adds by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sspo.config.errors import ConfigError


class Added(NamedTuple):
    """Tokens that a tokenizer adds to a text: in front of it (BOS), and after it (EOS)."""

    front: list[int]
    back: list[int]


def encode_prompts(tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of prompts that a model is to continue.

    What the tokenizer adds in front stands there once: a text in a chat format may begin with it already.
    What it appends is left out, because a response would then begin after an end.

    Raises:
        ConfigError: as ``added_tokens``.
    """
    return [
        bare if _begins_with(bare, added.front) else added.front + bare
        for bare, added in added_tokens(tokenizer, texts)
    ]


def encode_continuations(tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts that follow on a prompt, with nothing added to them."""
    return tokenizer(list(texts), add_special_tokens=False)["input_ids"]


def added_tokens(tokenizer, texts: Sequence[str]) -> list[tuple[list[int], Added]]:
    """The ids of every text by itself, and what the tokenizer adds to it.

    Raises:
        ConfigError: the tokenizer changes a text to which it adds tokens.
    """
    whole = tokenizer(list(texts))["input_ids"]
    bare = encode_continuations(tokenizer, texts)
    return [(inner, _around(inner, outer)) for inner, outer in zip(bare, whole, strict=True)]


def _around(inner: list[int], outer: list[int]) -> Added:
    for start in range(len(outer) - len(inner) + 1):
        end = start + len(inner)
        if outer[start:end] == inner:
            return Added(outer[:start], outer[end:])
    raise ConfigError(
        "the tokenizer reads a text otherwise where it adds special tokens; correct the post-processor in "
        "its tokenizer.json"
    )


def _begins_with(ids: list[int], front: list[int]) -> bool:
    return ids[: len(front)] == front
