"""Measure sampling, training and repeats on a GPU, without Snakemake, a network or the locked packages.

    benchmarks/gpu.sh gpu                       # 27 M parameters of config/gpu.yaml in bfloat16
    benchmarks/gpu.sh gpu --device cpu --tiny   # tries the script

A short supervised warm-up makes a model whose responses end by themselves. Then one step of the profile's
first run is timed, and repeats are compared bit by bit. ``gpu.json`` has

- ``matmul_tflops``: of a large matrix product in the run's precision;
- ``sampled_per_second``, ``trained_per_second``: response tokens;
- ``training_share``: floating-point operations of training (6 per weight and response token) over those of
  the matrix product;
- ``memory_gib``: the largest that PyTorch took, on a CPU the whole process;
- ``determinism``: rows of ``determinism.py``;
- ``batch``: rows of ``batch.py``, native against TRL, where TRL is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import torch
import transformers
from setting import RUN, matmul_rate

from sspo.config.profile import Profile, read_profile
from sspo.config.reading import parse, plain
from sspo.config.run import PretrainConfig, RunConfig
from sspo.data.problems import Record, write_jsonl
from sspo.data.tasks import make_splits
from sspo.experiment.expand import expand_profile
from sspo.models.policy import build_model, save_model
from sspo.models.tokenizer import make_tokenizer
from sspo.models.torch_setup import set_up_torch
from sspo.pipeline.files import write_json
from sspo.planning.calibration import measure_step
from sspo.training.supervised import encode_solutions, train_supervised

HERE = Path(__file__).parent
TINY = {
    "model": {"hidden_size": 32, "layers": 2, "heads": 1, "mlp_size": 64},
    "rollout": {"prompts_per_step": 8},
    "train": {"micro_batch": 16},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for gpu.json")
    parser.add_argument("--device", default="cuda", help="torch device")
    parser.add_argument("--warmup", type=int, default=300, help="supervised updates")
    parser.add_argument("--tiny", action="store_true", help="a small model, to try the script")
    given = parser.parse_args()
    profile = read_profile([HERE.parent / "config/gpu.yaml"])
    precision = "float32" if given.device == "cpu" else "bfloat16"
    compute = {"device": given.device, "dtype": precision}
    tiny = TINY if given.tiny else {}
    profile = profile.changed(compute=compute, tuning=None, regimes={}, **tiny)
    run, problems = prepare(profile, given.output, 3 if given.tiny else given.warmup)
    report = {
        "device": torch.cuda.get_device_name() if given.device != "cpu" else "cpu",
        "versions": {m.__name__: m.__version__ for m in (torch, transformers)},
        **speeds(run, given.output / "base/model", problems, 512 if given.tiny else 8192),
    }
    for name, needs in (("determinism", "torch"), ("batch", "trl")):
        found = importlib.util.find_spec(needs) is not None
        report[name] = benchmark(name, given.output) if found else None
    write_json(given.output / "gpu.json", report)
    print(json.dumps(report, indent=1))


def prepare(profile: Profile, folder: Path, warmup: int) -> tuple[RunConfig, list[Record]]:
    """Put what the benchmarks read where a pipeline would: base model, run config, problems."""
    configs = expand_profile(profile, "gpu.yaml", installed=False)
    first = next(place for place in configs if place.startswith("runs/"))
    run, base = parse(RunConfig, configs[first]), parse(PretrainConfig, configs["base"])
    set_up_torch(run.compute)
    sizes = {"train": 1024, "warmup": warmup * base.supervised.batch_size}
    splits = {name: profile.task.splits[name].changed(size=size) for name, size in sizes.items()}
    made = make_splits(profile.task.name, splits, profile.task.style, profile.task.seed)
    tokenizer = make_tokenizer(base, [])
    model = build_model(base.model, len(tokenizer), base.seed).to(run.compute.device)
    supervised = base.supervised.changed(steps=warmup, log_every=100)
    examples = encode_solutions(made["warmup"], tokenizer)
    print(f"warm-up: {warmup} updates of {supervised.batch_size} solutions", flush=True)
    train_supervised(model, examples, supervised, 0, dict, print, run.compute.dtype)
    save_model(model, tokenizer, folder / "base/model")
    write_jsonl(folder / "data/train.jsonl", made["train"])
    write_json(folder / "runs" / RUN / "config.json", plain(run))
    return run, made["train"]


def speeds(run: RunConfig, model: Path, problems: list[Record], side: int) -> dict[str, object]:
    """Rates of one step, and how they compare with the product of two square matrices."""
    rates = plain(measure_step(run, model, problems, learned=True))
    matmul = matmul_rate(side, run.compute.device, run.compute.dtype)
    share = 6 * rates["parameters"] * rates["trained_per_second"] / matmul
    return {**rates, "matmul_tflops": matmul / 1e12, "training_share": share}


def benchmark(name: str, results: Path) -> object:
    """The rows that another benchmark of this folder writes."""
    command = [sys.executable, HERE / f"{name}.py", "--results", results, "--output", results]
    subprocess.run(command, check=True)
    return json.loads((results / f"{name}.json").read_text())


if __name__ == "__main__":
    main()
