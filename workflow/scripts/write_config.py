"""Write one config of the experiment to its JSON file."""

import argparse
import json

from sspo.config.reading import load_json
from sspo.pipeline.files import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="the config as JSON text")
    parser.add_argument("output", help="file to write")
    parser.add_argument("choices", nargs="?", help="JSON: what the tuning chose, for a tuned run")
    arguments = parser.parse_args()
    config = json.loads(arguments.config)
    if arguments.choices:
        from sspo.experiment.tuning import apply_choice

        config = apply_choice(config, load_json(arguments.choices))
    write_json(arguments.output, config)


if __name__ == "__main__":
    main()
