"""Record what the results were made with: commit, versions, hardware, pins."""

import argparse
from pathlib import Path

from sspo.cli import run
from sspo.files import write_json
from sspo.provenance import provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", nargs="+", type=Path, required=True, help="files to hash")
    parser.add_argument("--output", type=Path, required=True, help="JSON to write")
    arguments = parser.parse_args()
    write_json(arguments.output, provenance(arguments.inputs))


if __name__ == "__main__":
    run(main)
