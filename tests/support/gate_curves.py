"""The functions of ``workflow/scripts/gate_curves.py``, the data of figure F1."""

import runpy

from support.paths import SCRIPTS

_SCRIPT = runpy.run_path(str(SCRIPTS / "gate_curves.py"))
curve, gate_facts, RATIOS = _SCRIPT["curve"], _SCRIPT["gate_facts"], _SCRIPT["RATIOS"]
