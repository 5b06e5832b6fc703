"""Copies of the repository in which Snakemake runs, with real or with pretended scripts."""

import copy
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

from support.paths import ROOT

BIN = Path(sys.executable).parent

TINY = {
    "experiment": {
        "methods": ["grpo", "sspo"],
        "bases": ["base"],
        "seeds": [0, 1],
        "control": True,
    },
    "task": {
        "splits": {
            "test": {"size": 8},
            "hard": {"size": 8},
            "validation": {"size": 4},
            "train": {"size": 16},
            "warmup": {"size": 32},
        }
    },
    "model": {"hidden_size": 16, "layers": 1, "heads": 1, "mlp_size": 16},
    "pretrain": {"threads": 1, "supervised": {"steps": 3, "warmup_steps": 1, "log_every": 1}},
    "rollout": {"prompts_per_step": 4, "group_size": 2, "max_response_tokens": 16},
    "train": {"steps": 2, "updates_per_rollout": 2, "eval_every": 1, "kl_every": 1},
    "validation": {"problems": 4},
    "evaluation": {"samples": 8, "pass_at": [1, 8]},
    "exact_study": {
        "max_tokens": 2,
        "prompts": 2,
        "draws": 1,
        "drifts": [0.0, 0.4],
        "features": 4,
        "updates": 2,
        "updates_per_rollout": [1, 2],
        "learning_rates": [0.1],
        "pushes": 3,
    },
}


# What a study of several regimes adds.
STUDY = {
    "bases": {
        "second": {"pretrain": {"seed": 1}},
        "letters": {"task": {"name": "count"}, "rollout": {"max_response_tokens": 20}},
    },
    "regimes": {
        "stale": {
            "bases": ["second"],
            "seeds": [5],
            "tuned": True,
            "train": {"updates_per_rollout": 4},
        },
        "other": {"bases": ["letters"], "seeds": [5], "tuned": False},
    },
    "tuning": {
        "base": "base",
        "seeds": [9],
        "accuracy": "pass@1",
        "validations": 1,
        "learning_rates": [1e-4],
        "params": {
            "grpo": [{"clip_low": 0.2, "clip_high": 0.2}],
            "sspo": [{"gate": "sigmoid", "tau_pos": 1.0, "tau_neg": 1.0}],
        },
    },
}


# Stands in for the interpreter: instead of computing, every script writes what its rule promises, with
# the content of that name in the folder `samples`, or else its command. The scripts in `real` run.
FAKE_PYTHON = """import json, pathlib, sys
script, arguments = pathlib.Path(sys.argv[1]).stem, sys.argv[2:]
if script in {real!r}:
    sys.exit(__import__("subprocess").call([{python!r}, *sys.argv[1:]]))
output = pathlib.Path(arguments[arguments.index("--output") + 1])
promised = {{
    "prepare_data": ["test.jsonl", "hard.jsonl", "validation.jsonl", "train.jsonl",
                     "warmup.jsonl", "summary.json", "provenance.json"],
    "pretrain": ["model/model.safetensors", "metrics.jsonl", "provenance.json"],
    "train": ["model/model.safetensors", "metrics.jsonl", "rollouts.jsonl.gz",
              "provenance.json"],
    "train_control": ["model/model.safetensors", "metrics.jsonl", "provenance.json"],
    "evaluate": ["eval.json", "scores.csv.gz", "completions.jsonl.gz", "eval.provenance.json"],
    "summarize": ["metrics.csv", "evaluations.csv", "scores.csv.gz", "provenance.json"],
    "choose": ["choices.json", "trials.csv", "provenance.json"],
    "measure": ["runs.csv", "runs.provenance.json"],
    "judge": ["claims.md", "claims.json", "comparisons.csv", "factorial.csv",
              "claims.provenance.json"],
    "plot": [output.name, output.stem + ".pdf", output.stem + ".json"],
    "before_after": [output.stem + suffix for suffix in (".png", ".pdf", ".md", ".json")],
    "write_table": [output.stem + suffix for suffix in (".html", ".md", ".csv", ".json")],
    "write_curves": [output.name, output.stem + ".json"],
    "write_overview": [output.name, output.stem + ".provenance.json"],
    "gate_curves": ["gates.csv", "gate_facts.csv", "gates.provenance.json"],
    "settings": ["settings.csv", "settings.provenance.json"],
    "exact_study": ["gradients.csv", "pushes.csv", "training.csv", "provenance.json"],
}}.get(script, [output.name])
folder = output.parent if output.suffix else output
for name in promised:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    sample = pathlib.Path("samples", path.name)
    path.write_bytes(sample.read_bytes() if sample.exists() else " ".join(sys.argv).encode())
if script == "choose":
    chosen = {{"trial": 0, "learning_rate": 0.5, "params": {{"chosen": True}}}}
    (output / "choices.json").write_text(json.dumps({{"grpo": chosen, "sspo": chosen}}))
"""


