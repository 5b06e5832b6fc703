"""The 2 x 2 behind SSPO's argument: token or sequence level, hard clip or soft gate.

Per paired run (base model and seed), with cell values turned so that higher is better:

    level       = ((sequence hard + sequence soft) - (token hard + token soft)) / 2
    gate        = ((token soft + sequence soft) - (token hard + sequence hard)) / 2
    interaction = (sequence soft - sequence hard) - (token soft - token hard)

and a t interval over pairs. GSPO and GMPO both belong in the sequence-hard cell: it is filled with
their mean, and then with each of them alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from pandas import DataFrame

from sspo.config.reading import JsonDict
from sspo.evidence.claims import check_runs, effect_interval, paired_values
from sspo.evidence.protocol import Measure, Protocol

CELLS = ("token_hard", "token_soft", "sequence_hard", "sequence_soft")


def factorial_effects(protocol: Protocol, runs: DataFrame) -> list[JsonDict]:
    """Main effects and interaction of every measure, regime and SSPO variant.

    Args:
        protocol: its ``factorial`` names the cells.
        runs: as in ``sspo.evidence.claims.compare``.

    Returns:
        Rows with measure, regime, sspo, sequence_hard (the methods in that cell, joined by "+"),
        contrast, n, effect, low and high; the last three are None where there are too few pairs.

    Raises:
        ValueError: a column is missing, or a run occurs twice.
    """
    check_runs(protocol, runs)
    cells = protocol.factorial
    hard = cells.sequence_hard
    return [
        row
        for measure in protocol.measures
        for regime in runs["regime"].unique()
        for variant in protocol.sspo
        for filling in dict.fromkeys([hard, *((method,) for method in hard)])
        for row in _effects(
            protocol,
            measure,
            runs[runs["regime"] == regime],
            (cells.token_hard, cells.token_soft, filling, (variant,)),
        )
    ]


def contrasts(cells: DataFrame) -> DataFrame:
    """Level, gate and interaction per pair, from columns ``CELLS``."""
    token_hard, token_soft, sequence_hard, sequence_soft = (cells[name] for name in CELLS)
    return DataFrame(
        {
            "level": (sequence_hard + sequence_soft - token_hard - token_soft) / 2.0,
            "gate": (token_soft + sequence_soft - token_hard - sequence_hard) / 2.0,
            "interaction": (sequence_soft - sequence_hard) - (token_soft - token_hard),
        }
    )


def _effects(
    protocol: Protocol, measure: Measure, runs: DataFrame, filling: Sequence[tuple[str, ...]]
) -> list[JsonDict]:
    """The rows of one measure in one regime; ``filling`` has the methods of each of ``CELLS``."""
    methods = list(dict.fromkeys(chain(*filling)))
    values = measure.sign * paired_values(runs, measure.name, methods).dropna().astype(float)
    cells = {
        name: values[list(cell)].mean(axis=1) for name, cell in zip(CELLS, filling, strict=True)
    }
    where = {
        "measure": measure.name,
        "regime": str(runs["regime"].iloc[0]),
        "sspo": filling[3][0],
        "sequence_hard": "+".join(filling[2]),
    }
    return [
        {**where, "contrast": name, "n": len(pairs), **effect_interval(pairs, protocol.level)}
        for name, pairs in contrasts(DataFrame(cells)).items()
    ]
