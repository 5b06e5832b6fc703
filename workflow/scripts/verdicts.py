"""The last lines of a pipeline: what it found on every claim, and where to look."""

from sspo.config.reading import load_json
from sspo.evidence.page import last_lines, read_labels
from sspo.pipeline.script import parse_paths, run


def main() -> None:
    paths = parse_paths(__doc__, results="folder of the results", figures="folder of the figures")
    report = load_json(paths.results / "claims.json")
    labels = read_labels(paths.results / "methods/config.json")
    print(last_lines(report, labels, str(paths.results), str(paths.figures)))


if __name__ == "__main__":
    run(main)
