"""Run a workflow script in forked children and kill them at random moments; for test_resume.py.

PyTorch is imported once here, so that a child starts at once and nearly all of its life is training.
A plan on standard input, JSON: ``whole`` and ``killed`` (two folders) and ``jobs`` (a list of [script,
arguments, random seed, kills]): each job runs once undisturbed in the one folder, then killed and restarted
in the other. The answer on standard output, JSON: for every job the lives of its killed run.
"""

from __future__ import annotations

import json
import os
import random
import runpy
import signal
import sys
import time
from pathlib import Path

import torch  # noqa: F401 (imported for the children)
import transformers  # noqa: F401

import sspo.training.setup
import sspo.training.trainer  # noqa: F401

ROOT = Path(__file__).parents[2]


Job = tuple[str, list[str], str]  # script, its arguments, the folder it runs in


def live(job: Job, seconds: float | None) -> tuple[int, float]:
    """Wait status and age at death of a child that runs the script, killed after ``seconds``."""
    script, arguments, folder = job
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, 1)
        path = str(ROOT / "workflow" / "scripts" / f"{script}.py")
        sys.argv = [path, *arguments]
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as left:
            print(left.code, file=sys.stderr)
            os._exit(1 if left.code else 0)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    return status, time.monotonic() - began


def torture(job: Job, whole: float, seed: int, kills: int) -> list[dict]:
    """Kill the script ``kills`` times at random fractions of ``whole`` seconds, then let it end."""
    moments = random.Random(seed)
    lives = []
    for _ in range(kills):
        status, age = live(job, moments.uniform(0.0, 0.9) * whole)
        lives.append({"killed": os.WIFSIGNALED(status), "seconds": round(age, 3)})
    status, age = live(job, None)
    lives.append({"killed": False, "ok": status == 0, "seconds": round(age, 3)})
    return lives


def main() -> None:
    plan = json.load(sys.stdin)
    answers = []
    for script, arguments, seed, kills in plan["jobs"]:
        status, seconds = live((script, arguments, plan["whole"]), None)
        if status != 0:
            raise SystemExit(f"{script} {arguments}: the undisturbed run failed")
        lives = torture((script, arguments, plan["killed"]), seconds, seed, kills)
        answers.append({"script": script, "seconds": round(seconds, 3), "lives": lives})
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
