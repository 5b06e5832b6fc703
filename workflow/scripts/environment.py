"""Record what the results were made with: commit, versions, hardware, pins."""

import argparse
from pathlib import Path

from sspo.pipeline.provenance import write_record
from sspo.pipeline.script import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", nargs="+", type=Path, required=True, help="files to hash")
    parser.add_argument("--output", type=Path, required=True, help="JSON to write")
    arguments = parser.parse_args()
    write_record(arguments.output, __file__, inputs=arguments.inputs, outputs=[])


if __name__ == "__main__":
    run(main)
