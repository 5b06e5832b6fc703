"""Decode with tensors that keep their places and shapes, so that a CUDA graph can repeat a step.

Eager decoding launches some hundred small kernels a token, which a GPU finishes sooner than Python asks for
them. A captured graph launches them at once. Its price is attention over all tokens that may come, not over
those that are there, and a capture whenever half of the rows have finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin

from sspo.rollout.decoder import Decoder

WARM_UPS = 2  # runs before a capture, which PyTorch asks for


class _StaticLayer(CacheLayerMixin):
    """Keys and values (A, heads, L, D) of an attention layer; a step writes its own at a place."""

    keys: Any
    values: Any
    place: Tensor  # (1,), where the next token goes

    @classmethod
    def of(cls, layer: Any, total: int, place: Tensor) -> _StaticLayer:
        """What an eager layer has read, with room for ``total`` tokens."""
        static = cls()
        read, static.place = layer.length, place
        static.keys = _padded(layer.keys[:, :, :read], total)
        static.values = _padded(layer.values[:, :, :read], total)
        return static

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Do nothing: the prompts are there already."""

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs):
        """Write (A, heads, 1, D) at the place; returns all keys and values."""
        self.keys.index_copy_(2, self.place, key_states)
        self.values.index_copy_(2, self.place, value_states)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return 0  # positions and masks are given

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.keys.shape[2], 0

    def get_max_length(self) -> int:
        return self.keys.shape[2]


class StaticDecoder:
    """As ``Decoder``, with one shape until half of the rows are gone; on a GPU a step is a graph."""

    def __init__(self, model: PreTrainedModel, prompts: Sequence[list[int]], horizon: int) -> None:
        """Read the prompts; at most ``horizon`` tokens may follow each.

        Raises:
            ValueError: as ``Decoder``.
        """
        read = Decoder(model, prompts, horizon)
        length, total = read.layers[0].length, read.mask.shape[-1]
        self.model, self.logits = model, read.logits  # (A, V) of the next token
        self.place = torch.tensor([length], device=model.device)
        self.positions = read.positions[:, None].clone()  # (A, 1) of the next token
        self.mask = read.mask.clone()  # (A, 1, 1, L), additive
        self.mask[..., length:] = torch.finfo(model.dtype).min
        self.ids = torch.zeros_like(self.positions)
        self.layers = [_StaticLayer.of(layer, total, self.place) for layer in read.layers]
        self.rows = len(self.ids)  # the first ones, which still run
        self.graph: torch.cuda.CUDAGraph | None = None

    def keep(self, count: int, source: Tensor, target: Tensor) -> None:
        """Move the rows ``source`` to the places ``target``; all but the first ``count`` have finished."""
        for values in self._by_row():
            values[target] = values[source]
        self.rows = count
        if 0 < 2 * count <= len(self.ids):
            self._shrink(count)

    def step(self, tokens: Tensor) -> None:
        """Append one token (A,) to each sequence that runs."""
        self.ids[: self.rows, 0] = tokens
        if self.ids.is_cuda:
            self.graph = self.graph or self._captured()
            self.graph.replay()
        else:
            self._advance()
        self.logits = self.output[: self.rows]

    def _advance(self) -> None:
        self.mask.index_fill_(3, self.place, 0.0)
        found = self.model(
            self.ids,
            attention_mask=self.mask,
            position_ids=self.positions,
            past_key_values=Cache(layers=self.layers),
            use_cache=True,
            logits_to_keep=1,
        )
        self.output = found.logits[:, -1].float()  # (A, V)
        self.place += 1
        self.positions += 1

    def _captured(self) -> torch.cuda.CUDAGraph:
        """A graph of one step; what its trial runs changed is taken back."""
        before = self.place.clone(), self.positions.clone(), self.mask.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self._advance()
                self.place.copy_(before[0])  # a trial never writes beyond the cache
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._advance()
        for values, old in zip((self.place, self.positions, self.mask), before, strict=True):
            values.copy_(old)
        return graph

    def _shrink(self, count: int) -> None:
        self.ids, self.positions, self.mask = (
            values[:count].clone() for values in (self.ids, self.positions, self.mask)
        )
        for layer in self.layers:
            layer.keys, layer.values = layer.keys[:count].clone(), layer.values[:count].clone()
        self.graph = None

    def _by_row(self) -> list[Tensor]:
        caches = [states for layer in self.layers for states in (layer.keys, layer.values)]
        return [self.positions, self.mask, *caches]


def _padded(states: Tensor, total: int) -> Tensor:
    """(A, heads, n, D) with zeros up to ``total`` tokens."""
    return torch.nn.functional.pad(states, (0, 0, 0, total - states.shape[2]))
