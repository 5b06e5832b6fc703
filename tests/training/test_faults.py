"""Full disks, read-only folders, torn files, dead engines, no memory: a clear error, or recovery."""

from __future__ import annotations

import gzip
import os
import re
import resource
import subprocess
import sys
from contextlib import contextmanager, suppress

import pytest
import torch
from safetensors import SafetensorError

from sspo.config.errors import ConfigError
from sspo.data.problems import read_jsonl, write_jsonl
from sspo.pipeline.files import write_bytes
from sspo.pipeline.locks import hold_folder
from sspo.pipeline.provenance import ROOT
from sspo.pipeline.script import explain, run
from sspo.rollout.engine import Sampling
from sspo.rollout.torch_engine import TorchEngine
from sspo.rollout.vllm_engine import VllmEngine
from sspo.training.checkpoint import CheckpointStore
from sspo.training.metrics import RunLog
from sspo.training.trainer import train
from support.runs import PROBLEMS, TOKENIZER, make_actors, run_config, run_training, weights

LOGS = ("metrics.jsonl", "rollouts.jsonl")


def assert_same_run(tmp_path, first, second):
    assert torch.equal(weights(first), weights(second))
    for name in LOGS:
        content = [(tmp_path / place / name).read_bytes() for place in ("whole", "faulty")]
        assert content[0] == content[1]


# A full disk


@contextmanager
def full_disk(room):
    """No file can grow beyond ``room`` bytes, as on a disk that is about to be full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [10, 700, 3000, 50_000])
def test_a_run_that_fills_the_disk_stops_and_later_ends_as_if_nothing_had_happened(tmp_path, room):
    config = run_config(steps=3)
    whole = run_training(tmp_path / "whole", config)
    folder = tmp_path / "faulty"

    def fill(step, record, seconds):
        if step == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))

    store = CheckpointStore(folder, "f")
    with full_disk(2**40), pytest.raises((OSError, SafetensorError)):
        train(config, make_actors(), PROBLEMS, store, RunLog(folder), fill)
    assert_same_run(tmp_path, whole, run_training(folder, config))


def test_a_full_disk_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "table.jsonl"
    write_jsonl(path, [{"old": 1}])
    with full_disk(100), pytest.raises(OSError, match="File too large"):
        write_jsonl(path, [{"new": "x" * 1000}])
    assert read_jsonl(path) == [{"old": 1}]
    write_bytes(path, b"{}\n")
    assert [p.name for p in tmp_path.iterdir()] == ["table.jsonl"]


# A read-only folder


@pytest.fixture
def read_only(tmp_path):
    """A folder that not even root can write."""
    folder = tmp_path / "results"
    folder.mkdir()
    folder.chmod(0o555)
    if os.geteuid() == 0 and subprocess.run(["chattr", "+i", folder]).returncode:
        pytest.skip("this file system has no immutable folders")
    yield folder
    if os.geteuid() == 0:
        subprocess.run(["chattr", "-i", folder], check=True)
    folder.chmod(0o755)


@pytest.mark.parametrize("write", [hold_folder, lambda folder: write_bytes(folder / "x.json", b"")])
def test_a_read_only_folder_is_one_line_that_names_it(read_only, write):
    with pytest.raises(SystemExit) as stopped:
        run(lambda: write(read_only))
    assert re.fullmatch(r"error: \[Errno \d+\] [^\n]*results[^\n]*", stopped.value.code)
    assert list(read_only.iterdir()) == []


# Torn and damaged files


@pytest.mark.parametrize("keep", [0, 5, 30, -1])
def test_a_torn_gzip_file_is_named(tmp_path, keep):
    path = tmp_path / "completions.jsonl.gz"
    whole = gzip.compress(b'{"id": "a", "text": "1+2=3"}\n{"id": "b"}\n', mtime=0)
    path.write_bytes(whole)
    assert [record["id"] for record in read_jsonl(path)] == ["a", "b"]
    path.write_bytes(whole[:keep])
    with pytest.raises(ConfigError, match=r"completions\.jsonl\.gz: "):
        read_jsonl(path)


def test_no_flipped_byte_of_a_gzip_file_changes_what_is_read(tmp_path):
    path = tmp_path / "completions.jsonl.gz"
    whole = gzip.compress(b'{"id": "a", "text": "1+2=3"}\n', mtime=0)
    read = []
    for position in range(len(whole)):
        flipped = bytearray(whole)
        flipped[position] ^= 0x10
        path.write_bytes(flipped)
        with suppress(ConfigError):
            read += read_jsonl(path)
    assert all(record == {"id": "a", "text": "1+2=3"} for record in read)


def test_a_damaged_safetensors_file_is_one_line():
    with pytest.raises(SystemExit) as stopped:
        run(lambda: (_ for _ in ()).throw(SafetensorError("Error while deserializing:\nheader")))
    assert stopped.value.code == "error: Error while deserializing: header"


# An engine that dies


class DyingEngine(TorchEngine):
    """Stands in for a vLLM whose worker was killed: works for some calls, then never again."""

    calls = 3

    def generate(self, prompts, sampling):
        self.calls -= 1
        if self.calls < 0:
            raise RuntimeError("vLLM stopped (EngineDeadError); run again")
        return super().generate(prompts, sampling)


@pytest.mark.parametrize("calls", [0, 1, 2])
def test_a_run_whose_engine_dies_stops_and_resumes_to_the_same_bytes(tmp_path, calls):
    config = run_config(steps=3)
    whole = run_training(tmp_path / "whole", config)
    actors = make_actors()
    dying = DyingEngine(actors.policy, TOKENIZER, shares_policy=True)
    dying.calls = calls
    broken = type(actors)(**{**vars(actors), "engine": dying})
    with pytest.raises(RuntimeError, match="vLLM stopped"):
        run_training(tmp_path / "faulty", config, broken)
    assert_same_run(tmp_path, whole, run_training(tmp_path / "faulty", config))


class EngineDeadError(Exception):
    """vLLM's own is a plain Exception too."""


