"""Write the numbers of documents anew from the records in the repository; with --check, only compare."""

import argparse
from pathlib import Path

from sspo.config.errors import ConfigError
from sspo.evidence.documents import fill
from sspo.pipeline.files import write_bytes
from sspo.pipeline.script import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--templates", type=Path, required=True, help="folder of the templates")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail where one differs"
    )
    parser.add_argument(
        "documents", type=Path, nargs="+", help="Markdown, each with a template of its name"
    )
    given = parser.parse_args()
    for path in given.documents:
        text = path.read_text(encoding="utf-8")
        new = fill(text, given.templates / f"{path.name}.jinja", Path.cwd())
        if new == text:
            continue
        if given.check:
            raise ConfigError(
                f"{path}: its numbers are not those of the records; run `make write-docs`"
            )
        write_bytes(path, new.encode())


if __name__ == "__main__":
    run(main)
