"""Saved training states that a run resumes from.

A state is a folder ``step-000040``. It holds the weights and the optimizer in safetensors, which
cannot run code when loaded as a pickle can, and a ``state.json`` that lists their SHA-256. It is
written under another name, flushed to disk and then renamed, so a crash leaves no half-written state.
No random-generator state is saved: every random number is a function of the seed and the step.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sspo.config.reading import JsonDict
from sspo.models.weights import first_non_finite
from sspo.pipeline.provenance import sha256_file

log = logging.getLogger(__name__)

WEIGHTS_FILE, OPTIMIZER_FILE, STATE_FILE = (
    "weights.safetensors",
    "optimizer.safetensors",
    "state.json",
)


@dataclass(frozen=True)
class CheckpointStore:
    """The saved states of one run."""

    folder: Path
    fingerprint: str  # of config, inputs and code; states with another one are not loaded

    def save(
        self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, extra: JsonDict
    ) -> None:
        """Save the state after ``step``, with ``extra`` in its ``state.json``; remove all others.

        Raises:
            ValueError: a weight is not finite; nothing is saved.
        """
        refuse_non_finite(model, f"step {step}")
        final = self.folder / f"step-{step:06d}"
        partial = final.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file(_trained_tensors(model), partial / WEIGHTS_FILE)
        save_file(_flatten_optimizer(optimizer), partial / OPTIMIZER_FILE)
        state = {
            "step": step,
            "fingerprint": self.fingerprint,
            "extra": extra,
            "sha256": {
                name: sha256_file(partial / name) for name in (WEIGHTS_FILE, OPTIMIZER_FILE)
            },
        }
        (partial / STATE_FILE).write_text(json.dumps(state))
        for path in partial.iterdir():
            _flush(path)
        shutil.rmtree(final, ignore_errors=True)
        os.rename(partial, final)
        _flush(self.folder)
        for other in self._states():
            if other != final:
                shutil.rmtree(other)

    def restore(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        usable: Callable[[JsonDict], bool] = lambda extra: True,
    ) -> tuple[int, JsonDict]:
        """Load the newest intact state into model and optimizer.

        Damaged states and states with another fingerprint are skipped with a warning; so are those for
        whose ``extra`` ``usable`` is false, because their run log is damaged.

        Returns:
            (step, extra), or (0, {}) when there is nothing to resume.
        """
        for folder in self._states():
            state = self._read(folder)
            if state is not None and not usable(state["extra"]):
                log.warning("the run log that belongs to %s is damaged; skipped", folder)
            elif state is not None:
                # Not strict: frozen weights and the second name of a tied weight are not saved.
                model.load_state_dict(load_file(folder / WEIGHTS_FILE), strict=False)
                _restore_optimizer(optimizer, load_file(folder / OPTIMIZER_FILE))
                return state["step"], state["extra"]
        return 0, {}

    def clear(self) -> None:
        """Remove all states, once the run's results are in place."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _states(self) -> list[Path]:
        """Saved states, newest first."""
        states = [p for p in self.folder.glob("step-*") if p.name.removeprefix("step-").isdecimal()]
        return sorted(states, key=lambda p: int(p.name.removeprefix("step-")), reverse=True)

    def _read(self, folder: Path) -> JsonDict | None:
        try:
            state = json.loads((folder / STATE_FILE).read_text())
            intact = {"step", "fingerprint", "extra"} <= state.keys() and all(
                sha256_file(folder / name) == state["sha256"][name]
                for name in (WEIGHTS_FILE, OPTIMIZER_FILE)
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            intact = False
        if not intact:
            log.warning("%s is damaged; skipped", folder)
            return None
        if state["fingerprint"] != self.fingerprint:
            log.warning("%s belongs to another config, data or code; skipped", folder)
            return None
        return state


def refuse_non_finite(model: nn.Module, when: str) -> None:
    """Check every weight before it is saved as a result; ``when`` opens the message.

    Raises:
        ValueError: a weight is NaN or infinite; names the first one.
    """
    if name := first_non_finite(model):
        raise ValueError(f"{when}: weight {name} is not finite; lower the learning rate")


def _trained_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights that training changes.

    Taken from the parameters, where a tied weight stands once: safetensors refuses shared memory, and
    ``state_dict`` lists a tied weight under both of its names.
    """
    return {n: p.detach().contiguous() for n, p in model.named_parameters() if p.requires_grad}


def _flatten_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{index}.{key}": value for index, one in state.items() for key, value in one.items()}


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
