r"""The reward for answers in LaTeX, whose comparison runs in a process that can be killed.

Its limits need no signals in the calling process, so the reward works in any thread, and in forked and
spawned processes. Every process and each of its forks start a checker of their own.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

from sspo.config.errors import ConfigError
from sspo.config.settings import RewardConfig
from sspo.rewards import worker as math_worker
from sspo.rewards.answers import as_integer, find_answer, normalize, vote
from sspo.rewards.base import Reason, Reward
from sspo.rewards.worker import CORRECT, CRASHED, READY, TIMEOUT, WRONG
from sspo.rollout.engine import Completion

REASONS: dict[str, Reason] = {
    CORRECT: "correct",
    WRONG: "wrong",
    TIMEOUT: "timeout",
    CRASHED: "crashed",
}

START_SECONDS = 120.0  # imports and warm-up: about 5 s of an idle core
# In multiples of the CPU time that a comparison may take. The CPU limit ends what computes too long; the
# caller's patience ends what does not even compute. A busy machine stretches CPU time, hence the factor.
PATIENCE = 10.0
REMEMBERED = 4096


class MathReward:
    """1 if the response ended by itself and its answer means what the gold answer means.

    Any gold answer and completion give 0 or 1 within bounded time and memory; none raises. The value
    depends on the two texts alone, apart from ``timeout`` and ``crashed``. Recent verdicts are kept,
    because the responses of a group repeat their answers.
    """

    def __init__(self, config: RewardConfig) -> None:
        """Start the checker.

        Raises:
            ConfigError: it does not start; the message names the keys to look at.
        """
        self.config = config
        self._forget()
        _INSTANCES.add(self)
        with self._lock:
            if not self._checker.start():
                raise ConfigError(
                    f"reward.name = 'math': the checker did not start within reward.memory_mb = "
                    f"{config.memory_mb}; raise it, or install the packages of requirements.txt"
                )

    def __call__(self, answer: str, completion: Completion) -> Reward:
        """The reward of a completion for the gold ``answer``."""
        limit = self.config.max_characters
        given = find_answer(completion.text, limit)
        stated = given and vote(given)
        return Reward(*self._judge(answer, given, completion.finish_reason), stated)

    def close(self) -> None:
        """End the checker; a later call starts it again."""
        with self._lock:
            self._checker.kill()

    def _judge(self, gold: str, given: str | None, finish_reason: str) -> tuple[float, Reason]:
        if finish_reason != "stop":
            return 0.0, "truncated"
        if given is None:
            return 0.0, "no_answer"
        if max(len(gold), len(given)) > self.config.max_characters:
            return 0.0, "too_long"
        gold, given = normalize(gold), normalize(given)
        verdict = self._verdict(gold, given)
        return float(verdict == CORRECT), REASONS[verdict]

    def _verdict(self, gold: str, given: str) -> str:
        first, second = as_integer(gold), as_integer(given)
        # A shortcut: a test holds that the checker would give the same verdict.
        if first is not None and second is not None:
            return CORRECT if first == second else WRONG
        with self._lock:
            verdict = self._verdicts.get((gold, given)) or self._checker.ask(gold, given)
            if verdict in (CORRECT, WRONG):
                if len(self._verdicts) >= REMEMBERED:
                    self._verdicts.clear()
                self._verdicts[gold, given] = verdict
        return verdict

    def _forget(self) -> None:
        """Set up fresh state: at the start, and in a fork, where lock and pipes belong to the parent."""
        self._lock = threading.Lock()
        self._verdicts: dict[tuple[str, str], str] = {}
        self._checker = _Checker(self.config)

    def __reduce__(self) -> tuple[type[MathReward], tuple[RewardConfig]]:
        return MathReward, (self.config,)


class _Checker:
    """The process of ``sspo.rewards.worker``, started when needed and again once it has died."""

    def __init__(self, config: RewardConfig) -> None:
        self.config = config
        self._process: Any = None  # a Popen with both pipes, while there is one
        self._end: Callable[[], object] = lambda: None

    def ask(self, gold: str, answer: str) -> str:
        """The verdict. If the checker dies it is asked once more, in case it was killed from outside."""
        request = f"{json.dumps([gold, answer])}\n".encode()
        for _ in range(2):
            if not self.start():
                continue
            with contextlib.suppress(OSError):
                self._process.stdin.write(request)
            letter = self._receive(PATIENCE * self.config.time_limit)
            if letter:
                return letter
            self.kill()
            if letter is None:
                return TIMEOUT
        return CRASHED

    def start(self) -> bool:
        """Start the process unless it is there, and say whether it can be asked."""
        if self._process is not None:
            return True
        limits = (str(self.config.time_limit), str(self.config.memory_mb))
        # -P keeps the program's own folder off the path: it holds a math.py, which must not hide Python's.
        self._process = subprocess.Popen(
            [sys.executable, "-P", math_worker.__file__, *limits],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # a group of its own, to be killed with its forks
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
        self._end = weakref.finalize(self, _end, self._process, os.getpid())
        ready = self._receive(START_SECONDS) == READY
        if not ready:
            self.kill()
        return ready

    def kill(self) -> None:
        """End the process and the comparison that it works on."""
        if self._process is not None:
            self._end()
            self._process = None

    def _receive(self, seconds: float) -> str | None:
        """One letter; "" if the process has died, None if the time is up."""
        poll = select.poll()
        poll.register(self._process.stdout, select.POLLIN)
        if not poll.poll(1000.0 * seconds):
            return None
        return self._process.stdout.read(1).decode("ascii")


def _end(process: Any, owner: int) -> None:
    """Close the pipes, and kill the process unless it belongs to the process we were forked from."""
    if os.getpid() == owner:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    process.stdin.close()
    process.stdout.close()


_INSTANCES: weakref.WeakSet[MathReward] = weakref.WeakSet()


def _forget_all() -> None:
    for reward in list(_INSTANCES):
        reward._forget()


os.register_at_fork(after_in_child=_forget_all)
