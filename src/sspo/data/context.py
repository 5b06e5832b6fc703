"""Whether prompts leave room for a response in the context of the models that will read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sspo.config.reading import JsonDict, load_json
from sspo.data.problems import Record
from sspo.models.policy import load_tokenizer
from sspo.models.prompts import added_tokens, encode_prompts


@dataclass(frozen=True)
class Reader:
    """A base model, as far as prompts go."""

    folder: Path
    tokenizer: Any
    context: int  # most tokens of a prompt and its response together


@dataclass(frozen=True)
class Room:
    """What every prompt has to leave: room for ``response`` tokens in the context of every reader."""

    readers: Sequence[Reader]
    response: int

    def too_long(self, problems: Sequence[Record]) -> list[str]:
        """The ids of the problems whose prompts do not leave it."""
        texts = [str(problem["prompt"]) for problem in problems]
        found = set()
        for reader in self.readers:
            room = reader.context - self.response
            encoded = encode_prompts(reader.tokenizer, texts)
            found |= {i for i, prompt in enumerate(encoded) if len(prompt) > room}
        return [str(problems[i]["id"]) for i in sorted(found)]

    def __str__(self) -> str:
        least = min(self.readers, key=lambda reader: reader.context)
        tokens = f"a response of {self.response} tokens"
        return f"{tokens} in the context of {least.folder} ({least.context} tokens)"


def load_reader(folder: Path) -> Reader:
    """The reader of a base model.

    Raises:
        ConfigError: the folder holds no checkpoint, or a file of it is damaged.
    """
    context = load_json(folder / "config.json")["max_position_embeddings"]
    return Reader(folder, load_tokenizer(folder), int(context))


def describe_prompts(reader: Reader, problems: Sequence[Record]) -> JsonDict:
    """What a model reads, for the record.

    Returns:
        ``context``, tokens of the ``longest`` prompt, and the special tokens that the tokenizer puts in
        front of a prompt (``front``; once, also where the prompt begins with them) or would append to it
        (``left_out``).
    """
    texts = [str(problem["prompt"]) for problem in problems]
    _, added = added_tokens(reader.tokenizer, texts[:1])[0]
    front, left_out = map(reader.tokenizer.convert_ids_to_tokens, added)
    longest = max(map(len, encode_prompts(reader.tokenizer, texts)))
    return {"context": reader.context, "longest": longest, "front": front, "left_out": left_out}
