"""Objectives are tried before any compute, and PyTorch is loaded only for one that has not passed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sspo.config.errors import ConfigError
from sspo.experiment import objectives
from sspo.experiment.objectives import check_params
from support.paths import PROFILES

EXPAND = """import sys
from sspo.config.profile import read_profile
from sspo.experiment.expand import expand_profile
expand_profile(read_profile([sys.argv[1]]), "here")
print([name for name in ("torch", "transformers", "scipy", "pandas") if name in sys.modules])
"""
CLIPS = {"clip_low": 0.2, "clip_high": 0.2}


@pytest.fixture
def records(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".snakemake").mkdir()
    return tmp_path / ".snakemake/objectives"


def test_a_profile_that_has_passed_is_read_without_pytorch(records, tmp_path):
    command = [sys.executable, "-c", EXPAND, str(PROFILES / "default.yaml")]
    found = [
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    ]
    assert found == ["['torch']\n", "[]\n"]


def test_what_has_not_passed_is_tried_every_time(records):
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"methods\.mine: clip_low = -1"):
            check_params("mine", "grpo", {**CLIPS, "clip_low": -1.0})
    assert not records.exists()


def test_other_parameters_and_other_code_are_tried_anew(records, monkeypatch, tmp_path):
    check_params("mine", "grpo", CLIPS)
    check_params("yours", "grpo", CLIPS)
    assert len([*records.iterdir()]) == 1
    check_params("mine", "grpo", {**CLIPS, "clip_low": 0.1})
    assert len([*records.iterdir()]) == 2
    (tmp_path / "losses.py").write_text("edited")
    monkeypatch.setattr(objectives, "CODE", tmp_path)
    check_params("mine", "grpo", CLIPS)
    assert len([*records.iterdir()]) == 3


def test_without_snakemakes_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_params("mine", "grpo", CLIPS)
    assert not [*tmp_path.iterdir()]
