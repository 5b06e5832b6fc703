"""The pipeline: what an edit reruns, what bad input costs, equal results on one and two cores."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from support.paths import ROOT
from support.pipelines import Workspace, pretended_study

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A workspace in which the whole (pretended) pipeline has run."""
    workspace = Workspace(tmp_path_factory.mktemp("finished"), fake=True)
    workspace.run("--cores", "2")
    return workspace


@pytest.fixture
def workspace(finished, tmp_path):
    """A copy of the finished workspace, file times included, free to edit."""
    copied = Workspace.__new__(Workspace)
    copied.folder, copied.path = tmp_path / "copy", finished.path
    shutil.copytree(finished.folder, copied.folder)
    return copied


PAGES = {"curves", "overview"}


def plots(planned):
    """The jobs among these that draw a figure or write a table."""
    return {job for job in planned if job.startswith(("plot_", "tabulate_"))}


def test_a_finished_pipeline_has_nothing_to_do(workspace):
    assert workspace.planned() == set()


def test_editing_one_loss_parameter_reruns_only_the_runs_that_use_it(workspace):
    params = {"gate": "sigmoid", "tau_pos": 2.0, "tau_neg": 1.0}
    workspace.edit(methods__sspo__params=params)
    planned = workspace.planned()
    assert {job for job in planned if job.startswith("train:")} == {
        "train:sspo-s0",
        "train:sspo-s1",
    }
    assert not any("grpo" in job or "supervised" in job for job in planned)
    assert not any(job.startswith("pretrain") for job in planned)
    assert "prepare_data" not in planned
    assert {"summarize", "gate_curves", "settings"} <= planned
    assert len(plots(planned)) == 19


@pytest.mark.trl
def test_a_run_inside_trl_is_launched_by_accelerate_and_reruns_for_no_other(workspace):
    pytest.importorskip("trl", reason="TRL is not installed (`make trl`)")
    (workspace.folder / "two.yaml").write_text("num_processes: 2\n")
    workspace.edit(methods__sspo={"trainer": "trl"}, backends={"accelerate_config": "two.yaml"})
    runs = {job for job in workspace.planned() if job.startswith("train")}
    assert runs == {"train:sspo-s0", "train:sspo-s1"}
    shell = workspace.run("--dry-run", "--printshellcmds", "--cores", "2")
    assert (
        shell.count("accelerate launch --config_file two.yaml workflow/scripts/train_trl.py") == 2
    )
    assert len(re.findall(r"^ *input: .*\btwo\.yaml\b", shell, flags=re.MULTILINE)) == 2


def test_without_a_measured_kl_there_is_no_figure_of_it(workspace):
    assert "plot_f5_kl" in workspace.run("--dry-run", "--cores", "1", "--forceall")
    workspace.edit(train={"kl_every": 0})
    text = workspace.run("--dry-run", "--cores", "1", "--forceall")
    assert "plot_f5_kl" not in text and "plot_f4_entropy" in text


WITH_A_MODEL = ["pretrain:base", "train:sspo-s0", "train_control:supervised-s0", "evaluate:base"]


def resources(workspace, *arguments):
    """Threads and resources that a dry run of everything states for every job with a wildcard."""
    text = workspace.run("--dry-run", "--cores", "16", "--forceall", *arguments)
    found = {}
    for rule, body in re.findall(r"^rule (\w+):\n((?: {4}.*\n)+)", text, flags=re.MULTILINE):
        wildcard = re.search(r"wildcards: \w+=(\S+)", body)
        if wildcard:
            stated = re.search(r"resources: (.*)", body)[1].split(", ")
            threads = re.search(r"threads: (\d+)", body)
            values = dict(entry.split("=") for entry in stated)
            found[f"{rule}:{wildcard[1]}"] = {**values, "threads": threads[1] if threads else "1"}
    return found


def test_jobs_with_a_model_ask_for_the_memory_of_the_profile_and_retrain_for_none(workspace):
    workspace.edit(compute__memory_mb=12345)
    planned = workspace.planned()
    assert not any(job.startswith(("train", "pretrain", "evaluate")) for job in planned)
    found = resources(workspace)
    assert {found[job]["mem_mb"] for job in WITH_A_MODEL} == {"12345"}


def test_a_base_model_warms_up_on_its_own_threads(workspace):
    workspace.edit(
        bases={"second": {"pretrain": {"threads": 3}}}, experiment__bases=["base", "second"]
    )
    found = resources(workspace)
    assert found["pretrain:bases/second"]["threads"] == "3"
    assert found["pretrain:base"]["threads"] == "1"


