"""What an edit reruns: from the inputs that every job of the confirming study declares, in one dry run."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

from sspo.pipeline.closure import code_files
from support.paths import ROOT, SOURCE
from support.snakemake import snakemake


class Job(NamedTuple):
    rule: str
    inputs: frozenset[str]
    outputs: frozenset[str]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Every job of the study."""
    text = snakemake(
        tmp_path_factory.mktemp("study"),
        *("--dry-run", "--forceall", "--configfile", ROOT / "config/evidence.yaml"),
    )

    def files(kind, body):
        stated = re.search(rf"^ +{kind}: (.*)$", body, flags=re.MULTILINE)
        return frozenset(stated[1].split(", ")) if stated else frozenset()

    jobs = re.findall(r"^(?:local)?rule (\w+):\n((?: {4}.*\n)+)", text, flags=re.MULTILINE)
    return [Job(name, files("input", body), files("output", body)) for name, body in jobs]


def rerun(jobs, edited):
    """The jobs that depend on a file of the checkout, directly or through another job's output."""
    changed, found = {str(ROOT / edited)}, set()
    while new := {job for job in jobs if job.inputs & changed} - found:
        found |= new
        # Where curves are shown is an `ancient` input: its date counts for nothing.
        changed |= {out for job in new for out in job.outputs if "/tracking/" not in out}
    return found


JUDGED = {"judge", "f0", "f16", "t2"}
MEASURED = {"measure", "f8", "f10", "t5"} | JUDGED
SUMMARIZED = {"summarize", "t1", "f11", "f15", *(f"f{i}" for i in range(2, 10))} | MEASURED
CHOSEN = {"choose", "f12", "t3"} | {
    "write_config",
    "settings",
    "t4",
}  # F1 is of runs that are not tuned
TRAINED = {"train", "evaluate"} | CHOSEN | SUMMARIZED
WARMED_UP = {"pretrain", "train_control"} | TRAINED
STUDIED = {"exact_study", "f13", "f14"}
FIGURES, TABLES = {f"f{i}" for i in range(17)}, {f"t{i}" for i in range(1, 6)}

PAGES = {"curves", "overview"}  # the latter shows every figure and table


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edited", "expected"),
    [
        ("src/sspo/pipeline/locks.py", set()),
        ("src/sspo/pipeline/provenance.py", set()),
        ("src/sspo/config/settings.py", set()),
        ("src/sspo/planning/memory.py", set()),
        ("src/sspo/rollout/vllm_engine.py", set()),  # no run of this study uses it
        ("src/sspo/rewards/math.py", set()),
        ("src/sspo/models/lora.py", set()),
        ("src/sspo/backends/trl_run.py", set()),
        ("src/sspo/objectives/losses.py", TRAINED | STUDIED | {"gate_curves", "f1"}),
        ("src/sspo/objectives/gates.py", TRAINED | STUDIED | {"gate_curves", "f1"}),
        ("src/sspo/training/trainer.py", TRAINED),
        ("src/sspo/training/grading.py", WARMED_UP),
        ("src/sspo/training/supervised.py", WARMED_UP),
        ("src/sspo/models/tokenizer.py", WARMED_UP),
        ("src/sspo/data/tasks.py", {"prepare_data"} | WARMED_UP),
        ("src/sspo/experiment/tuning.py", TRAINED),
        ("src/sspo/training/evaluation.py", {"evaluate"} | SUMMARIZED),
        ("workflow/scripts/train_control.py", {"train_control", "evaluate"} | SUMMARIZED),
        ("src/sspo/evidence/measures.py", MEASURED | TABLES),
        ("workflow/claims.yaml", MEASURED),
        ("workflow/scripts/judge.py", JUDGED),
        ("src/sspo/evidence/report.py", JUDGED),
        ("src/sspo/evidence/exact/gradients.py", STUDIED),
        ("workflow/sources.yaml", {"settings", "t4"}),
        ("requirements.txt", {"environment"}),
        ("workflow/scripts/plot.py", FIGURES),
        ("workflow/scripts/write_table.py", TABLES),
        ("src/sspo/figures/exact.py", {"f13", "f14"}),
    ],
)
def test_an_edit_reruns_exactly_the_rules_that_depend_on_it(study, edited, expected):
    assert (ROOT / edited).is_file()
    rules = {re.sub(r"^\w+?_([ft]\d+)_\w+$", r"\1", job.rule) for job in rerun(study, edited)}
    assert rules - {"all", *PAGES} == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edited", "expected"),
    [
        ("workflow/report/curves.html", {"curves"}),
        ("src/sspo/figures/curves_page.py", {"curves"}),
        ("src/sspo/training/trainer.py", PAGES),
        ("workflow/report/overview.html", {"overview"}),
        ("workflow/report/f2_reward.rst", {"overview"}),
        ("src/sspo/figures/overview.py", {"overview"}),
        ("src/sspo/figures/exact.py", {"overview"}),
        ("workflow/scripts/judge.py", {"overview"}),
        ("requirements.txt", {"overview"}),
        ("src/sspo/pipeline/locks.py", set()),
    ],
)
def test_a_page_is_written_again_when_something_that_it_shows_is(study, edited, expected):
    assert (ROOT / edited).is_file()
    assert {job.rule for job in rerun(study, edited)} & PAGES == expected


