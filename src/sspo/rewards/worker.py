"""The program that compares answers in a process of its own; ``sspo.rewards.checker`` starts and kills it.

It reads one JSON line ``[gold, answer]`` at a time and writes one letter back. Every pair is compared in
a fork made for it alone, for two reasons. A verdict depends on nothing that was compared before, although
sympy and the parser keep caches. And the kernel ends a comparison that outgrows its CPU time or memory,
even inside C code, where Python runs neither signal handlers nor other threads.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

READY, CORRECT, WRONG, TIMEOUT, CRASHED = "rcwtx"

# These pairs are compared once at the start. The parser learns its grammar from use, which takes half a
# second for a new kind of expression, and forks inherit what it has learnt.
WARM_UP = (
    ("12", "-13.5"),
    (r"\left( 3, \frac{\pi}{2} \right)", "(3,2,1)"),
    (r"\frac{14}{3}", r"\frac{x+1}{2y}"),
    (r"(-\infty, 2) \cup [3, \infty)", r"x \in [-2,7]"),
    (r"\{1\pm\sqrt{5},-2\}", "-2,1"),
    (r"\begin{pmatrix} -1/3 \\ 2/3 \end{pmatrix}", r"\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}"),
    (r"x^5 - 2x^{4} + x - 1", r"(a+5)(b+2)"),
    (r"7.5 \times 10^{-7}", r"3 \cdot 10^8"),
    (r"90^\circ", r"50\%"),
    (r"f(x)=\frac{1}{x}, g(n)=2n", "y = 2x + 3"),
    (r"\sqrt[3]{4} + \log_{10} 2 - \ln 3", r"\sin(\theta_w) + \cos^2 x"),
    (r"\text{Evelyn}", "Evelyn"),
    (r"\left\lfloor\frac{2 n}{3}\right\rfloor+1", r"\binom{2n}{n} + n!"),
    (r"k \geqslant 2", r"1 < x \leq 4"),
    (r"e^{-\frac{t}{RC}} + 2i", r"\frac{2-\omega^{2}}{|x|}"),
    ("4210_{5}", r"1\frac{4}{5}"),
    ("(1,2),(3,4)", r"\$32"),
)


def main(reward: str, cpu_seconds: float, memory_mb: int) -> None:
    """Answer requests until the caller closes the pipe.

    Args:
        reward: ``math`` or ``reasoning_gym``.
        cpu_seconds: CPU time of one comparison.
        memory_mb: address space of this process and of every fork, in MiB; imports take about 120 to 200.
    """
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # This file is run by its name: the package lies where the caller found it, installed or not.
    sys.path.append(str(Path(__file__).parents[2]))
    compare = comparison(reward)
    gc.freeze()  # otherwise a collection in a fork would copy every page that it only looks at
    reply(READY)
    with contextlib.suppress(BrokenPipeError):  # the caller has gone
        for line in sys.stdin.buffer:
            gold, answer = json.loads(line)
            reply(compare_in_fork(compare, gold, answer, cpu_seconds))


def comparison(reward: str) -> Callable[[str, str], bool]:
    """Whether an answer is right, ready for use; imported here, so that callers do without its packages."""
    if reward == "reasoning_gym":
        from sspo.rewards.scoring import full_score

        return full_score
    from sspo.rewards.equality import equivalent

    for gold, answer in WARM_UP:
        equivalent(gold, gold)
        equivalent(gold, answer)
    return equivalent


def reply(letter: str) -> None:
    os.write(1, letter.encode())


def compare_in_fork(
    compare: Callable[[str, str], bool], gold: str, answer: str, cpu_seconds: float
) -> str:
    """The verdict of a process that is forked for this comparison."""
    try:
        child = os.fork()
    except OSError:  # no memory or no process left
        return CRASHED
    if child == 0:
        verdict = CRASHED
        try:
            detach()
            # The default action of SIGPROF ends the process, wherever it is.
            signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
            verdict = CORRECT if compare(gold, answer) else WRONG
        finally:
            os._exit(ord(verdict))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == -signal.SIGPROF:
        return TIMEOUT
    return {ord(CORRECT): CORRECT, ord(WRONG): WRONG}.get(status, CRASHED)


def detach() -> None:
    """Close the caller's pipes, so that the caller sees their end even while this process computes."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
