"""One pipeline per folder, one process per run, no script that outlives its pipeline.

All locks are ``flock``: the kernel drops them with the process, however it dies, so that a lock that
can be taken proves that nobody else is at work and nothing has to be released by hand.

A pipeline holds ``pipeline.lock`` and a file of its own, ``alive-<process>``. Every script holds
``jobs.lock`` together with the others and waits in a thread for the pipeline's own file: it gets the
lock when the pipeline is gone, and ends the script.

On a cluster, scripts run on other nodes, where locks need not reach. A script there ends when its
pipeline's file is gone, which the next pipeline removes, and shows until then by a counter, its pulse,
that it is still at work.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import itertools
import os
import secrets
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

from sspo.config.errors import ConfigError

VARIABLE = "SSPO_PIPELINE"  # tells scripts which pipeline started them
POLL_SECONDS = 0.1
PULSE_SECONDS = 5.0
SILENCE_SECONDS = 30.0  # a pulse that stood still for so long belongs to a dead script
_HELD: list[TextIO] = []  # an open file keeps its lock


def start_pipeline(folder: str | Path, patience: float = 60.0) -> None:
    """Make this process the only pipeline of a folder, once the scripts of a killed one are gone.

    Scripts of a pipeline on other nodes notice that its file is gone, and end as well.

    Args:
        folder: holds the lock files; made when missing.
        patience: seconds to wait for another pipeline (5 at most) and for leftover scripts.

    Raises:
        ConfigError: another pipeline runs in this folder, or leftover scripts do not end.
    """
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    own = folder / "pipeline.lock"
    if not _wait(
        lambda: _hold(own, f"{os.getpid()} on {socket.gethostname()}"), min(patience, 5.0)
    ):
        raise ConfigError(
            f"another pipeline is at work in {folder.parent} (process {_read(own) or 'unknown'}); "
            "wait for it or stop it"
        )
    for stale in folder.glob("alive-*"):
        stale.unlink()
    if not _wait(lambda: not _is_locked(folder / "jobs.lock"), patience):
        raise ConfigError(
            f"scripts of an earlier pipeline still write in {folder.parent}; stop them"
        )
    _outwait_pulses(folder)
    # Process numbers come again, above all in containers; the rest of the name does not.
    alive = folder / f"alive-{os.getpid()}-{secrets.token_hex(4)}"
    _hold(alive, socket.gethostname())
    os.environ[VARIABLE] = str(alive)


def _outwait_pulses(folder: Path) -> None:
    """Wait until the scripts on other nodes have ended: their pulses are gone or stand still."""
    before = _pulses(folder)
    _wait(lambda: not _pulses(folder), SILENCE_SECONDS)
    after = _pulses(folder)
    if alive := [name for name in after if after[name] != before.get(name)]:
        raise ConfigError(
            f"scripts of an earlier pipeline still write in {folder.parent}, on other nodes "
            f"({', '.join(sorted(alive))}); cancel their jobs"
        )
    for name in after:
        (folder / name).unlink(missing_ok=True)


def _pulses(folder: Path) -> dict[str, str]:
    return {path.name: _read(path) or "" for path in folder.glob("pulse-*")}


def refuse_orphan() -> None:
    """Stop a cluster job whose pipeline has been replaced while it waited in the queue.

    Raises:
        ConfigError: the pipeline that submitted this job is gone.
    """
    name = os.environ.get(VARIABLE)
    if name and not Path(name).exists():
        raise ConfigError("the pipeline that submitted this job is gone; nothing done")


def follow_pipeline() -> None:
    """End this process as soon as the pipeline that started it is gone, also by SIGKILL.

    On another node that is when the next pipeline starts. A script started by hand has no pipeline,
    and nothing happens.
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
        file.close()
        _follow_from_afar(alive)
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


def _follow_from_afar(alive: Path) -> None:
    """Leave a pulse beside the pipeline's file, and end the process when that file is gone."""
    pulse = alive.with_name(f"pulse-{socket.gethostname()}-{os.getpid()}")
    pulse.write_text("start", encoding="utf-8")
    atexit.register(pulse.unlink, missing_ok=True)

    def watch() -> None:
        for beat in itertools.count():
            with contextlib.suppress(OSError):  # a file server may fail for a moment
                # Opening it asks the server; `exists` may be answered from a cache.
                if _read(alive) is None:
                    break
                pulse.write_text(str(beat), encoding="utf-8")
            time.sleep(PULSE_SECONDS)
        pulse.unlink(missing_ok=True)
        _leave()

    threading.Thread(target=watch, daemon=True).start()


def hold_folder(folder: str | Path) -> None:
    """Make this process the only one to write a run's folder, until it ends.

    Raises:
        ConfigError: another process holds the folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    job = os.environ.get("SLURM_JOB_ID")
    if not _hold(folder / ".lock", socket.gethostname() + (f", job {job}" if job else "")):
        raise ConfigError(f"{folder}: another process is writing this run; wait for it or stop it")


def holder(folder: str | Path) -> str:
    """Host and SLURM job of the process that last wrote a run's folder; empty when unknown."""
    return _read(Path(folder, ".lock")) or ""


def is_held(folder: str | Path) -> bool:
    """Whether a process is writing a run's folder right now."""
    return _is_locked(Path(folder, ".lock"))


def _leave() -> None:
    """End the process at once, also when nobody reads its errors any more."""
    try:
        os.write(
            sys.stderr.fileno(), b"error: the pipeline that started this script is gone; stopped\n"
        )
    finally:
        os._exit(1)


def _hold(path: Path, text: str) -> bool:
    """Lock a file for as long as this process lives, and sign it; False when another has it."""
    file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (held until the process ends)
    if not _flock(file, fcntl.LOCK_EX):
        file.close()
        return False
    file.truncate(0)
    file.write(text)
    file.flush()
    _HELD.append(file)
    return True


def _is_locked(path: Path) -> bool:
    """Whether a process holds a lock on a file; nobody does on one that is not there."""
    if not path.exists():
        return False
    with open(path, "a", encoding="utf-8") as file:
        return not _flock(file, fcntl.LOCK_EX)


def _flock(file: TextIO, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(path: Path) -> str | None:
    """The file's text, or None when it is gone."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESTALE):
            raise
        return None


def _wait(condition, seconds: float) -> bool:
    """Whether the condition came true in time; seconds of a clock that nobody sets."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
