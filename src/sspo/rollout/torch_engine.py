"""Sample with plain PyTorch, without an inference server."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from sspo.models.rounding import round_weights
from sspo.rollout.decoder import Decoder
from sspo.rollout.engine import Completion, Sampling, check_request, end_tokens
from sspo.rollout.static_decoder import StaticDecoder


class TorchEngine:
    """Samples from a live Hugging Face causal LM; other engines are tested against this one."""

    provenance: Mapping[str, object] = {}

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer,
        *,
        max_batch: int = 1024,
        shares_policy: bool = False,
        stop_tokens: Sequence[str] = (),
        weights_dtype: str = "float32",
        cuda_graphs: bool = False,
    ) -> None:
        """Sample at most ``max_batch`` responses at once, which bounds the memory.

        ``shares_policy`` says that ``model`` is the policy in training itself, so ``load_weights`` does
        nothing. ``stop_tokens`` end a response, as the tokenizer's end token does and those of the
        model's generation configuration. Weights are rounded to ``weights_dtype``, also those that
        are loaded later; other values than float32 need a model of the engine's own. ``cuda_graphs``
        decodes with a static cache, which a GPU repeats as a graph.

        Raises:
            ConfigError: the tokenizer does not know one of the end tokens, or ``round_weights`` refuses.
        """
        self.model = model
        self.tokenizer = tokenizer
        self.max_batch = max_batch
        self.shares_policy = shares_policy
        self.weights_dtype = weights_dtype
        self.decoder = StaticDecoder if cuda_graphs else Decoder
        round_weights(model, weights_dtype)
        self.ends = end_tokens(tokenizer, stop_tokens, model.generation_config.eos_token_id)

    def load_weights(self, state_dict: Mapping[str, Tensor]) -> None:
        """Copy the given weights into the engine's model and round them, unless it is the policy itself."""
        if not self.shares_policy:
            self.model.load_state_dict(state_dict)
            round_weights(self.model, self.weights_dtype)

    def own_model(self) -> None:
        """Sample from a copy of the model from now on, because its parameters are about to be sharded."""
        self.model, self.shares_policy = copy.deepcopy(self.model), False

    @torch.inference_mode()
    def generate(self, prompts: Sequence[list[int]], sampling: Sampling) -> list[Completion]:
        """One completion per prompt, in order.

        Raises:
            ValueError: ``check_request`` refuses the request.
        """
        check_request(prompts, sampling)
        completions: list[Completion] = []
        with _evaluation_mode(self.model):
            for start in range(0, len(prompts), self.max_batch):
                rows = slice(start, start + self.max_batch)
                completions += self._generate_batch(prompts[rows], sampling, sampling.seeds[rows])
        return completions

    def close(self) -> None:
        """Do nothing: the model belongs to the caller."""

    def _generate_batch(
        self, prompts: Sequence[list[int]], sampling: Sampling, seeds: Sequence[int | None]
    ) -> list[Completion]:
        device = self.model.device
        size, horizon = len(prompts), sampling.max_tokens
        ends = torch.tensor(self.ends, device=device)
        tokens = torch.full((size, horizon), self.ends[0], device=device)
        logprobs = torch.zeros(size, horizon, device=device)
        lengths = torch.full((size,), horizon, device=device)
        uniforms = _uniforms(seeds, horizon, device) if sampling.temperature > 0.0 else None

        decoder = self.decoder(self.model, prompts, horizon)
        rows = torch.arange(size, device=device)  # (A,) rows of the batch still in the decoder
        for t in range(horizon):
            u = None if uniforms is None else uniforms[rows, t]
            token, logprob = _choose(decoder.logits, sampling.temperature, u)
            tokens[rows, t], logprobs[rows, t] = token, logprob
            running = torch.isin(token, ends, invert=True)
            alive = int(running.sum())
            if alive < len(rows):
                lengths[rows[~running]] = t + 1
                # The last running rows move to the places of the finished ones.
                source = alive + running[alive:].nonzero().squeeze(1)
                target = (~running[:alive]).nonzero().squeeze(1)
                rows[target], token[target] = rows[source], token[source]
                rows, token = rows[:alive], token[:alive]
                decoder.keep(alive, source, target)
            if alive == 0 or t + 1 == horizon:
                break
            decoder.step(token)
        return self._collect(tokens, logprobs, lengths)

    def _collect(self, tokens: Tensor, logprobs: Tensor, lengths: Tensor) -> list[Completion]:
        counts = lengths.tolist()
        ids = [row[:n] for row, n in zip(tokens.tolist(), counts, strict=True)]
        scores = [row[:n] for row, n in zip(logprobs.tolist(), counts, strict=True)]
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [
            Completion(i, text, "stop" if i[-1] in self.ends else "length", s)
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


def _uniforms(seeds: Sequence[int | None], horizon: int, device: torch.device) -> Tensor:
    """(B, T) uniform numbers; row i depends on seed i alone, and is NaN without one.

    From NumPy, whose generators cost little to seed and give the same numbers for every device.
    """
    rows = np.full((len(seeds), horizon), np.nan)
    for row, seed in zip(rows, seeds, strict=True):
        if seed is not None:
            row[:] = np.random.Generator(np.random.Philox(seed)).random(horizon)
    return torch.tensor(rows, device=device)


def _choose(logits: Tensor, temperature: float, uniforms: Tensor | None) -> tuple[Tensor, Tensor]:
    """Next token (A,) and its log-probability (A,) from logits (A, V); greedy where there is no uniform."""
    token = logits.argmax(dim=-1)
    if uniforms is None:
        log_probabilities = logits.log_softmax(dim=-1)
    else:
        sampled = ~uniforms.isnan()
        scale = torch.where(sampled, temperature, 1.0).unsqueeze(-1).to(logits.dtype)
        log_probabilities = (logits / scale).log_softmax(dim=-1)
        # Inverse CDF in float64: the first token whose cumulative probability exceeds u.
        cumulative = log_probabilities.double().exp().cumsum(dim=-1)
        threshold = uniforms.unsqueeze(-1) * cumulative[:, -1:]
        drawn = torch.searchsorted(cumulative, threshold, right=True).squeeze(-1)
        token = torch.where(sampled, drawn.clamp(max=logits.shape[-1] - 1), token)
    return token, log_probabilities.gather(-1, token.unsqueeze(-1)).squeeze(-1)
