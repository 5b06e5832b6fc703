"""Decode a batch token by token; finished sequences leave it, and the key-value cache is one buffer.

``transformers`` has caches of its own, but they copy all keys and values whenever a token is added
(dynamic) or compute attention over the full length from the first token on (static).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin

from sspo.models.architectures import partial_attention

CACHE_BLOCK = 64  # fewest tokens by which the cache grows


class _Layer(CacheLayerMixin):
    """Keys and values of one attention layer, written in place into memory that grows by blocks.

    A finished row is overwritten with one of the last rows, so that dropping few rows copies few rows.
    """

    keys: Any  # (A, heads, tokens, D) once the first update has come
    values: Any

    def __init__(self) -> None:
        super().__init__()
        self.length = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Do nothing: the first ``update`` allocates."""

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs):
        """Append (A, heads, n, D) keys and values of n tokens; returns those of all tokens so far."""
        size, count = len(key_states), key_states.shape[2]
        end = self.length + count
        if self.keys is None:
            self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        if end > self.keys.shape[2]:
            self.keys = _with_room(self.keys, self.length, count)
            self.values = _with_room(self.values, self.length, count)
        self.keys[:size, :, self.length : end] = key_states
        self.values[:size, :, self.length : end] = value_states
        self.length = end
        return self.keys[:size, :, :end], self.values[:size, :, :end]

    def repeat(self, source: _Layer, rows: Tensor) -> None:
        """Copy rows of another layer; ``rows`` is (A,) indices and may repeat one."""
        self.length = source.length
        self.keys = _with_room(source.keys[rows, :, : self.length], self.length, 0)
        self.values = _with_room(source.values[rows, :, : self.length], self.length, 0)

    def move(self, source: Tensor, target: Tensor) -> None:
        """Overwrite the rows ``target`` with the rows ``source``, (M,) indices each."""
        for states in (self.keys, self.values):
            states[target, :, : self.length] = states[source, :, : self.length]

    def get_seq_length(self) -> int:
        return self.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_max_length(self) -> int:
        return -1


class Decoder:
    """Next-token logits of a shrinking batch of A left-padded sequences.

    Equal prompts go through the model once. Masks are additive and have the shape (A, 1, queries,
    keys), because every attention implementation takes this form unchanged.
    """

    def __init__(self, model: PreTrainedModel, prompts: Sequence[list[int]], horizon: int) -> None:
        """Read the prompts; at most ``horizon`` tokens may follow each.

        Raises:
            ValueError: not all layers of the model see the whole sequence.
        """
        if reason := partial_attention(model.config):
            raise ValueError(
                f"cannot sample from a model with {reason}: all layers must see the whole sequence"
            )
        self.model = model
        self.logits: Tensor  # (A, V) of the next token
        device = model.device
        numbers: dict[tuple[int, ...], int] = {}
        rows = [numbers.setdefault(tuple(p), len(numbers)) for p in prompts]
        longest = max(map(len, numbers))
        ids, mask = _left_pad(list(numbers), longest)
        causal = torch.ones(longest, longest, dtype=torch.bool).tril()
        first = [_Layer() for _ in range(model.config.num_hidden_layers)]
        self.layers = first
        self._forward(
            ids.to(device),
            (mask.cumsum(dim=1) - 1).clamp(min=0).to(device),
            self._additive(mask[:, None, None, :] & causal),
        )
        chosen = torch.tensor(rows, device=device)
        self.logits = self.logits[chosen]
        self.layers = [_Layer() for _ in first]
        for layer, source in zip(self.layers, first, strict=True):
            layer.repeat(source, chosen)
        self.positions = mask.sum(dim=1).to(device)[chosen]  # (A,) of the next token
        padded = torch.nn.functional.pad(mask, (0, horizon), value=True)[:, None, None, :]
        self.mask = self._additive(padded)[chosen]  # (A, 1, 1, longest + horizon)

    def keep(self, count: int, source: Tensor, target: Tensor) -> None:
        """Move the rows ``source`` to the places ``target``, then drop all but the first ``count``."""
        for layer in self.layers:
            layer.move(source, target)
        for values in (self.mask, self.positions):
            values[target] = values[source]
        self.mask, self.positions = self.mask[:count], self.positions[:count]

    def step(self, tokens: Tensor) -> None:
        """Append one token (A,) to each sequence."""
        end = self.layers[0].length + 1
        self._forward(tokens[:, None], self.positions[:, None], self.mask[..., :end])
        self.positions = self.positions + 1

    def _forward(self, ids: Tensor, positions: Tensor, mask: Tensor) -> None:
        output = self.model(
            ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=Cache(layers=self.layers),
            use_cache=True,
            logits_to_keep=1,
        )
        self.logits = output.logits[:, -1].float()  # (A, V)

    def _additive(self, visible: Tensor) -> Tensor:
        """0 where visible, else the lowest finite number.

        Minus infinity would give NaN: a padding position sees nothing, and its softmax has no finite input.
        """
        dtype, device = self.model.dtype, self.model.device
        lowest = torch.full((), torch.finfo(dtype).min, dtype=dtype)
        return torch.where(visible, torch.zeros((), dtype=dtype), lowest).to(device)


def _with_room(states: Tensor, length: int, more: int) -> Tensor:
    """A copy of the first ``length`` tokens with room for ``more`` tokens and a reserve.

    The reserve grows with the length, so that a long response is copied a logarithmic number of times.
    """
    rows, heads, _, size = states.shape
    room = length + more + max(CACHE_BLOCK, length // 2)
    grown = states.new_empty(rows, heads, room, size)
    grown[:, :, :length] = states[:, :, :length]
    return grown


def _left_pad(prompts: Sequence[Sequence[int]], longest: int) -> tuple[Tensor, Tensor]:
    """Token ids (U, longest) and mask (U, longest, bool) of left-padded prompts."""
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros(len(prompts), longest, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = True
    return ids, mask
