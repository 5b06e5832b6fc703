"""How training stops when it cannot go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sspo.update import MicroBatch, Rollout


class TrainingError(RuntimeError):
    """Training cannot go on; the message names run, step and what was found."""


class PoisonedUpdateError(TrainingError):
    """A minibatch of non-finite loss or gradient, met before it could change the policy.

    Attributes:
        step: the rollout.
        update: which of its updates, from 1.
        minibatch: what the update was computed from.
        problems: id of the problem of every row of the rollout.
        found: loss and gradient norm, as text.
    """

    def __init__(
        self,
        run: str,
        step: int,
        update: int,
        minibatch: list[MicroBatch],
        rollout: Rollout,
        found: str,
    ) -> None:
        group = len(rollout.completions) // len(rollout.problems)
        self.step, self.update, self.minibatch, self.found = step, update, minibatch, found
        self.problems = [str(p["id"]) for p in rollout.problems for _ in range(group)]
        super().__init__(f"{run}: step {step}, update {update}: {found}; nothing was updated")
