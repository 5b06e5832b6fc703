"""Types of single values that several sections share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError


def _without_repetition(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len({*map(str, values)}) < len(values):
        raise PydanticCustomError("repeated", "an entry stands twice; remove one")
    return values


Name = Annotated[str, StringConstraints(pattern="^[a-z][a-z0-9_]*$")]
Betas = tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]]
Distinct = AfterValidator(_without_repetition)
Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), Distinct]