def test_jobs_on_a_gpu_hold_the_only_one(workspace):
    limits = yaml.safe_load((workspace.folder / "profiles/default/config.yaml").read_text())
    assert "gpu=1" in limits["resources"]
    assert not any("gpu" in held for held in resources(workspace).values())
    workspace.edit(compute__device="cuda")
    found = resources(workspace)
    assert {found[job]["gpu"] for job in WITH_A_MODEL} == {"1"}


@pytest.mark.trl
def test_a_run_inside_trl_asks_for_a_gpu_per_process(workspace):
    pytest.importorskip("trl", reason="TRL is not installed (`make trl`)")
    (workspace.folder / "two.yaml").write_text("num_processes: 2\n")
    workspace.edit(
        compute__device="cuda",
        methods__sspo={"trainer": "trl"},
        backends={"accelerate_config": "two.yaml"},
    )
    raised = resources(workspace, "--resources", "gpu=8", "vllm_server=1")
    assert (raised["train:sspo-s0"]["gpu"], raised["train:grpo-s0"]["gpu"]) == ("2", "1")
    assert resources(workspace)["train:sspo-s0"]["gpu"] == "1"  # all that there is


def test_editing_the_group_size_retrains_every_method_but_not_the_base_model(workspace):
    workspace.edit(rollout__group_size=4)
    planned = workspace.planned()
    assert {f"train:{method}-s{seed}" for method in ("grpo", "sspo") for seed in (0, 1)} <= planned
    assert not any(job.startswith("pretrain") for job in planned)
    assert "evaluate:base" not in planned


def test_another_place_for_curves_trains_nothing_anew(workspace):
    workspace.edit(tracking__project="elsewhere")
    planned = workspace.planned()
    assert "write_config:tracking" in planned
    assert not any(job.startswith(("train", "pretrain", "evaluate")) for job in planned)


def test_editing_plotting_retrains_nothing(workspace):
    workspace.append("src/sspo/figures/registry.py", "\n# edited\n")
    planned = workspace.planned()
    assert planned == plots(planned) | PAGES
    assert len(plots(planned)) == 19


@pytest.mark.parametrize(
    ("file", "text", "remade"),
    [
        ("src/sspo/figures/gates.py", "\n# edited\n", {"plot_f1_gates"}),
        ("src/sspo/figures/exact.py", "\n# edited\n", {"plot_f13_exact", "plot_f14_staleness"}),
        (
            "src/sspo/figures/verdicts.py",
            "\n# edited\n",
            {"plot_f0_differences", "plot_f16_verdicts"},
        ),
        (
            "workflow/report/table.html",
            "<!-- edited -->\n",
            {
                f"tabulate_{t}"
                for t in ("t1_benchmarks", "t2_factorial", "t4_settings", "t5_outcomes")
            },
        ),
    ],
)
def test_editing_a_family_of_figures_remakes_that_family_alone(workspace, file, text, remade):
    workspace.append(file, text)
    assert workspace.planned() == remade | {"overview"}  # which shows them all


def test_an_edit_of_locks_and_settings_reruns_nothing(workspace):
    for module in ("pipeline/locks", "pipeline/provenance", "config/settings"):
        workspace.append(f"src/sspo/{module}.py", "\n# edited\n")
    assert workspace.planned() == set()


def test_editing_losses_retrains_every_method_but_not_the_base_model(workspace):
    workspace.append("src/sspo/objectives/losses.py", "\n# edited\n")
    planned = workspace.planned()
    trained = {f"train:{method}-s{seed}" for method in ("grpo", "sspo") for seed in (0, 1)}
    assert trained <= planned
    assert not any("control" in job or job.startswith("pretrain") for job in planned)


def test_a_colour_redraws_figures_and_retrains_nothing(workspace):
    workspace.edit(methods__sspo__color="#123456")
    planned = workspace.planned()
    assert not any(
        job.startswith(("train", "pretrain", "evaluate", "summarize")) for job in planned
    )
    assert len(plots(planned)) == 19


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    return pretended_study(tmp_path_factory.mktemp("studied"))


