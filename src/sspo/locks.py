"""One pipeline per folder, one process per run, no script that outlives its pipeline.

All locks are ``flock``: the kernel drops them with the process, however it dies, so that a lock that
can be taken proves that nobody else is at work and nothing has to be released by hand.

A pipeline holds ``pipeline.lock`` and a file of its own, ``alive-<process>``. Every script holds
``jobs.lock`` together with the others and waits in a thread for the pipeline's own file: it gets the
lock when the pipeline is gone, and ends the script.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

from sspo.config import ConfigError

VARIABLE = "SSPO_PIPELINE"  # tells scripts which pipeline started them
POLL_SECONDS = 0.1
_HELD: list[TextIO] = []  # an open file keeps its lock


class PipelineLock:
    """The right to run the pipeline of a folder, held until the process ends."""

    def __init__(self, folder: str | Path) -> None:
        """``folder`` holds the lock files; it is made when missing."""
        self.folder = Path(folder).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file: TextIO | None = None
        self._alive: TextIO | None = None

    def claim(self) -> bool:
        """Whether this process is now the folder's pipeline; asking again does no harm."""
        if self._file is None:
            self._file = _try_lock(self.folder / "pipeline.lock", fcntl.LOCK_EX)
            if self._file is not None:
                _sign(self._file, f"{os.getpid()} on {socket.gethostname()}")
        return self._file is not None

    def owner(self) -> str:
        """Process and host of the pipeline that last claimed the folder."""
        try:
            return (self.folder / "pipeline.lock").read_text(encoding="utf-8") or "unknown"
        except FileNotFoundError:
            return "unknown"

    def start(self, patience: float = 60.0) -> None:
        """Go ahead with the pipeline, once the scripts of a killed one are gone; tell its own ones.

        Args:
            patience: seconds to wait for another Snakemake process and for leftover scripts.

        Raises:
            ConfigError: another pipeline runs in this folder, or leftover scripts do not end.
        """
        if not _wait(self.claim, min(patience, 5.0)):
            raise ConfigError(
                f"another pipeline is at work in {self.folder.parent} (process {self.owner()}); "
                "wait for it or stop it"
            )
        for stale in self.folder.glob("alive-*"):
            stale.unlink()
        if not _wait(self._no_scripts, patience):
            raise ConfigError(
                f"scripts of an earlier pipeline still write in {self.folder.parent}; stop them"
            )
        self._alive = _try_lock(self.folder / f"alive-{os.getpid()}", fcntl.LOCK_EX)
        _sign(self._alive, socket.gethostname())
        os.environ[VARIABLE] = self._alive.name

    def _no_scripts(self) -> bool:
        probe = _try_lock(self.folder / "jobs.lock", fcntl.LOCK_EX)
        if probe is not None:
            probe.close()
        return probe is not None


def follow_pipeline() -> None:
    """End this process as soon as the pipeline that started it is gone, also by SIGKILL.

    Without a pipeline (a script started by hand) and on another host nothing happens.
    """
    name = os.environ.get(VARIABLE)
    if not name:
        return
    alive = Path(name)
    try:
        file = open(alive, "r+", encoding="utf-8")  # noqa: SIM115 (held until the process ends)
    except FileNotFoundError:
        _leave()
    if file.read() != socket.gethostname():
        return
    jobs = open(alive.with_name("jobs.lock"), "a", encoding="utf-8")  # noqa: SIM115
    fcntl.flock(jobs, fcntl.LOCK_SH)
    if _flock(file, fcntl.LOCK_SH):
        _leave()

    _HELD.append(jobs)

    def wait() -> None:
        fcntl.flock(file, fcntl.LOCK_SH)
        _leave()

    threading.Thread(target=wait, daemon=True).start()


def hold_folder(folder: str | Path) -> None:
    """Make this process the only one to write a run's folder, until it ends.

    Raises:
        ConfigError: another process holds the folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    file = _try_lock(folder / ".lock", fcntl.LOCK_EX)
    if file is None:
        raise ConfigError(f"{folder}: another process is writing this run; wait for it or stop it")
    _HELD.append(file)


def is_held(folder: str | Path) -> bool:
    """Whether a process is writing a run's folder right now."""
    path = Path(folder, ".lock")
    if not path.exists():
        return False
    file = _try_lock(path, fcntl.LOCK_SH)
    if file is not None:
        file.close()
    return file is None


def _leave() -> None:
    """End the process at once, also when nobody reads its errors any more."""
    try:
        os.write(
            sys.stderr.fileno(), b"error: the pipeline that started this script is gone; stopped\n"
        )
    finally:
        os._exit(1)


def _try_lock(path: Path, kind: int) -> TextIO | None:
    """The opened and locked file, or None when another process holds it."""
    file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (the caller keeps it open)
    if _flock(file, kind):
        return file
    file.close()
    return None


def _flock(file: TextIO, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(file: TextIO, text: str) -> None:
    file.truncate(0)
    file.write(text)
    file.flush()


def _wait(condition, seconds: float) -> bool:
    """Whether the condition came true in time; seconds of a clock that nobody sets."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
