"""A real vLLM server for tests, on a port of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

STARTED_WITHIN = 300  # seconds
OPTIONS = ("--logprobs-mode", "processed_logprobs")
# On a CPU a server need not compile anything.
OPTIONS = (*OPTIONS, "--enable-scale-out", "--skip-tokenizer-init", "--enforce-eager")


@contextmanager
def serving(folder: str | Path, log: Path, dtype: str = "float32") -> Iterator[str]:
    """The address of a server of a checkpoint, ready to be asked."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Not `vllm serve`: the CPU package has another name than its command looks for.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", dtype, *OPTIONS]
    settings = {"VLLM_SERVER_DEV_MODE": "1", "VLLM_NO_USAGE_STATS": "1"}
    settings |= {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **settings}
        )
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + STARTED_WITHIN
        while not _healthy(address):
            assert process.poll() is None, log.read_text(errors="replace")[-3000:]
            assert time.monotonic() < deadline, "the server did not start in time"
            time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait(60)


def _healthy(address: str) -> bool:
    try:
        return requests.get(f"{address}/health", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False
