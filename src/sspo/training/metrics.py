"""What a training step reports: one flat record per step, appended to ``metrics.jsonl``.

Records hold no times: the same config gives the same bytes. Wall-clock progress goes elsewhere.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sspo.pipeline.files import write_bytes

Metrics = dict[str, Any]

LOGS = ("metrics", "rollouts")


@dataclass
class UpdateStats:
    """Per-token and per-response values of a step's updates, pooled before they are summarised.

    Pooling first makes every statistic independent of how minibatches were split.
    """

    log_ratio: list[Tensor] = field(default_factory=list)
    coefficient: list[Tensor] = field(default_factory=list)
    mass: list[Tensor] = field(default_factory=list)
    positive: list[Tensor] = field(default_factory=list)
    sequence_weight: list[Tensor] = field(default_factory=list)

    def add(
        self, stats: Mapping[str, Tensor], coefficients: Tensor, advantages: Tensor, mask: Tensor
    ) -> None:
        """Take in one micro-batch.

        Args:
            stats: a loss's stats, ``log_ratio`` (B, T) and ``sequence_weight`` (B,).
            coefficients: (B, T) from ``sspo.objectives.losses.token_coefficients``; NaN where undefined.
            advantages: (B,).
            mask: (B, T).
        """
        tokens = mask.bool()
        lengths = mask.sum(dim=1, keepdim=True, dtype=torch.float32).clamp(min=1.0)
        mass = (coefficients * advantages.unsqueeze(1) / lengths).abs().nan_to_num()
        self.log_ratio.append(stats["log_ratio"][tokens].cpu())
        self.coefficient.append(coefficients[tokens].cpu())
        self.mass.append(mass[tokens].cpu())
        self.positive.append((advantages > 0).unsqueeze(1).expand_as(mask)[tokens].cpu())
        self.sequence_weight.append(stats["sequence_weight"].cpu())

    def extend(self, other: UpdateStats) -> None:
        """Take in what another process pooled of the same updates."""
        self.log_ratio += other.log_ratio
        self.coefficient += other.coefficient
        self.mass += other.mass
        self.positive += other.positive
        self.sequence_weight += other.sequence_weight

    def summary(self) -> Metrics:
        """Statistics of the log-ratios (nats), gradient coefficients and sequence weights.

        ``clip_fraction`` is the share of tokens with a non-zero advantage whose gradient is exactly
        zero; ``coefficient_*`` describe the gradient relative to on-policy REINFORCE, also by sign
        of the advantage and side of the ratio (``pos_up`` is A > 0, r > 1); ``mass_*`` is the share
        of sum |dL / d log pi| that comes from there, the rest being tokens at r = 1 exactly.
        """
        log_ratio, coefficient = torch.cat(self.log_ratio), torch.cat(self.coefficient)
        positive, weight = torch.cat(self.positive), torch.cat(self.sequence_weight)
        mass = torch.cat(self.mass).double()
        low, median, high = _quantiles(log_ratio, (0.01, 0.5, 0.99))
        used = ~coefficient.isnan()
        record: Metrics = {
            "log_ratio_min": log_ratio.min().item(),
            "log_ratio_p01": low,
            "log_ratio_p50": median,
            "log_ratio_p99": high,
            "log_ratio_max": log_ratio.max().item(),
            "log_ratio_var": log_ratio.var(unbiased=False).item(),
            "log_ratio_rms": log_ratio.square().mean().sqrt().item(),
            "sequence_weight_min": weight.min().item(),
            "sequence_weight_max": weight.max().item(),
            "sequence_weight_var": weight.var(unbiased=False).item(),
            "clip_fraction": _mean((coefficient[used] == 0.0).float()),
            "coefficient_mean": _mean(coefficient[used]),
        }
        sides = {"up": log_ratio > 0.0, "down": log_ratio < 0.0}
        for sign, chosen in (("pos", positive), ("neg", ~positive)):
            for side, there in sides.items():
                record[f"coefficient_{sign}_{side}"] = _mean(coefficient[used & chosen & there])
                record[f"mass_{sign}_{side}"] = _share(mass[chosen & there], mass)
        return record


class RunLog:
    """Appends records to JSONL files of a run in progress, and drops what a resumed run will redo."""

    def __init__(self, folder: str | Path) -> None:
        """``folder`` is where ``metrics.jsonl`` and ``rollouts.jsonl`` grow."""
        self.folder = Path(folder)

    def mark(self) -> Metrics:
        """What the files hold now, flushed to disk: name -> length in bytes and SHA-256."""
        mark = {}
        for name in LOGS:
            with open(self._path(name), "ab") as file:
                os.fsync(file.fileno())
            content = self._path(name).read_bytes()
            mark[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        return mark

    def holds(self, mark: Metrics | None) -> bool:
        """Whether the files still begin with what they held at the mark."""
        if mark is None:
            return False
        try:
            return all(
                hashlib.sha256(self._until(name, mark)).hexdigest() == mark[name]["sha256"]
                for name in LOGS
            )
        except (OSError, KeyError, TypeError):
            return False

    def rewind(self, mark: Metrics | None) -> None:
        """Drop what came after the mark; everything for None."""
        for name in LOGS:
            write_bytes(self._path(name), self._until(name, mark) if mark else b"")

    def write(self, name: str, records: Iterable[Metrics]) -> None:
        """Append records to ``{name}.jsonl``."""
        with open(self._path(name), "a", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)

    def publish(self, output: Path) -> None:
        """Copy the finished logs to ``metrics.jsonl`` and ``rollouts.jsonl.gz`` under ``output``."""
        write_bytes(output / "metrics.jsonl", self._path("metrics").read_bytes())
        # Without a time stamp, so that one config gives one file.
        rollouts = gzip.compress(self._path("rollouts").read_bytes(), mtime=0)
        write_bytes(output / "rollouts.jsonl.gz", rollouts)

    def _until(self, name: str, mark: Metrics) -> bytes:
        return self._path(name).read_bytes()[: mark[name]["bytes"]]

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"


def _quantiles(values: Tensor, at: tuple[float, ...]) -> list[float]:
    """Quantiles by sorting (torch.quantile refuses more than 2^24 values)."""
    ordered = values.sort().values
    return [ordered[round(q * (len(ordered) - 1))].item() for q in at]


def _share(part: Tensor, whole: Tensor) -> float | None:
    """Sum over sum, or None (JSON null) of nothing."""
    total = whole.sum().item()
    return part.sum().item() / total if total > 0.0 else None


def _mean(values: Tensor) -> float | None:
    """Mean, or None (JSON null) where there is nothing to average."""
    return values.mean().item() if len(values) else None
