"""Write one table: HTML, Markdown and CSV beside it, and a JSON record of what it was made from."""

from functools import partial
from pathlib import Path

from sspo.figures.command import make, parser
from sspo.figures.markup import save
from sspo.figures.registry import TABLES
from sspo.pipeline.script import run


def main() -> None:
    command = parser(__doc__, "the HTML to write, named as the table is")
    command.add_argument("--template", required=True, type=Path, help="Jinja template of the HTML")
    arguments = command.parse_args()
    template = arguments.template
    make(arguments, __file__, TABLES, partial(save, template=template), template)


if __name__ == "__main__":
    run(main)
