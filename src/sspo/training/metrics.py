"""The record of a training step: one flat line of ``metrics.jsonl``.

Records hold no times, so that the same config gives the same bytes. ``sspo.training.progress`` reports
times.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sspo.pipeline.files import write_bytes

Metrics = dict[str, Any]

LOGS = ("metrics", "rollouts")

# The part of a step in which no response taught anything and none was scored.
NOTHING = {name: torch.empty(0) for name in ("log_ratio", "coefficient", "mass", "sequence_weight")}
NOTHING["positive"] = torch.empty(0, dtype=torch.bool)

GRPO_CLIP = 0.2  # of the clip that every run is measured by, whatever its objective


@dataclass
class UpdateStats:
    """Values of every token and response of a step's updates, summarised once at the end.

    A response with zero advantage is left out, as it gets no gradient. Pooling first makes every statistic
    independent of how minibatches were split.
    """

    # By micro-batch: log-ratio, coefficient, mass and sign of every token; what else the loss says of
    # every response.
    parts: list[dict[str, Tensor]] = field(default_factory=list)

    def add(
        self, stats: Mapping[str, Tensor], coefficients: Tensor, advantages: Tensor, mask: Tensor
    ) -> None:
        """Add the values of one micro-batch.

        Args:
            stats: a loss's stats, ``log_ratio`` (B, T) in nats and ``sequence_weight`` (B,); also
                ``off_policy`` (B,), 1 for a response that was masked, if the run masks any, and
                ``dropped`` (B,), the share of its tokens that a correction dropped, if one can.
            coefficients: (B, T) from ``sspo.objectives.losses.token_coefficients``; NaN where undefined.
            advantages: (B,).
            mask: (B, T).
        """
        teaches = advantages != 0.0
        tokens = mask.bool() & teaches.unsqueeze(1)
        lengths = mask.sum(dim=1, keepdim=True, dtype=torch.float32).clamp(min=1.0)
        mass = (coefficients * advantages.unsqueeze(1) / lengths).abs().nan_to_num()
        positive = (advantages > 0).unsqueeze(1).expand_as(mask)
        of_tokens = {"coefficient": coefficients, "mass": mass, "positive": positive}
        of_tokens["log_ratio"] = stats["log_ratio"]
        found = {name: values[tokens] for name, values in of_tokens.items()}
        found |= {name: values[teaches] for name, values in stats.items() if name != "log_ratio"}
        self.parts.append({name: values.cpu() for name, values in found.items()})

    def summary(self) -> Metrics:
        """Statistics of the log-ratios (nats), gradient coefficients and sequence weights.

        ``clip_fraction`` is the share of tokens whose gradient is exactly zero. ``coefficient_mean`` is
        the gradient relative to on-policy REINFORCE. It is also given by the sign of the advantage A and
        the side of the ratio r: ``coefficient_pos_up`` is for A > 0, r > 1. ``mass_pos_up`` is the share
        of the sum of |dL / d log pi| that such tokens have; the four shares leave out tokens with r = 1
        exactly.

        The dose of a regime is ``log_ratio_rms``; ``grpo_clip_share``, the share of tokens that GRPO's
        clip of 0.2 would cut off, whatever the objective; and ``sequence_weight_distance``, the mean
        |weight - 1| of the objective's own sequence weights.

        A run that masks off-policy responses also has ``masked_responses``, their share. One whose
        correction drops tokens has ``dropped_tokens``, the mean share of a response. A statistic of
        nothing is None (JSON null).
        """
        parts = self.parts or [NOTHING]
        pooled = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        log_ratio, coefficient = pooled["log_ratio"], pooled["coefficient"]
        positive, weight = pooled["positive"], pooled["sequence_weight"]
        mass = pooled["mass"].double()
        low, median, high = _quantiles(log_ratio, (0.01, 0.5, 0.99))
        ratio = log_ratio.exp()
        cut = torch.where(positive, ratio > 1.0 + GRPO_CLIP, ratio < 1.0 - GRPO_CLIP)
        record: Metrics = {
            "log_ratio_min": _of(log_ratio, torch.min),
            "log_ratio_p01": low,
            "log_ratio_p50": median,
            "log_ratio_p99": high,
            "log_ratio_max": _of(log_ratio, torch.max),
            "log_ratio_var": _of(log_ratio, _variance),
            "log_ratio_rms": _of(log_ratio, lambda values: values.square().mean().sqrt()),
            "sequence_weight_min": _of(weight, torch.min),
            "sequence_weight_max": _of(weight, torch.max),
            "sequence_weight_var": _of(weight, _variance),
            "sequence_weight_distance": _of((weight - 1.0).abs(), torch.mean),
            "grpo_clip_share": _of(cut.float(), torch.mean),
            "clip_fraction": _of((coefficient == 0.0).float(), torch.mean),
            "coefficient_mean": _of(coefficient, torch.mean),
        }
        sides = {"up": log_ratio > 0.0, "down": log_ratio < 0.0}
        for sign, chosen in (("pos", positive), ("neg", ~positive)):
            for side, there in sides.items():
                record[f"coefficient_{sign}_{side}"] = _of(coefficient[chosen & there], torch.mean)
                record[f"mass_{sign}_{side}"] = _share(mass[chosen & there], mass)
        if "off_policy" in pooled:
            record["masked_responses"] = _of(pooled["off_policy"], torch.mean)
        if "dropped" in pooled:
            record["dropped_tokens"] = _of(pooled["dropped"], torch.mean)
        return record


class RunLog:
    """The JSONL files of a run in progress: ``metrics.jsonl`` and ``rollouts.jsonl`` in ``folder``.

    A saved state holds a mark of these files. A resumed run goes back to the mark of its state, and
    so writes the steps after it once.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def mark(self) -> Metrics:
        """Flush the files to disk and return name -> length in bytes and SHA-256 of what they hold."""
        mark = {}
        for name in LOGS:
            with open(self._path(name), "ab") as file:
                os.fsync(file.fileno())
            content = self._path(name).read_bytes()
            mark[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        return mark

    def holds(self, mark: Metrics | None) -> bool:
        """Whether the files still begin with what they held at the mark; False without a mark."""
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
        """Drop what was written after the mark, or everything without a mark."""
        for name in LOGS:
            write_bytes(self._path(name), self._until(name, mark) if mark else b"")

    def write(self, name: str, records: Iterable[Metrics]) -> None:
        """Append records to ``{name}.jsonl``."""
        with open(self._path(name), "a", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)

    def publish(self, output: Path) -> None:
        """Copy the finished logs to ``metrics.jsonl`` and ``rollouts.jsonl.gz`` under ``output``."""
        write_bytes(output / "metrics.jsonl", self._path("metrics").read_bytes())
        # mtime=0: gzip would write the time into the file, and one config must give the same bytes.
        rollouts = gzip.compress(self._path("rollouts").read_bytes(), mtime=0)
        write_bytes(output / "rollouts.jsonl.gz", rollouts)

    def _until(self, name: str, mark: Metrics) -> bytes:
        return self._path(name).read_bytes()[: mark[name]["bytes"]]

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"


def _quantiles(values: Tensor, at: tuple[float, ...]) -> list[float] | list[None]:
    """Nearest-rank quantiles; torch.quantile refuses more than 2^24 values."""
    if not len(values):
        return [None] * len(at)
    ordered = values.sort().values
    return [ordered[round(q * (len(ordered) - 1))].item() for q in at]


def _share(part: Tensor, whole: Tensor) -> float | None:
    """Sum of the part over that of the whole; None (JSON null) where the whole is 0."""
    total = whole.sum().item()
    return part.sum().item() / total if total > 0.0 else None


def _of(values: Tensor, statistic: Callable[[Tensor], Tensor]) -> float | None:
    """A statistic, or None (JSON null) without values."""
    return statistic(values).item() if len(values) else None


def _variance(values: Tensor) -> Tensor:
    return values.var(unbiased=False)
