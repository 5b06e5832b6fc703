"""What an entry of the table of losses is: a function, the mean over its terms, and its parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sspo.objectives.batch import Batch, prepare

LossAndStats = tuple[Tensor, dict[str, Tensor]]
TermsAndWeight = tuple[Tensor, Tensor]

LENGTH = "max_response_tokens"  # the parameter of objectives that divide by a constant length


@dataclass(frozen=True)
class Objective:
    """An entry of ``sspo.objectives.losses.LOSSES``.

    Attributes:
        function: (batch, **params) -> what is maximised, and the importance weight.
        terms: whether the function returns "token" terms (B, T) or "response" terms (B, 1).
        over: how the terms are averaged. "responses" is the mean over responses, each of which is the
            mean over its own tokens if the terms are tokens. "tokens" is the mean over all tokens of the
            batch. "length" is the mean over responses of their sum of terms divided by a constant, the
            parameter ``max_response_tokens``.
    """

    function: Callable[..., TermsAndWeight]
    terms: Literal["token", "response"]
    over: Literal["responses", "tokens", "length"] = "responses"

    def __call__(
        self,
        logprobs: Tensor,
        old_logprobs: Tensor,
        advantages: Tensor,
        mask: Tensor,
        **params: object,
    ) -> LossAndStats:
        """The loss and its statistics, as ``sspo.objectives.losses`` describes them.

        Raises:
            ValueError: the shapes do not fit together, or a parameter is out of its range.
        """
        batch = prepare(logprobs, old_logprobs, advantages, mask)
        length = params.pop(LENGTH, None) if self.over == "length" else None
        terms, weight = self.function(batch, **params)
        stats = {"log_ratio": batch.log_ratio, "sequence_weight": weight.squeeze(1)}
        return -self._mean(batch, terms, length), {k: v.detach() for k, v in stats.items()}

    def _mean(self, batch: Batch, terms: Tensor, length: object) -> Tensor:
        if self.over == "tokens":
            return batch.token_mean(terms)
        if self.over == "length":
            return ((terms * batch.mask).sum(dim=1) / _whole(LENGTH, length)).mean()
        return (batch.sequence_mean(terms) if self.terms == "token" else terms).mean()

    def parameters(self) -> dict[str, bool]:
        """Parameter -> whether it has to be given."""
        found = inspect.signature(self.function).parameters.values()
        own = {p.name: p.default is p.empty for p in found if p.kind is p.KEYWORD_ONLY}
        return own | ({LENGTH: True} if self.over == "length" else {})

    def units(self, mask: Tensor) -> float:
        """The number of tokens or responses, whichever the mean is over, in a batch with this (B, T) mask.

        The trainer weighs micro-batches by it, so that gradients do not depend on how a batch is split.
        """
        return mask.sum(dtype=torch.float64).item() if self.over == "tokens" else float(len(mask))


def require(holds: bool, key: str, value: object, must: str) -> None:
    """Refuse a parameter's value.

    Raises:
        ValueError: it does not hold what ``must`` says.
    """
    if not holds:
        raise ValueError(f"{key} = {value} must be {must}")


def _whole(key: str, value: object) -> float:
    number = float(value) if isinstance(value, int | float) else 0.0
    require(number.is_integer() and number >= 1.0, key, value, "a whole number of at least 1")
    return number
