"""What scripts share: arguments, and expected errors in one line."""

import sys

import pytest

from sspo.config.errors import ConfigError
from sspo.pipeline.script import parse_paths, run


def test_an_expected_error_is_one_line_and_exit_code_1():
    def fails():
        raise ConfigError("here:\n  is what\nto fix")

    with pytest.raises(SystemExit) as stopped:
        run(fails)
    assert stopped.value.code == "error: here: is what to fix"


def test_a_script_without_its_paths_says_which_are_missing(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(SystemExit):
        parse_paths("Train.", config="run config")
    assert "--config" in capsys.readouterr().err
