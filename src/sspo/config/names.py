"""Names that an experiment reserves, and the folders they stand for under its results."""

CONTROL = "supervised"  # the method that is trained without reward
MAIN = "main"  # the regime of the `experiment` section itself
TUNING = "tuning"  # the regime of tuning trials
BASE = "base"  # the base model of `task`, `model` and `pretrain` themselves


def base_place(name: str) -> str:
    """The folder of a base model."""
    return BASE if name == BASE else f"bases/{name}"
