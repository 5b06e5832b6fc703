"""How far a run is, and how long it still takes."""

from __future__ import annotations

from pathlib import Path

from sspo.pipeline.files import write_json
from sspo.training.metrics import Metrics


class Progress:
    """Reports each step of a run: a line in the log, and ``progress.json`` for ``make status``."""

    def __init__(self, path: Path, run: str, steps: int) -> None:
        """``path`` is the ``progress.json`` of the run named ``run``, which has ``steps`` steps."""
        self.path, self.run, self.steps = path, run, steps
        self.seconds: list[float] = []

    def __call__(self, step: int, record: Metrics, seconds: float) -> None:
        """Report the end of a step that took ``seconds``; the last 20 steps predict the rest."""
        self.seconds.append(seconds)
        recent = self.seconds[-20:]
        left = (self.steps - step) * sum(recent) / len(recent)
        state = {
            "run": self.run,
            "step": step,
            "steps": self.steps,
            "reward": record.get("reward"),
            "greedy": record.get("greedy"),
            "seconds_left": round(left, 1),
        }
        write_json(self.path, {k: v for k, v in state.items() if v is not None})
        shown = " ".join(
            f"{key} {record[key]:.3f}"
            for key in ("loss", "reward", "entropy", "grad_norm", "greedy", "pass@1")
            if record.get(key) is not None
        )
        print(f"{self.run} step {step}/{self.steps} {shown} | {left:.0f} s left", flush=True)