# Runs a script, and notes which modules of the project it loaded.
TRACING_PYTHON = """import atexit, json, os, pathlib, runpy, sys
sys.argv = sys.argv[1:]
arguments = [*sys.argv]
def note():
    files = [m.__file__ for n, m in list(sys.modules.items()) if n.split(".")[0] == "sspo"]
    pathlib.Path("loaded").mkdir(exist_ok=True)
    note = json.dumps({{"arguments": arguments, "files": files}})
    pathlib.Path("loaded", str(os.getpid())).write_text(note)
atexit.register(note)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Workspace:
    """A copy of the repository's code with a tiny configuration, in which Snakemake runs."""

    def __init__(self, folder, fake, real=()):
        self.folder, self.path = folder, os.environ["PATH"]
        folder.mkdir(exist_ok=True)
        for name in ("workflow", "src", "config", "profiles", "docs"):
            if (ROOT / name).exists():
                shutil.copytree(
                    ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
                )
        for name in ("Snakefile", "Makefile", "requirements.txt", "environment.yml"):
            shutil.copy(ROOT / name, folder / name)
        self.write(TINY)
        binaries = folder / "bin"
        binaries.mkdir()
        python = FAKE_PYTHON if fake else TRACING_PYTHON
        names = {"python": sys.executable, "real": ("write_config", *real)}
        (binaries / "stand_in.py").write_text(python.format(**names))
        # Not a line that names the interpreter: its path may have a space.
        (binaries / "python").write_text(
            f'#!/bin/sh\nexec "{sys.executable}" "{binaries}/stand_in.py" "$@"\n'
        )
        (binaries / "python").chmod(0o755)

    def write(self, overrides):
        (self.folder / "tiny.yaml").write_text(yaml.safe_dump(overrides))

    def edit(self, **changes):
        """Change nested values of the tiny configuration; keys are dotted with ``__``."""
        config = yaml.safe_load((self.folder / "tiny.yaml").read_text())
        for path, value in changes.items():
            *parents, last = path.split("__")
            section = config
            for key in parents:
                section = section.setdefault(key, {})
            section[last] = copy.deepcopy(value)  # a later edit must not reach the caller's own
        self.write(config)

    def append(self, file, text):
        with open(self.folder / file, "a") as opened:
            opened.write(text)

    def environment(self):
        return {
            **os.environ,
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{BIN}{os.pathsep}{self.path}",
            "PYTHONPATH": str(self.folder / "src"),
        }

    def command(self, *arguments):
        return [BIN / "snakemake", "--configfile", "tiny.yaml", *arguments]

    def snakemake(self, *arguments):
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
        )

    def run(self, *arguments):
        done = self.snakemake(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def planned(self):
        """What a dry run would do: ``rule`` or ``rule:wildcard`` of every job."""
        text = self.run("--dry-run", "--cores", "2")
        jobs = re.findall(r"^rule (\w+):\n((?: {4}.*\n)+)", text, flags=re.MULTILINE)
        planned = set()
        for name, body in jobs:
            wildcard = re.search(r"wildcards: \w+=(\S+)", body)
            planned.add(f"{name}:{wildcard[1]}" if wildcard else name)
        return planned - {"all"}


def pretended_study(folder):
    """A workspace in which a (pretended) study of several regimes has run."""
    workspace = Workspace(folder, fake=True)
    workspace.edit(**STUDY)
    workspace.run("--cores", "2")
    return workspace


class Background:
    """A pipeline in a process group of its own, which can be killed as a whole or at its head."""

    def __init__(self, workspace, *arguments):
        self.workspace = workspace
        self.process = subprocess.Popen(
            workspace.command("--cores", "2", *arguments),
            cwd=workspace.folder,
            env=workspace.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def kill(self, *, group):
        (os.killpg if group else os.kill)(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def finish(self):
        output, _ = self.process.communicate(timeout=300)
        return self.process.returncode, output

    def clean_up(self):
        if self.process.poll() is None:
            self.kill(group=True)


def wait_for(condition, seconds=300.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


IN_TIME = {"progress.json", ".lock", "tensorboard"}


def results_of(workspace):
    """Every result and figure, logs and timings left out: path -> bytes."""
    found = {}
    for top in ("results", "figures"):
        for path in (workspace.folder / top).rglob("*"):
            place = path.relative_to(workspace.folder)
            timed = IN_TIME & {*place.parts} or place.parts[1] in ("logs", "benchmarks")
            if path.is_file() and not timed:
                found[str(place)] = path.read_bytes()
    return found


def copy_of(workspace, folder):
    """The same code and configuration, without results."""
    copied = Workspace.__new__(Workspace)
    copied.folder, copied.path = folder, workspace.path
    shutil.copytree(workspace.folder, folder)
    return copied