def test_tuned_runs_train_with_what_was_chosen_and_others_with_what_is_written(studied):
    def config(run):
        return json.loads((studied.folder / f"results/runs/{run}/config.json").read_text())

    for tuned in ("sspo-s0", "sspo-stale-second-s5"):
        assert config(tuned)["train"]["learning_rate"] == 0.5
        assert config(tuned)["objective"] == {"name": "sspo", "params": {"chosen": True}}
    written = config("sspo-other-letters-s5")
    assert written["train"]["learning_rate"] == 1e-4
    assert written["objective"]["params"]["tau_pos"] == 1.0
    assert config("sspo-tuning0-s9")["train"]["learning_rate"] == 1e-4
    table = (studied.folder / "results/summary/settings.csv").read_text()
    assert "--choices results/tuning/main/choices.json" in table


def test_a_run_learns_from_its_own_base_model_and_that_models_data(studied):
    commands = {
        run: (studied.folder / f"results/runs/{run}/metrics.jsonl").read_text()
        for run in ("sspo-s0", "sspo-stale-second-s5", "sspo-other-letters-s5")
    }
    assert "--base results/base/model --problems results/data/train.jsonl" in commands["sspo-s0"]
    shared = "--base results/bases/second/model --problems results/data/train.jsonl"
    assert shared in commands["sspo-stale-second-s5"]
    own = "--base results/bases/letters/model --problems results/bases/letters/data/train.jsonl"
    assert own in commands["sspo-other-letters-s5"]
    evaluated = (studied.folder / "results/runs/sspo-other-letters-s5/eval.json").read_text()
    assert "--data results/bases/letters/data" in evaluated
    assert "--config results/bases/letters/evaluation/config.json" in evaluated
    assert not (studied.folder / "results/bases/second/data").exists()


def test_editing_the_plan_of_the_claims_trains_nothing(studied, tmp_path):
    copied = Workspace.__new__(Workspace)
    copied.folder, copied.path = tmp_path / "copy", studied.path
    shutil.copytree(studied.folder, copied.folder)
    copied.append("workflow/claims.yaml", "\n# edited\n")
    planned = copied.planned()
    assert {"measure", "judge", "plot_f16_verdicts"} <= planned
    assert not any(job.startswith(("train", "evaluate", "summarize")) for job in planned)


def test_a_dry_run_names_the_keys_that_changed_and_prints_no_config(workspace):
    workspace.edit(methods__sspo__params={"gate": "sigmoid", "tau_pos": 2.0, "tau_neg": 1.0})
    text = workspace.run("--dry-run", "--cores", "2")
    assert "tiny.yaml: changed since the results were made\n" in text
    assert re.search(r"^  objective\.params\.tau_pos = 2\.0, was 1\.0 \(runs/sspo-s0, runs/sspo-s1\)$",
                     text, flags=re.MULTILINE)  # fmt: skip
    reasons = re.findall(r"reason: (Params have changed.*)", text)
    assert len(reasons) == len(re.findall("^rule write_config:", text, flags=re.MULTILINE)) == 4
    assert all(len(reason) < 200 and "{" not in reason for reason in reasons)


def test_a_new_seed_runs_only_that_seed(workspace):
    workspace.edit(experiment__seeds=[0, 1, 2])
    trained = {job for job in workspace.planned() if job.startswith("train")}
    assert trained == {"train:grpo-s2", "train:sspo-s2", "train_control:supervised-s2"}


def test_a_failed_run_is_continued_without_repeating_the_others(workspace):
    for missing in ("results/runs/sspo-s1", "results/summary", "figures"):
        shutil.rmtree(workspace.folder / missing)
    planned = workspace.planned()
    assert {job for job in planned if job.startswith("train")} == {"train:sspo-s1"}


