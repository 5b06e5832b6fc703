r"""LaTeX answers: what earns the reward, and that no answer, kill or caller can break the checker."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fuzz.hostile import BOMBS, PIECES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sspo.config.errors import ConfigError
from sspo.config.settings import RewardConfig
from sspo.rewards import math as math_reward
from sspo.rewards import worker as math_worker
from sspo.rewards.answers import as_integer
from sspo.rewards.base import check_golds
from sspo.rewards.factory import make_reward
from sspo.rewards.math import MathReward
from sspo.rewards.worker import CORRECT, CRASHED, TIMEOUT, WRONG
from sspo.rollout.engine import Completion
from support.paths import SOURCE, TESTS

CONFIG = RewardConfig(name="math", time_limit=1.0, memory_mb=512, max_characters=1000)


@pytest.fixture(scope="module")
def reward():
    reward = make_reward(CONFIG)
    yield reward
    reward.close()


def boxed(answer: str, finish_reason: str = "stop") -> Completion:
    return Completion([], rf"therefore \boxed{{{answer}}}.", finish_reason, [])


def reason(reward: MathReward, gold: str, answer: str) -> str:
    found = reward(gold, boxed(answer))
    assert found.value == float(found.reason == "correct")
    return found.reason


# What earns the reward


@pytest.mark.parametrize(
    "gold, answer",
    [
        ("18", "18"),  # GSM8K
        ("1,450,000", "1450000"),
        ("1,450,000", r"\$1{,}450{,}000"),
        ("025", "25"),  # AIME
        ("27.0", "27"),  # AMC
        ("142.0", r"142^\circ"),
        (r"\frac{14}{3}", r"\dfrac{28}{6}"),  # MATH
        (r"\frac{14}{3}", "14/3"),
        (r"\frac43", "4/3"),
        (r"1\frac{4}{5}", "1.8"),
        (".35625", "0.35625"),
        (r"\frac{1}{3}", "0.333333"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\pi/2)"),
        ("(3,4]", r"\left(3, 4\right]"),
        (r"(-\infty, 2) \cup (3, \infty)", r"(3,\infty) \cup (-\infty,2)"),
        (r"x \in [-2,7]", "[-2,7]"),
        ("3, 5, 7", "7,5,3"),
        ("1,-2", r"-2 \text{ and } 1"),
        (r"3 \pm 2 \sqrt{2}", r"3+2\sqrt2, 3-2\sqrt2"),
        (r"\{1\pm\sqrt{5},-2\}", r"\{-2, 1-\sqrt{5}, 1+\sqrt{5}\}"),
        ("x=5", "5"),
        ("5", "x=5"),
        ("y = 2x + 3", "y = 3 + 2x"),
        ("(a+5)(b+2)", "ab + 2a + 5b + 10"),
        (r"90^\circ", "90"),
        (r"5.4 \text{ cents}", "5.4"),
        (r"15\mbox{ cm}^2", "15"),
        (r"\$18.90", "18.9"),
        (r"10,\!080", "10080"),
        (r"18\%", "18"),
        (r"18\%", "0.18"),
        ("62.5%", r"62.5\%"),
        (r"\text{Evelyn}", "Evelyn"),
        (r"\text{(C)}", "C"),
        ("2516_8", "2516_{8}"),
        ("2516_8", "2516"),
        (
            r"\begin{pmatrix} -1/3 \\ 2 \end{pmatrix}",
            r"\begin{pmatrix} -\frac13 \\ 2 \end{pmatrix}",
        ),
        ("6 - 5i", "-5i + 6"),
        ("7e37", r"7 \times 10^{37}"),  # Minerva
        ("9.6\n", "9.6"),
        ("1.6e-19", r"1.60 \times 10^{-19}"),
        (r"$(-\infty, 0) \cup\{1\}$.", r"(-\infty,0) \cup \{1\}"),  # OlympiadBench
        ("$69$,$84$", "84, 69"),
        ("$(1,8,19), (2,7,13), (4,5,7)$", "(1,8,19),(2,7,13),(4,5,7)"),
        (r"$k \geqslant 2$", r"k \ge 2"),
        ("0.0000672", "0.00006721"),  # one part in a thousand is rounding
        ("6m", r"m \cdot 6"),  # m is a variable: a unit stands apart
        (r"\frac{1}{\sqrt{2}}c", r"\frac{c}{\sqrt{2}}"),
        ("18 m", "18"),
        ("13535", r"13\,535"),
        ("13535", "13 535"),
        ("4.5e33", r"4.5e33 \text{ erg/s}"),
        ("9.6", r"\approx 9.6"),
        ("3,4", r"\(3\), \(4\)"),
        (r"62.5\%", "62.5"),
        ("62.5%", "0.625"),
    ],
)
def test_an_answer_that_means_the_gold_is_correct(reward, gold, answer):
    assert reason(reward, gold, answer) == "correct"
    assert reason(reward, gold, gold) == "correct"


@pytest.mark.parametrize(
    "gold, answer",
    [
        ("18", "-18"),
        ("18", "180"),
        ("1,234", "1,234.5"),
        ("12", "\uff11\uff12"),  # full-width digits
        (r"\frac{14}{3}", r"\frac{3}{14}"),
        (r"\frac{1}{3}", "0.33"),
        ("(1,2)", "(2,1)"),
        ("(3,4]", "[3,4]"),
        ("(3,4]", "(3,4)"),
        (r"(-\infty, 2) \cup (3, \infty)", r"(-\infty, 2)"),
        ("1,-2", "1"),  # one of two answers
        ("1,-2", "1,-2,3"),
        ("3, 5, 7", "3, 5"),
        (r"3 \pm 2 \sqrt{2}", r"3 + 2 \sqrt{2}"),
        ("x=5", "y=5"),
        ("y = 2x + 3", "y = 2x - 3"),
        ("2x + z = 1", "1"),  # gold first: the other way round math-verify takes them for equal
        (r"\text{even}", "odd"),
        (r"\text{(C)}", "D"),
        ("2516_8", "2516_9"),  # math-verify drops the base
        ("1.6e-19", "2e-19"),  # math-verify compares to 1e-15
        (r"1.6 \times 10^{-19}", "0"),
        ("0.0000672", "0.0000674"),  # ... or to six decimals
        ("6m", "6"),
        (r"\frac{1}{\sqrt{2}}c", r"\frac{1}{\sqrt{2}}"),
        ("548", r"13\,535"),  # math-verify adds them up
        (r"62.5\%", "625"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\3\end{pmatrix}"),
        (r"\frac{1}{0}", "5"),
        (r"\foo{", "5"),  # a gold that cannot be parsed is no free point
        ("", "5"),
    ],
)
def test_an_answer_that_means_something_else_is_wrong(reward, gold, answer):
    assert reason(reward, gold, answer) == "wrong"


@pytest.mark.parametrize(
    "text, finish_reason, expected",
    [
        (r"\boxed{12}", "stop", "correct"),
        ("3 * 4 = 12\n#### 12", "stop", "correct"),
        (r"\boxed{12}", "length", "truncated"),
        ("", "length", "truncated"),
        ("12", "stop", "no_answer"),
        ("# 12", "stop", "no_answer"),
        (r"\boxed{}", "stop", "no_answer"),
        (r"\boxed{12", "stop", "no_answer"),
        (r"\boxed{" + "1" * 1001 + "}", "stop", "too_long"),
        ("####" + "1" * 10**6, "stop", "too_long"),
        (r"\boxed{12} or \boxed{13}", "stop", "wrong"),
    ],
)
def test_every_failure_has_its_reason(reward, text, finish_reason, expected):
    assert reward("12", Completion([], text, finish_reason, [])).reason == expected


def test_the_stated_answer_is_handed_on_for_votes(reward):
    assert reward("12", boxed("13")).answer == "13"
    assert reward("12", boxed("13", "length")).answer == "13"
    assert reward("12", Completion([], "13", "stop", [])).answer is None
    assert reward("12", boxed(r"\dfrac{1} {2}")).answer == r"\frac{1}{2}"


# Totality


@pytest.mark.parametrize("bomb", BOMBS[::2], ids=lambda bomb: bomb[:20])  # all: make fuzz
def test_a_bomb_ends_within_its_limits(reward, bomb):
    process, began = reward._checker._process, time.monotonic()
    assert reason(reward, r"\frac{1}{7}", bomb) in {"wrong", "timeout", "crashed"}
    assert time.monotonic() - began < math_reward.PATIENCE * CONFIG.time_limit
    assert reward._checker._process is process  # its fork ended, not the checker
    assert reason(reward, r"\frac{1}{2}", "0.5") == "correct"


def test_a_gold_that_cannot_be_computed_times_out_rather_than_passes(reward):
    assert reason(reward, "9^{9^{9^9}}", "9^{9^{9^9}}") == "timeout"


@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(st.lists(st.sampled_from(PIECES), max_size=10), st.text(max_size=10))
def test_any_gold_and_any_text_give_zero_or_one(reward, pieces, text):
    for gold, answer in (("".join(pieces), text), (text, "".join(pieces)), (text, text)):
        assert reward(gold, boxed(answer)).value in (0.0, 1.0)
        assert reward(gold, Completion([], answer, "stop", [])).value in (0.0, 1.0)


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


# One value per pair of texts


@settings(
    max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(st.data())
def test_the_fast_path_of_integers_agrees_with_the_checker(reward, data):
    plain = st.integers(-(10**12), 10**12)
    written = st.one_of(
        plain.map(str), plain.map(lambda n: f"{n:,}"), st.integers(0, 99).map(lambda n: f"{n:04d}")
    )
    gold = data.draw(written)
    answer = data.draw(st.one_of(written, st.just(gold), st.just(str(as_integer(gold)))))
    verdict = reward._checker.ask(gold, answer)
    assert (verdict == CORRECT) == (as_integer(gold) == as_integer(answer))
    assert reason(reward, gold, answer) == {CORRECT: "correct", WRONG: "wrong"}[verdict]


def test_a_value_does_not_depend_on_what_was_checked_before(reward):
    golds = ["x+1", r"\frac{1}{2}", "(1,2)", r"\{1,2\}", "x=0.5", "0.5"]
    pairs = [(gold, answer) for gold in golds for answer in golds]
    first = {pair: reason(reward, *pair) for pair in pairs}
    random.Random(0).shuffle(pairs)
    fresh = MathReward(CONFIG)
    assert {pair: reason(fresh, *pair) for pair in pairs} == first
    fresh.close()


def test_kept_verdicts_are_bounded_and_change_nothing(reward, monkeypatch):
    monkeypatch.setattr(math_reward, "REMEMBERED", 3)
    for _ in range(2):
        found = [reason(reward, f"x+{n}", f"{n % 4}+x") for n in range(8)]
        assert found == ["correct"] * 4 + ["wrong"] * 4
        assert len(reward._verdicts) <= 3


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
    monkeypatch.setattr(math_reward, "PATIENCE", 0.5)
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


# Gold answers at load


def test_golds_of_every_style_verify_against_themselves(reward):
    golds = ["18", "27.0", r"\frac{14}{3}", "$69$,$84$", "9.6\n", r"\text{Evelyn}", "3, 5, 7"]
    check_golds([{"id": str(i), "answer": g} for i, g in enumerate(golds)], reward, "train.jsonl")


@pytest.mark.parametrize("bad", [r"\frac{1}{", "}{", "9^{9^{9^9}}", "9" * 1001, "$"])
def test_a_gold_that_nothing_can_earn_names_file_and_row(reward, bad):
    problems = [{"id": "a", "answer": "1"}, {"id": "b", "answer": bad}]
    with pytest.raises(ConfigError, match=r"^data/train.jsonl:2: answer .* of problem 'b' "):
        check_golds(problems, reward, "data/train.jsonl")


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
