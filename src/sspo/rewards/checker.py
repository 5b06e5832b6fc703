"""Comparisons of answers in a process that can be killed: the caller's end of ``sspo.rewards.worker``.

Its limits need no signals in the calling process, so it works in any thread, and in forked and spawned
processes. Every process and each of its forks start a checker of their own.
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
from typing import Any, Self

from sspo.config.errors import ConfigError
from sspo.config.settings import RewardConfig
from sspo.rewards import worker
from sspo.rewards.base import Reason
from sspo.rewards.worker import CORRECT, CRASHED, READY, TIMEOUT, WRONG

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


class Checker:
    """A process that compares answers, started when needed and again once it has died.

    The reason depends on the two texts alone, apart from ``timeout`` and ``crashed``. Recent verdicts are
    kept, because the responses of a group repeat their answers.
    """

    def __init__(self, config: RewardConfig) -> None:
        """Start the process.

        Raises:
            ConfigError: it does not start; the message names the keys to look at.
        """
        self.config = config
        self._process: Any = None  # a Popen with both pipes, while there is one
        self._end: Callable[[], object] = lambda: None
        self._forget()
        _INSTANCES.add(self)
        with self._lock:
            if not self._start():
                raise ConfigError(
                    f"reward.name = {config.name!r}: the checker did not start within reward.memory_mb = "
                    f"{config.memory_mb}; raise it, or install the packages that this reward needs"
                )

    def compare(self, gold: str, given: str) -> Reason:
        """Whether a given answer is right; never raises."""
        with self._lock:
            verdict = self._verdicts.get((gold, given)) or self._ask(gold, given)
            if verdict in (CORRECT, WRONG):
                if len(self._verdicts) >= REMEMBERED:
                    self._verdicts.clear()
                self._verdicts[gold, given] = verdict
        return REASONS[verdict]

    def close(self) -> None:
        """End the process; a later call starts it again."""
        with self._lock:
            self._kill()

    def _forget(self) -> None:
        """Set up fresh state: at the start, and in a fork, where lock and pipes belong to the parent."""
        self._lock = threading.Lock()
        self._verdicts: dict[tuple[str, str], str] = {}
        self._kill()

    def _ask(self, gold: str, answer: str) -> str:
        """The verdict. If the process dies it is asked once more, in case it was killed from outside."""
        request = f"{json.dumps([gold, answer])}\n".encode()
        for _ in range(2):
            if not self._start():
                continue
            with contextlib.suppress(OSError):
                self._process.stdin.write(request)
            letter = self._receive(PATIENCE * self.config.time_limit)
            if letter:
                return letter
            self._kill()
            if letter is None:
                return TIMEOUT
        return CRASHED

    def _start(self) -> bool:
        """Start the process unless it is there, and say whether it can be asked."""
        if self._process is not None:
            return True
        arguments = (self.config.name, str(self.config.time_limit), str(self.config.memory_mb))
        # -P keeps the program's own folder off the path: it holds a math.py, which must not hide Python's.
        # One thread: a fork has no others, and each would take address space.
        self._process = subprocess.Popen(
            [sys.executable, "-P", worker.__file__, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # a group of its own, to be killed with its forks
            env={**os.environ, "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"},
        )
        self._end = weakref.finalize(self, _end, self._process, os.getpid())
        ready = self._receive(START_SECONDS) == READY
        if not ready:
            self._kill()
        return ready

    def _kill(self) -> None:
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


class CheckedReward:
    """What rewards that ask a checker share: they start it, end it, and travel to other processes."""

    def __init__(self, config: RewardConfig) -> None:
        """Start the checker.

        Raises:
            ConfigError: as ``Checker``.
        """
        self.config = config
        self._checker = Checker(config)

    def close(self) -> None:
        """End the checker; a later call starts it again."""
        self._checker.close()

    def __reduce__(self) -> tuple[type[Self], tuple[RewardConfig]]:
        return type(self), (self.config,)


def _end(process: Any, owner: int) -> None:
    """Close the pipes, and kill the process unless it belongs to the process we were forked from."""
    if os.getpid() == owner:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    process.stdin.close()
    process.stdout.close()


_INSTANCES: weakref.WeakSet[Checker] = weakref.WeakSet()


def _forget_all() -> None:
    for checker in list(_INSTANCES):
        checker._forget()


os.register_at_fork(after_in_child=_forget_all)
