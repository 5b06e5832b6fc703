"""The examples run as they stand; that of verl is in ``test_verl.py``."""

import os
import runpy
import subprocess
import sys

import pytest

from sspo.models.policy import save_model
from support.paths import ROOT, SOURCE
from support.runs import TOKENIZER, make_actors

EXAMPLES = ROOT / "examples"


def test_a_loop_of_ones_own_pushes_towards_the_right_answer_and_away_from_the_wrong_one(capsys):
    runpy.run_path(str(EXAMPLES / "plain_pytorch.py"))
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first == "update 0: weights [1.0, 1.0]"
    assert last.startswith("probabilities of the four tokens: [")
    probabilities = [float(p) for p in last.partition("[")[2].rstrip("]").split(",")]
    assert sum(probabilities) == pytest.approx(1.0, abs=2e-3)
    assert probabilities[2] > 0.25 > probabilities[3]  # of the right answer alone, of the wrong one


@pytest.mark.trl
@pytest.mark.slow
def test_a_script_for_trl_trains_by_sspo_after_a_change_of_one_line(tmp_path):
    pytest.importorskip("trl", reason="TRL is not installed (`make trl`)")
    save_model(make_actors().policy, TOKENIZER, tmp_path / "start")
    paths = {"PYTHONPATH": os.pathsep.join([str(SOURCE), *sys.path]), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, EXAMPLES / "trl_sspo.py", tmp_path / "start"],
        env={**os.environ, **paths, "CUDA_VISIBLE_DEVICES": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("objective/sequence_weight") == 16
    lines = (EXAMPLES / "trl_sspo.py").read_text().splitlines()
    assert [line for line in lines if "sspo.backends" in line] == [
        "from sspo.backends.trl import SSPOTrainer as GRPOTrainer  # it was: from trl import GRPOTrainer"
    ]
