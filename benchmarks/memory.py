"""(e) Measure the peak memory of a forward and backward pass by response length, batch and vocabulary.

Every point has a fresh process, because a process reports only the peak of its whole life. ``naive``
computes the full logits, (B, T, V) in float32; ``chunked`` is ``sspo.models.policy.score``.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

from setting import write

POINTS = {
    "response_tokens": [128, 256, 512, 1024, 2048],
    "batch": [4, 8, 16, 32, 64],
    "vocabulary": [1_000, 8_000, 32_000, 151_936],
}
BASE = {"response_tokens": 512, "batch": 8, "vocabulary": 32_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder for memory.json")
    output = parser.parse_args().output
    rows = []
    for axis, values in POINTS.items():
        for value in values:
            point = BASE | {axis: value}
            row: dict[str, object] = {"axis": axis, **point}
            for mode in ("chunked", "naive"):
                row[f"{mode}_mib"] = peak(mode, point)
            row["logits_mib"] = (
                point["batch"] * point["response_tokens"] * point["vocabulary"] * 4 / 2**20
            )
            rows.append(row)
    write(output, "memory", rows)


def peak(mode: str, point: dict[str, int]) -> float:
    """MiB above what the process holds once the model is built; NaN if it ran out of memory."""
    done = subprocess.run(
        [sys.executable, __file__, mode, json.dumps(point)], capture_output=True, text=True
    )
    return float(done.stdout) if done.returncode == 0 else float("nan")


def measure(mode: str, point: dict[str, int]) -> float:
    import torch

    from sspo.config.settings import ModelConfig
    from sspo.models.policy import ScoreBatch, build_model, score

    torch.set_num_threads(1)
    size, length = point["batch"], point["response_tokens"]
    model = build_model(
        ModelConfig(hidden_size=64, layers=3, heads=2, mlp_size=192, context=length + 16),
        point["vocabulary"],
        seed=0,
    )
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(2, point["vocabulary"], (size, length + 8), generator=generator).tolist()
    batch = ScoreBatch.collate([r[:8] for r in tokens], [r[8:] for r in tokens], "cpu")
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if mode == "chunked":
        logprobs, _ = score(model, batch, chunk_tokens=1024)
    else:
        logits = model(batch.input_ids, use_cache=False).logits[:, 7:-1]
        logprobs = logits.float().log_softmax(-1).gather(-1, batch.response_ids[..., None])
    logprobs.sum().backward()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


if __name__ == "__main__":
    if len(sys.argv) == 3 and not sys.argv[1].startswith("--"):
        print(measure(sys.argv[1], json.loads(sys.argv[2])))
    else:
        main()
