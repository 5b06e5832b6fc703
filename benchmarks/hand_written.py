"""A hand-written sampling loop for Qwen3, to show how fast the machine can be without a library.

It has weights, a preallocated cache and matrix products, but no modules and no cache class. Like the
engine, it reads equal prompts once and drops finished rows. From the same random numbers it samples
the same tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sspo.rollout.torch_engine import _choose, _uniforms


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class HandWritten:
    """Samples from the weights of a Qwen3 model that has as many key heads as query heads."""

    def __init__(self, model) -> None:
        config = model.config
        self.heads, self.size = config.num_attention_heads, config.head_dim
        self.layers = config.num_hidden_layers
        self.weights = {name: tensor.detach() for name, tensor in model.state_dict().items()}
        self.embedding = self.weights["model.embed_tokens.weight"]
        angles = (
            torch.arange(config.max_position_embeddings)[:, None] * model.model.rotary_emb.inv_freq
        )
        self.cos, self.sin = angles.cos(), angles.sin()

    @torch.no_grad()
    def generate(self, prompts: list[list[int]], horizon: int, seeds, eos: int) -> list[list[int]]:
        """Token ids of one sample per prompt at temperature 1."""
        self._prefill(prompts, horizon)
        count = len(prompts)
        uniforms = _uniforms(seeds, horizon, torch.device("cpu"))
        rows = torch.arange(count)
        tokens = torch.full((count, horizon), eos)
        lengths = torch.full((count,), horizon)
        for t in range(horizon):
            token, _ = _choose(self.logits, 1.0, uniforms[rows, t])
            tokens[rows, t] = token
            running = token != eos
            alive = int(running.sum())
            lengths[rows[~running]] = t + 1
            if alive == 0 or t + 1 == horizon:
                break
            source = alive + running[alive:].nonzero().squeeze(1)
            target = (~running[:alive]).nonzero().squeeze(1)
            rows[target], token[target] = rows[source], token[source]
            rows, token = rows[:alive], token[:alive]
            self._drop(source, target, alive)
            end = self.length + 1
            self.logits = self._forward(token[:, None], self.next[:, None], self.mask[..., :end])
            self.next = self.next + 1
        return [row[:n] for row, n in zip(tokens.tolist(), lengths.tolist(), strict=True)]

    def _prefill(self, prompts: list[list[int]], horizon: int) -> None:
        longest = max(map(len, prompts))
        numbers: dict[tuple[int, ...], int] = {}
        rows = torch.tensor([numbers.setdefault(tuple(p), len(numbers)) for p in prompts])
        ids = torch.zeros(len(numbers), longest, dtype=torch.long)
        seen = torch.zeros(len(numbers), longest, dtype=torch.bool)
        for row, prompt in enumerate(numbers):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            seen[row, longest - len(prompt) :] = True
        shape = (2, len(numbers), self.heads, longest + horizon, self.size)
        self.cache, self.length = [torch.empty(shape) for _ in range(self.layers)], 0
        causal = torch.ones(longest, longest, dtype=torch.bool).tril() & seen[:, None, None, :]
        causal |= torch.eye(longest, dtype=torch.bool)
        logits = self._forward(ids, (seen.cumsum(1) - 1).clamp(min=0), causal)
        self.logits, self.cache = logits[rows], [c[:, rows] for c in self.cache]
        hidden = F.pad(~seen, (0, horizon))[:, None, None, :]
        self.mask = torch.zeros(hidden.shape).masked_fill_(hidden, -torch.inf)[rows]
        self.next = seen.sum(1)[rows]

    def _drop(self, source: Tensor, target: Tensor, alive: int) -> None:
        for cache in self.cache:
            cache[:, target, :, : self.length] = cache[:, source, :, : self.length]
        self.mask[target], self.next[target] = self.mask[source], self.next[source]
        self.mask, self.next = self.mask[:alive], self.next[:alive]

    def _forward(self, ids: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        rows, count = ids.shape
        begin, end = self.length, self.length + count
        x = self.embedding[ids]
        cos, sin = self.cos[positions][:, None], self.sin[positions][:, None]
        for layer, cache in enumerate(self.cache):
            w = {k: self.weights[f"model.layers.{layer}.{k}.weight"] for k in LAYER_WEIGHTS}
            h = rms_norm(x, w["input_layernorm"])
            q, k, v = (
                F.linear(h, w[f"self_attn.{n}_proj"]).view(rows, count, self.heads, self.size)
                for n in "qkv"
            )
            q = rotate(rms_norm(q, w["self_attn.q_norm"]).transpose(1, 2), cos, sin)
            k = rotate(rms_norm(k, w["self_attn.k_norm"]).transpose(1, 2), cos, sin)
            cache[0, :rows, :, begin:end] = k
            cache[1, :rows, :, begin:end] = v.transpose(1, 2)
            keys, values = cache[0, :rows, :, :end], cache[1, :rows, :, :end]
            mixed = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
            x = x + F.linear(mixed.transpose(1, 2).reshape(rows, count, -1), w["self_attn.o_proj"])
            h = rms_norm(x, w["post_attention_layernorm"])
            h = F.silu(F.linear(h, w["mlp.gate_proj"])) * F.linear(h, w["mlp.up_proj"])
            x = x + F.linear(h, w["mlp.down_proj"])
        self.length = end
        return F.linear(rms_norm(x[:, -1], self.weights["model.norm.weight"]), self.embedding)


LAYER_WEIGHTS = (
    "input_layernorm",
    "post_attention_layernorm",
    *(f"self_attn.{n}" for n in ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")),
    *(f"mlp.{n}_proj" for n in ("gate", "up", "down")),
)
