"""The checker's process: its limits, and that no kill and no caller can break it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest

from sspo.config.errors import ConfigError
from sspo.rewards import checker
from sspo.rewards import worker as math_worker
from sspo.rewards.math import MathReward
from sspo.rewards.worker import CORRECT, CRASHED, TIMEOUT, WRONG
from support.checker import CONFIG, group_is_gone, reason, run_program


@pytest.mark.slow
def test_memory_stays_under_the_bound():
    program = """
import resource
from sspo.config.settings import RewardConfig
from sspo.rewards.math import MathReward
from sspo.rewards.base import state_answer
reward = MathReward(RewardConfig(name="math", time_limit=1.0, memory_mb=300, max_characters=1000))
grow = [r"\\prod_{k=1}^{10^9} k", r"2^{10^{11}}", "99999999!"]
print([reward("1/7", state_answer(text)).value for text in grow])
reward.close()
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""
    values, peak = run_program(program).splitlines()
    assert values == "[0.0, 0.0, 0.0]"
    assert int(peak) <= 300


@pytest.mark.slow
def test_a_comparison_that_outgrows_its_memory_is_counted_as_crashed():
    # In a process of its own: the limit holds for whoever sets it.
    program = """
import resource
from sspo.rewards.worker import compare_in_fork
resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20))
print(compare_in_fork(lambda gold, answer: len(bytearray(1 << 30)) > 0, "", "", 5.0))
"""
    assert run_program(program).strip() == CRASHED


@pytest.mark.parametrize(
    "compare, verdict",
    [
        (lambda gold, answer: gold == answer, CORRECT),
        (lambda gold, answer: gold != answer, WRONG),
        (lambda gold, answer: 1 / 0, CRASHED),
        (lambda gold, answer: sys.exit(0), CRASHED),
        (lambda gold, answer: os._exit(1), CRASHED),
        (lambda gold, answer: os.kill(os.getpid(), signal.SIGKILL), CRASHED),
        (lambda gold, answer: max(iter(int, 1)), TIMEOUT),  # spins in C, where no handler would run
    ],
)
def test_a_fork_ends_with_a_verdict_however_it_ends(compare, verdict):
    assert math_worker.compare_in_fork(compare, "a", "a", 0.5) == verdict


# Callers and accidents


def test_threads_share_one_checker(reward):
    found = {}

    def ask(n):
        found[n] = reason(reward, rf"\frac{{{n}}}{{7}}", rf"\frac{{{2 * (n - n % 2)}}}{{14}}")

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(1, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: "wrong" if n % 2 else "correct" for n in range(1, 13)}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_of_the_caller_get_the_same_values(tmp_path, method):
    """Also when another thread is asking, and holds the lock, at the moment of the fork."""
    program = f"""
import multiprocessing, threading, time
from sspo.config.settings import RewardConfig
from sspo.rewards.math import MathReward
from sspo.rewards.base import state_answer

def values(reward, queue):
    answers = ["0.5", "0.25", "9^{{9^{{9^9}}}}", "2/4"]
    queue.put([reward(r"\\frac12", state_answer(a)).reason for a in answers])

if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    settings = RewardConfig(name="math", time_limit=1.0, memory_mb=512, max_characters=1000)
    reward, queue = MathReward(settings), context.Queue()
    checker = reward._checker._process
    busy = threading.Thread(target=reward, args=("1/7", state_answer("9^{{9^{{9^9}}}}")))
    busy.start()
    time.sleep(0.3)
    children = [context.Process(target=values, args=(reward, queue)) for _ in range(2)]
    for child in children:
        child.start()
    values(reward, queue)
    for _ in range(3):
        print(queue.get(timeout=200))
    for child in children:
        child.join()
    busy.join()
    idle = context.Process(target=values, args=(reward, queue))
    idle.start()
    print(queue.get(timeout=200))
    idle.join()
    values(reward, queue)
    print(queue.get(), reward._checker._process is checker)
"""
    lines = run_program(program, tmp_path / "program.py").splitlines()
    expected = "['correct', 'wrong', 'timeout', 'correct']"
    assert lines == [expected] * 4 + [f"{expected} True"]  # the parent's checker lives on


@pytest.mark.slow
def test_a_checker_killed_in_the_middle_is_started_again():
    reward = MathReward(CONFIG)
    killed = reward._checker._process.pid
    threading.Timer(0.2, os.kill, (killed, signal.SIGKILL)).start()
    assert reason(reward, "1/7", "9^{9^{9^9}}") == "timeout"
    assert reward._checker._process.pid != killed
    assert group_is_gone(killed)  # with the fork that was still computing
    os.kill(reward._checker._process.pid, signal.SIGKILL)
    assert reason(reward, r"\frac{1}{2}", "0.5") == "correct"
    alive = reward._checker._process.pid
    reward.close()
    assert group_is_gone(alive)


@pytest.mark.slow
def test_a_killed_checker_takes_its_comparison_along_and_killed_twice_is_a_reason():
    reward, found = MathReward(CONFIG.changed(time_limit=90.0)), []
    ask = threading.Thread(target=lambda: found.append(reason(reward, "1/7", "9^{9^{9^9}}")))
    ask.start()
    first = second = reward._checker._process
    time.sleep(0.3)
    os.kill(first.pid, signal.SIGKILL)
    assert group_is_gone(first.pid)  # long before the time limit
    while second is None or second is first:
        second = reward._checker._process
    os.kill(second.pid, signal.SIGKILL)
    ask.join()
    assert found == ["crashed"]
    assert group_is_gone(second.pid)


@pytest.mark.parametrize(
    "after_ready, expected",
    [("sys.stdin.readline()", "crashed"), ("time.sleep(600)", "timeout")],
)
def test_a_checker_that_dies_or_hangs_is_a_reason(tmp_path, monkeypatch, after_ready, expected):
    program = tmp_path / "checker.py"
    program.write_text(f"import os, sys, time\nos.write(1, b'r')\n{after_ready}\n")
    monkeypatch.setattr(math_worker, "__file__", str(program))
    monkeypatch.setattr(checker, "PATIENCE", 0.5)
    reward = MathReward(CONFIG)
    for _ in range(2):
        assert reason(reward, "x", "y") == expected
    assert reason(reward, "1", "1") == "correct"
    reward.close()


def test_a_checker_that_cannot_start_is_one_line_with_the_key():
    # 16 MiB are less than the interpreter itself has taken, so that no import can fit on any machine.
    # The settings refuse so little; a machine may be short of memory all the same.
    starved = CONFIG.model_copy(update={"memory_mb": 16})
    with pytest.raises(ConfigError, match="reward.memory_mb = 16"):
        MathReward(starved)


@pytest.mark.slow
def test_the_checker_ends_with_its_caller():
    program = """
import os, signal
from sspo.config.settings import RewardConfig
from sspo.rewards.math import MathReward
reward = MathReward(RewardConfig(name="math", time_limit=1.0, memory_mb=512, max_characters=1000))
print(reward._checker._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert group_is_gone(int(run_program(program, returncode=-signal.SIGKILL)))
