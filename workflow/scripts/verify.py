"""Recompute the hashes of all results and figures, and say which no longer match their records.

With --config, it also says which were made with other settings than the profile has now.
"""

import argparse
import sys
from pathlib import Path

from sspo.config.errors import ConfigError
from sspo.experiment.stale import describe, read_changes
from sspo.pipeline.script import run
from sspo.pipeline.verification import verify

SHOWN = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="folder of the results")
    parser.add_argument("--figures", type=Path, required=True, help="folder of the figures")
    parser.add_argument("--config", type=Path, nargs="*", default=[], help="profiles to merge")
    parser.add_argument("--remake", default="make reproduce", help="what makes the results")
    arguments = parser.parse_args()
    results, remake = arguments.results, arguments.remake
    _, changed = read_changes(arguments.config, results)
    left_behind = [str(results / place / "config.json") for place in changed]
    verdict = verify(results, arguments.figures, left_behind)
    for problem in verdict.problems:
        print(f"{problem.path}: {problem.what}", file=sys.stderr)
        print_made(problem.affected)
    if changed:
        print("\n".join(describe(changed, str(arguments.config[-1]))), file=sys.stderr)
        print_made(verdict.stale)
    if not verdict.records:
        raise ConfigError(f"{results}: no records here; make results with `{remake}`")
    bad, stale = len(verdict.problems), len(verdict.stale)
    wrong = [f"{bad} of {verdict.files} files do not match their records"] if bad else []
    wrong += [f"{stale} of {verdict.files} files are stale"] if changed else []
    if wrong:
        damaged = ", or delete the damaged files first" if bad else ""
        raise ConfigError(f"{', '.join(wrong)}; run `{remake}` again{damaged}")
    print(f"{verdict.files} files match {verdict.records} records")


def print_made(files: set[str]) -> None:
    for path in sorted(files)[:SHOWN]:
        print(f"  made from it: {path}", file=sys.stderr)
    if len(files) > SHOWN:
        print(f"  and {len(files) - SHOWN} more files", file=sys.stderr)


if __name__ == "__main__":
    run(main)