class DeadLlm:
    def generate(self, *arguments, **options):
        raise EngineDeadError("EngineCore encountered an issue.\nSee stack trace above.")

    def collective_rpc(self, *arguments, **options):
        raise EngineDeadError


def test_whatever_vllm_raises_becomes_one_line_that_says_how_to_go_on(monkeypatch):
    engine = VllmEngine.__new__(VllmEngine)
    engine.tokenizer, engine.context, engine._llm = TOKENIZER, 64, DeadLlm()
    engine._stance = "default"
    monkeypatch.setattr(VllmEngine, "_sampling_params", lambda *arguments: [])
    with pytest.raises(RuntimeError) as stopped:
        engine.generate([[3, 4]], Sampling(4, 1.0, [0]))
    assert explain(stopped.value) == (
        "vLLM stopped (EngineCore encountered an issue.); run again, the run resumes from its "
        "newest saved state"
    )
    with pytest.raises(RuntimeError, match=r"vLLM stopped \(EngineDeadError\)"):
        engine.load_weights({})


# No memory

HUNGRY = """
import resource, sys
import torch, numpy
from sspo.pipeline.script import run
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 2**27, resource.RLIM_INFINITY))
def main():
    rows = []
    while True:
        rows.append({make})
run(main)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    "make",
    ["torch.ones(2**22)", "numpy.ones(2**22)", "bytearray(2**22)"],
    ids=["torch", "numpy", "python"],
)
def test_no_memory_is_one_line_with_what_to_lower(make):
    done = subprocess.run(
        [sys.executable, "-c", HUNGRY.replace("{make}", make)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "SSPO_PIPELINE": ""},
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: out of memory: lower rollout.max_batch")
    assert len(done.stderr.splitlines()) == 1


def test_an_error_without_words_is_at_least_named():
    assert explain(ValueError()) == "ValueError"
    assert explain(MemoryError()).endswith("(no memory left)")


# Clocks


def test_nothing_that_makes_a_result_reads_the_wall_clock():
    clocks = re.compile(r"time\.(time|time_ns|localtime|gmtime|strftime)\(|datetime|st_[acm]time")
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "workflow").rglob("*.py")]
    users = [
        str(f.relative_to(ROOT)) for f in files if clocks.search(f.read_text(encoding="utf-8"))
    ]
    # `make status` tells how long ago a run on another node gave a sign, and `make demo` asks which
    # files are of a run at work; they write nothing. `make restore` dates files, whose content it keeps.
    names = ("demo", "records", "status")
    assert sorted(users) == [f"workflow/scripts/{name}.py" for name in names]
