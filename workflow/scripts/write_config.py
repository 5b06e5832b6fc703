"""Write one config of the experiment to its JSON file."""

import argparse
import json

from sspo.files import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="the config as JSON text")
    parser.add_argument("output", help="file to write")
    arguments = parser.parse_args()
    write_json(arguments.output, json.loads(arguments.config))


if __name__ == "__main__":
    main()
