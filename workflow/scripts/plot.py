"""Draw one figure: PNG, PDF beside it, and a JSON record of what it was made from."""

from sspo.figures.command import make, parser
from sspo.figures.registry import FIGURES
from sspo.figures.style import save
from sspo.pipeline.script import run


def main() -> None:
    arguments = parser(__doc__, "the PNG to write, named as the figure is").parse_args()
    make(arguments, __file__, FIGURES, save)


if __name__ == "__main__":
    run(main)
