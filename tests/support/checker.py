"""The checker of LaTeX answers: its settings here, what it finds, and whether its processes are gone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from sspo.config.settings import RewardConfig
from sspo.rewards.math import MathReward
from sspo.rollout.engine import Completion
from support.paths import SOURCE, TESTS

CONFIG = RewardConfig(name="math", time_limit=1.0, memory_mb=512, max_characters=1000)


def boxed(answer: str, finish_reason: str = "stop") -> Completion:
    return Completion([], rf"therefore \boxed{{{answer}}}.", finish_reason, [])


def reason(reward: MathReward, gold: str, answer: str) -> str:
    found = reward(gold, boxed(answer))
    assert found.value == float(found.reason == "correct")
    return found.reason


def run_program(program: str, *script: Path, returncode: int = 0) -> str:
    """Output of a Python program; in a file where spawned children have to import it again."""
    environment = {**os.environ, "PYTHONPATH": f"{SOURCE}{os.pathsep}{TESTS}"}
    for path in script:
        path.write_text(program)
    command = [sys.executable, *(map(str, script) if script else ("-c", program))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=400)
    assert done.returncode == returncode, done.stderr
    return done.stdout


def group_is_gone(leader: int) -> bool:
    """Whether every process of a group ends within seconds."""
    deadline = time.monotonic() + 20.0
    while time.monotonic() < deadline:
        try:
            os.killpg(leader, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False
