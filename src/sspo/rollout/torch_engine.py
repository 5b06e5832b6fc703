"""Sampling with plain PyTorch: a key-value cache, one batch, finished rows dropped as it goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from sspo.rollout.engine import Completion, Sampling, check_request


class TorchEngine:
    """Samples from a live Hugging Face causal LM; the reference that other engines are held to."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer,
        *,
        max_batch: int = 1024,
        shares_policy: bool = False,
    ) -> None:
        """Args:
        model: the model to sample from.
        tokenizer: gives the end token and decodes.
        max_batch: prompts sampled at once; bounds memory.
        shares_policy: ``model`` is the policy in training itself, so there is nothing to load.
        """
        self.model = model
        self.tokenizer = tokenizer
        self.max_batch = max_batch
        self.shares_policy = shares_policy

    def load_weights(self, state_dict: Mapping[str, Tensor]) -> None:
        """Copy the given weights into the engine's model, unless it is the policy itself."""
        if not self.shares_policy:
            self.model.load_state_dict(state_dict)

    @torch.no_grad()
    def generate(self, prompts: Sequence[list[int]], sampling: Sampling) -> list[Completion]:
        """One completion per prompt, in order.

        Raises:
            ValueError: a request that ``check_request`` refuses.
        """
        check_request(prompts, sampling)
        completions: list[Completion] = []
        with _evaluation_mode(self.model):
            for start in range(0, len(prompts), self.max_batch):
                rows = slice(start, start + self.max_batch)
                completions += self._generate_batch(prompts[rows], sampling, sampling.seeds[rows])
        return completions

    def close(self) -> None:
        """Nothing to free: the model belongs to the caller."""

    def _generate_batch(
        self, prompts: Sequence[list[int]], sampling: Sampling, seeds: Sequence[int]
    ) -> list[Completion]:
        eos = self.tokenizer.eos_token_id
        device = self.model.device
        size, horizon = len(prompts), sampling.max_tokens
        tokens = torch.full((size, horizon), eos, device=device)
        logprobs = torch.zeros(size, horizon, device=device)
        lengths = torch.full((size,), horizon, device=device)
        uniforms = _uniforms(seeds, horizon, device)

        decoder = _Decoder(self.model, prompts)
        rows = torch.arange(size, device=device)  # (A,) rows of the batch that the decoder holds
        for t in range(horizon):
            u = uniforms[rows, t] if sampling.temperature > 0.0 else None
            token, logprob = _choose(decoder.logits, sampling.temperature, u)
            tokens[rows, t], logprobs[rows, t] = token, logprob
            running = lengths[rows] > t
            ended = running & (token == eos)
            lengths[rows[ended]] = t + 1
            running &= ~ended
            alive = int(running.sum())
            if alive == 0 or t + 1 == horizon:
                break
            # Dropping rows copies the cache, so finished ones wait until an eighth of the batch has.
            if alive <= 0.875 * len(rows):
                rows, token = rows[running], token[running]
                decoder.keep(running)
            decoder.step(token)
        return self._collect(tokens, logprobs, lengths)

    def _collect(self, tokens: Tensor, logprobs: Tensor, lengths: Tensor) -> list[Completion]:
        counts = lengths.tolist()
        ids = [row[:n] for row, n in zip(tokens.tolist(), counts, strict=True)]
        scores = [row[:n] for row, n in zip(logprobs.tolist(), counts, strict=True)]
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        eos = self.tokenizer.eos_token_id
        return [
            Completion(i, text, "stop" if i[-1] == eos else "length", s)
            for i, text, s in zip(ids, texts, scores, strict=True)
        ]


@contextmanager
def _evaluation_mode(model: PreTrainedModel) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


class _Decoder:
    """Next-token logits of a shrinking batch of left-padded sequences."""

    def __init__(self, model: PreTrainedModel, prompts: Sequence[list[int]]) -> None:
        self.model = model
        device = model.device
        longest = max(map(len, prompts))
        ids = torch.zeros(len(prompts), longest, dtype=torch.long)
        self.mask = torch.zeros(len(prompts), longest, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            self.mask[row, longest - len(prompt) :] = 1
        self.mask = self.mask.to(device)
        self.positions = (self.mask.cumsum(dim=1) - 1).clamp(min=0)
        self.cache = DynamicCache(config=model.config)
        self._forward(ids.to(device))

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows ((A,) bool) only."""
        self.cache.batch_select_indices(rows)
        self.mask, self.positions = self.mask[rows], self.positions[rows]

    def step(self, tokens: Tensor) -> None:
        """Append one token (A,) to each sequence."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)
        self.positions = self.positions[:, -1:] + 1
        self._forward(tokens.unsqueeze(1))

    def _forward(self, ids: Tensor) -> None:
        output = self.model(
            ids,
            attention_mask=self.mask,
            position_ids=self.positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.logits = output.logits[:, -1].float()  # (A, V)


def _uniforms(seeds: Sequence[int], horizon: int, device: torch.device) -> Tensor:
    """(B, T) uniform numbers, row i from the stream of seed i, so rows never depend on the batch."""
    rows = [np.random.Generator(np.random.Philox(seed)).random(horizon) for seed in seeds]
    return torch.tensor(np.array(rows), device=device)


def _choose(logits: Tensor, temperature: float, uniforms: Tensor | None) -> tuple[Tensor, Tensor]:
    """Next token (A,) and its log-probability (A,) from logits (A, V); greedy without uniforms."""
    if uniforms is None:
        log_probabilities = logits.log_softmax(dim=-1)
        token = logits.argmax(dim=-1)
    else:
        log_probabilities = (logits / temperature).log_softmax(dim=-1)
        # Inverse CDF in float64: the first token whose cumulative probability exceeds u.
        cumulative = log_probabilities.double().exp().cumsum(dim=-1)
        threshold = uniforms.unsqueeze(-1) * cumulative[:, -1:]
        token = torch.searchsorted(cumulative, threshold, right=True).squeeze(-1)
        token = token.clamp(max=logits.shape[-1] - 1)
    return token, log_probabilities.gather(-1, token.unsqueeze(-1)).squeeze(-1)
