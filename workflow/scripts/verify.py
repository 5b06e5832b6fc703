"""Recompute the hashes of all results and figures, and say which no longer match their records."""

import sys

from sspo.config.errors import ConfigError
from sspo.pipeline.script import parse_paths, run
from sspo.pipeline.verification import verify

SHOWN = 8


def main() -> None:
    paths = parse_paths(__doc__, results="folder of the results", figures="folder of the figures")
    verdict = verify(paths.results, paths.figures)
    for problem in verdict.problems:
        print(f"{problem.path}: {problem.what}", file=sys.stderr)
        affected = sorted(problem.affected)
        for path in affected[:SHOWN]:
            print(f"  made from it: {path}", file=sys.stderr)
        if affected[SHOWN:]:
            print(f"  and {len(affected) - SHOWN} more files", file=sys.stderr)
    if not verdict.records:
        raise ConfigError(f"{paths.results}: no records here; make results with `make reproduce`")
    if verdict.problems:
        raise ConfigError(
            f"{len(verdict.problems)} of {verdict.files} files do not match their records; run "
            "`make reproduce` again, or delete the damaged files first"
        )
    print(f"{verdict.files} files match {verdict.records} records")


if __name__ == "__main__":
    run(main)