def forced_targets(option):
    """What the documents make again with an option: files, with braces as the shell has them, and rules."""
    text = "".join((ROOT / file).read_text() for file in ("README.md", "docs/reproducing.md"))
    found = re.findall(rf"^snakemake --cores all {option} ([^#\n]+)", text, flags=re.MULTILINE)
    words = " ".join(sorted(found)).replace("s{0,1,2}", "s{0,1}")  # the seeds of this workspace
    command = ["bash", "-c", f"printf '%s\\n' {words}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


# Apart, so that no job reruns only because another one does.
@pytest.mark.parametrize(
    ("option", "kind"),
    [("-f", "metrics.jsonl"), ("-f", "eval.json"), ("-f", "plot_|tabulate_"), ("--forcerun", "")],
)
def test_the_documented_commands_make_their_part_again(workspace, option, kind):
    targets = [target for target in forced_targets(option) if re.search(kind, target)]
    text = workspace.run("--cores", "2", "--dry-run", option, *targets)
    jobs = re.findall(r"^rule (\w+):\n((?: {4}.*\n)+)", text, flags=re.MULTILINE)
    forced = [(name, body) for name, body in jobs if "reason: Forced execution" in body]
    assert targets
    for target in targets:
        made = [name for name, body in forced if target == name or re.search(rf" {target}\b", body)]
        assert made, target


def test_every_command_that_the_readme_has_for_a_part_forces_it():
    _, part = (ROOT / "README.md").read_text().split("## Rerun a part\n")
    lines = [line for line in part.split("##")[0].splitlines() if line.startswith("snakemake ")]
    assert len(lines) == 4
    assert all(" -f " in line or " --forcerun " in line for line in lines)


@pytest.fixture
def without_vllm(workspace):
    """A workspace in whose processes vLLM cannot be found, installed or not."""
    (workspace.folder / "src/sitecustomize.py").write_text(
        "import importlib.util as util\nfind = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'vllm' else find(name, *rest)\n"
    )
    return workspace


SAMPLED = {
    "label": "sampled by vLLM",
    "color": "#882255",
    "objective": "sspo",
    "params": {"gate": "sigmoid", "tau_pos": 1.0, "tau_neg": 1.0},
    "rollout": {"engine": "vllm"},
}


def test_an_optional_method_without_its_package_is_left_out_and_named_at_both_ends(without_vllm):
    without_vllm.edit(
        experiment__methods=["grpo", "sspo", "other"], methods__other={**SAMPLED, "optional": True}
    )
    shutil.rmtree(without_vllm.folder / "figures")
    text = without_vllm.run("--cores", "2")
    assert "train:other" not in text
    note = "other is left out: methods.other: rollout.engine = 'vllm' but vLLM is not installed"
    assert text.count(note) == 2
    assert text.index(note) < text.index("rule plot_") < text.rindex(note)


def test_a_method_without_its_package_is_refused_before_anything_runs(without_vllm):
    without_vllm.edit(experiment__methods=["grpo", "sspo", "other"], methods__other=SAMPLED)
    done = without_vllm.snakemake("--cores", "2")
    assert done.returncode != 0
    assert (
        "tiny.yaml: methods.other: rollout.engine = 'vllm' but vLLM is not installed; run `make"
        in (done.stdout + done.stderr)
    )
    assert not (without_vllm.folder / "results/runs/other-s0").exists()


@pytest.mark.parametrize("home", ["nowhere", "a file"])
def test_snakemake_needs_no_home_folder(workspace, home):
    blocked = workspace.folder / "tiny.yaml"  # no folder can be made below a file
    place = blocked / home if home == "nowhere" else blocked
    done = subprocess.run(
        workspace.command("--dry-run", "--cores", "1"),
        cwd=workspace.folder,
        env={**workspace.environment(), "HOME": str(place), "XDG_CACHE_HOME": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Nothing to be done" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experiment__methods": ["nonsense"]}, "experiment.methods: 'nonsense'"),
        (
            {"rollout__group_size": 1},
            "rollout.group_size = 1: Input should be greater than or equal to 2",
        ),
        ({"train__surprise": 1}, "train.surprise: unknown key"),
        ({"task__splits__test__size": 0}, "task.splits.test.size = 0: Input should be greater"),
        ({"model__context": 20}, "model.context = 20"),
    ],
)
def test_bad_input_costs_one_line_and_overwrites_nothing(workspace, changes, message):
    before = sorted((p, p.stat().st_mtime_ns) for p in (workspace.folder / "results").rglob("*"))
    workspace.edit(**changes)
    done = workspace.snakemake("--cores", "2")
    assert done.returncode != 0
    lines = [line for line in (done.stdout + done.stderr).splitlines() if message in line]
    assert len(lines) == 1
    assert "tiny.yaml" in lines[0]
    after = sorted((p, p.stat().st_mtime_ns) for p in (workspace.folder / "results").rglob("*"))
    assert before == after


def test_shell_characters_in_a_value_are_inert(workspace):
    label = """SSPO'; touch pwned; $(touch pwned) `touch pwned` "{input}" """
    workspace.edit(methods__sspo__label=label)
    workspace.run("--cores", "2")
    assert not list(workspace.folder.rglob("pwned*"))
    methods = (workspace.folder / "results/methods/config.json").read_text()
    assert "$(touch pwned) `touch pwned`" in methods


def test_an_unknown_profile_is_refused_with_the_known_ones():
    command = ["make", "-C", str(ROOT), "config", "CONFIG=nonsense"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "CONFIG=nonsense" in done.stderr
    assert "default" in done.stderr
    assert "smoke" in done.stderr