@pytest.mark.slow
def test_an_edited_trainer_reruns_every_trial_and_every_run_but_no_control(study):
    trained = {job for job in rerun(study, "src/sspo/training/trainer.py") if job.rule == "train"}
    assert trained == {job for job in study if job.rule == "train"}
    assert len(trained) > 200


PLAIN = {"rollout": {"engine": "torch"}, "reward": {"name": "exact"}, "lora": {"rank": 0}}


@pytest.mark.parametrize(
    ("script", "module", "config"),
    [
        ("train", "rollout/vllm_engine", {"rollout": {"engine": "vllm"}}),
        ("train", "rollout/vllm_engine", {"rollout": {"engine": "vllm_server"}}),
        ("train", "rollout/vllm_server", {"rollout": {"engine": "vllm_server"}}),
        ("train_trl", "rollout/vllm_engine", {"rollout": {"engine": "vllm"}}),
        ("evaluate", "rollout/vllm_engine", {"evaluation": {"engine": "vllm"}}),
        ("train", "rewards/math", {"reward": {"name": "math"}}),
        ("train", "rewards/worker", {"reward": {"name": "math"}}),
        ("evaluate", "rewards/answers", {"reward": {"name": "math"}}),
        ("prepare_data", "rewards/math", {"reward": {"name": "math"}, "math_data": {}}),
        ("prepare_data", "data/splits", {"math_data": {}}),
        ("prepare_data", "data/gym", {"gym_data": {}}),
        ("prepare_data", "rewards/scoring", {"gym_data": {}}),
        ("train", "rewards/scoring", {"reward": {"name": "reasoning_gym"}}),
        ("train", "rewards/gym", {"reward": {"name": "reasoning_gym"}}),
        ("train", "rewards/equality", {"reward": {"name": "math"}}),
        ("train", "models/lora", {"lora": {"rank": 4}}),
        ("write_config", "experiment/tuning", {"tuned": "all"}),
    ],
)
def test_a_module_counts_for_the_runs_that_use_it_alone(script, module, config):
    script = ROOT / f"workflow/scripts/{script}.py"
    file = SOURCE / f"sspo/{module}.py"
    assert file in code_files(script, config=PLAIN | config)
    assert file not in code_files(script, config=PLAIN)
    assert file in code_files(script)  # without a config, whatever it could use


def test_the_server_alone_is_no_part_of_a_run_inside_this_process():
    config = PLAIN | {"rollout": {"engine": "vllm"}}
    files = code_files(ROOT / "workflow/scripts/train.py", config=config)
    assert SOURCE / "sspo/rollout/vllm_server.py" not in files
