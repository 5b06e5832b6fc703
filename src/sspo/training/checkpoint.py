"""Saved training states: written whole or not at all, checked before they are trusted.

A state is a folder ``step-000040`` with the weights and the optimizer in safetensors and a
``state.json`` that lists their SHA-256. It is written under another name, flushed to disk, then
renamed. All randomness is a function of (seed, step, ...), so no generator state is needed.
"""

from __future__ import annotations

import hashlib
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

log = logging.getLogger(__name__)

WEIGHTS_FILE, OPTIMIZER_FILE, STATE_FILE = (
    "weights.safetensors",
    "optimizer.safetensors",
    "state.json",
)


@dataclass(frozen=True)
class CheckpointStore:
    """The saved states of one run.

    Attributes:
        folder: where the states live.
        fingerprint: identifies config, inputs and code; states of another fingerprint are ignored.
    """

    folder: Path
    fingerprint: str

    def save(
        self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, extra: JsonDict
    ) -> None:
        """Save the state after ``step`` and remove all others.

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
            "sha256": {name: _sha256(partial / name) for name in (WEIGHTS_FILE, OPTIMIZER_FILE)},
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

        Args:
            model: receives the weights.
            optimizer: receives its state.
            usable: whether what belongs to a state besides it, by its extra, is intact too.

        Returns:
            (step, extra), or (0, {}) when there is nothing to resume. Damaged states and states of
            another fingerprint are logged and skipped.
        """
        for folder in self._states():
            state = self._read(folder)
            if state is not None and not usable(state["extra"]):
                log.warning("the run log that belongs to %s is damaged; skipped", folder)
            elif state is not None:
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
                _sha256(folder / name) == state["sha256"][name]
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
    """Keep weights that are NaN or infinite from being saved as a result.

    Raises:
        ValueError: names the first such weight.
    """
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ValueError(f"{when}: weight {name} is not finite; lower the learning rate")


def _trained_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """What training changes, tied tensors once (safetensors refuses shared memory)."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return {name: tensor.detach().contiguous() for name, tensor in trained.items()}


def _flatten_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{index}.{key}": value for index, one in state.items() for key, value in one.items()}


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
