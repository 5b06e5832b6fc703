"""The workflow as the Snakemake workflow catalog wants it: from anywhere, into any folder, as a module."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

import pytest

from support.paths import ROOT, SOURCE
from support.snakemake import BIN, snakemake

pytestmark = pytest.mark.slow

CHEAP = "results/summary/settings.csv"  # two rules, neither with PyTorch
MODULE = """
configfile: "{checkout}/config/default.yaml"


module sspo:
    snakefile:
        "{checkout}/workflow/Snakefile"
    config:
        config


use rule * from sspo as sspo_*
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The repository under a path with a space."""
    folder = tmp_path_factory.mktemp("a checkout")
    for name in ("workflow", "config"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("Snakefile", "requirements.txt", "environment.yml"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.mark.parametrize("snakefile", ["Snakefile", "workflow/Snakefile", "module"])
def test_results_go_to_the_working_directory_however_the_workflow_is_started(
    checkout, tmp_path, snakefile
):
    if snakefile == "module":
        snakefile, folder = tmp_path / "Snakefile", tmp_path
        snakefile.write_text(MODULE.format(checkout=checkout))
    else:
        snakefile, folder = checkout / snakefile, tmp_path / "results here"
    before = sorted(checkout.rglob("*"))
    planned = snakemake(folder, "--dry-run", "results/claims.json", snakefile=snakefile)
    assert re.search(r"^(sspo_)?train +\d+$", planned, flags=re.MULTILINE)
    snakemake(folder, CHEAP, snakefile=snakefile)
    assert (folder / CHEAP).read_text().startswith("method,key,value,source\n")
    record = json.loads((folder / CHEAP).with_suffix(".provenance.json").read_text())
    assert record["outputs"].keys() == {CHEAP}
    assert sorted(checkout.rglob("*")) == before
    again = snakemake(folder, "--dry-run", CHEAP, snakefile=snakefile)
    assert "Nothing to be done" in again


@pytest.mark.parametrize("snakefile", ["Snakefile", "workflow/Snakefile"])
def test_the_default_target_is_everything(tmp_path, snakefile):
    planned = snakemake(tmp_path, "--dry-run", snakefile=ROOT / snakefile)
    assert re.search(r"^all +1$", planned, flags=re.MULTILINE)


def test_reading_the_workflow_writes_and_deletes_nothing(tmp_path):
    kept = tmp_path / ".snakemake/locks/0.input.lock"
    kept.parent.mkdir(parents=True)
    kept.write_text("results\n")
    snakemake(tmp_path, "--list")
    assert kept.read_text() == "results\n"
    assert {path.name for path in tmp_path.iterdir()} == {".snakemake"}
    assert not (tmp_path / ".snakemake/sspo").exists()


def test_the_linter_misses_nothing_but_an_environment_per_rule(tmp_path):
    """All rules share one environment, which is activated first: it installs this checkout by path."""
    done = subprocess.run(
        [BIN / "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", tmp_path, "--lint"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    found = set(re.findall(r"^ {4}\* (.*)$", done.stdout + done.stderr, flags=re.MULTILINE))
    assert found == {"Specify a conda environment or container for each rule.:"}


def test_every_rule_writes_a_log_of_its_own():
    texts = [path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk")]
    rules = sum(len(re.findall(r"^ *rule\b.*:$", text, flags=re.MULTILINE)) for text in texts)
    logs = [log for text in texts for log in re.findall(r"log:\n +f\"(.*)\"", text)]
    assert len(logs) == rules
    # Native runs and controls are different runs in one folder of logs.
    assert len({*logs}) == rules - 1


def test_files_are_formatted():
    command = [BIN / "snakefmt", "--check", "Snakefile", "workflow"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
