"""Which modules no result depends on, told in another way than ``sspo.pipeline.closure`` does."""

from __future__ import annotations

import ast

from sspo.pipeline.closure import NO_RESULT
from support.paths import SOURCE


def left_out(file):
    """Whether a module cannot change a result: one of ``NO_RESULT``, or without a statement."""
    module = ".".join(file.relative_to(SOURCE).with_suffix("").parts)
    if any(f"{module}.".startswith(f"{name}.") for name in NO_RESULT):
        return True
    return all(isinstance(node, ast.Expr) for node in ast.parse(file.read_text()).body)
