"""The program that runs math-verify in a process of its own, which ``sspo.rewards.math`` starts and kills.

It reads one JSON line ``[gold, answer]`` at a time and writes one letter back. Every pair is compared in
a fork made for it alone, for two reasons. A verdict depends on nothing that was compared before, although
sympy and math-verify keep caches. And the kernel ends a comparison that outgrows its CPU time or memory,
even inside C code, where Python runs neither signal handlers nor other threads.

It is started by file name and imports nothing of the project, because that would import torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import logging
import os
import re
import resource
import signal
import sys
from collections.abc import Callable
from itertools import product
from typing import Any

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


def main(cpu_seconds: float, memory_mb: int) -> None:
    """Answer requests until the caller closes the pipe.

    Args:
        cpu_seconds: CPU time of one comparison.
        memory_mb: address space of this process and of every fork, in MiB; imports take about 120.
    """
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    equivalent = load_comparison()
    for gold, answer in WARM_UP:
        equivalent(gold, gold)
        equivalent(gold, answer)
    gc.freeze()  # otherwise a collection in a fork would copy every page that it only looks at
    reply(READY)
    with contextlib.suppress(BrokenPipeError):  # the caller has gone
        for line in sys.stdin.buffer:
            gold, answer = json.loads(line)
            reply(compare_in_fork(equivalent, gold, answer, cpu_seconds))


def reply(letter: str) -> None:
    os.write(1, letter.encode())


def compare_in_fork(
    equivalent: Callable[[str, str], bool], gold: str, answer: str, cpu_seconds: float
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
            verdict = CORRECT if equivalent(gold, answer) else WRONG
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


def load_comparison() -> Callable[[str, str], bool]:
    """The comparison ``(gold, answer) -> bool`` by math-verify, whose import takes seconds."""
    from math_verify import LatexExtractionConfig, parse, verify

    logging.disable(logging.CRITICAL)
    usual = LatexExtractionConfig(boxed_match_priority=0)
    # Removing units would drop the m of 6m as metres.
    keep_units = dataclasses.replace(usual.normalization_config, units=False)
    with_variable = dataclasses.replace(usual, normalization_config=keep_units)

    def read(latex: str, config: LatexExtractionConfig) -> list[object]:
        # No parsing_timeout: math-verify's own limits are signals, while ours end the process.
        return parse(rf"\boxed{{{latex}}}", [config], parsing_timeout=None)

    def equivalent(gold: str, answer: str) -> bool:
        if different_bases(gold, answer):
            return False
        config = with_variable if ends_in_variable(gold) else usual
        golds, answers = read(gold, config), read(answer, config)
        return verify(golds, answers, timeout_seconds=None) and not differ_in_size(golds, answers)

    return equivalent


def ends_in_variable(gold: str) -> bool:
    """Whether a letter directly follows a number or group, as in ``6m``; a unit is set apart by a space."""
    return re.search(r"[0-9}][a-z]\s*$", gold) is not None


def different_bases(gold: str, answer: str) -> bool:
    """Whether these are numerals such as ``52_8`` in two bases; math-verify ignores the bases."""
    numeral = re.compile(r"\s*[0-9A-Z]+_\{?([0-9]+)\}?\s*")
    first, second = numeral.fullmatch(gold), numeral.fullmatch(answer)
    return bool(first and second and int(first[1]) != int(second[1]))


def differ_in_size(golds: list[Any], answers: list[Any]) -> bool:
    """Whether two numbers near 0 are equal only by math-verify's absolute tolerances (1e-6, 1e-15)."""
    for gold, answer in product(golds, answers):
        with contextlib.suppress(Exception):  # text, sets and symbols are no numbers
            first, second = complex(gold), complex(answer)
            largest = max(abs(first), abs(second))
            return 0.0 < largest < 1e-3 and abs(first - second) > 1e-3 * largest
    return False


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
