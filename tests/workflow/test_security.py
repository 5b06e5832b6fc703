"""Hostile configs and completions do nothing, and no code runs what it reads."""

from __future__ import annotations

import ast
import gzip
import subprocess

import pytest
import yaml

from sspo.config.errors import ConfigError
from sspo.config.profile import check_profile
from sspo.experiment.expand import expand_profile
from support.paths import ROOT
from support.pipelines import Workspace

SCRIPT = "</script><script>window.label_ran = 1</script>"
COMPLETION = "</script><script>window.completion_ran = 1</script>"
COMMANDS = [
    "; touch pwned",
    "$(touch pwned)",
    "`touch pwned`",
    "x\ntouch pwned",
    "x'; touch pwned; '",
]
PATHS = ["../../x", "/tmp/pwned", "results/../../x", "results/..", "results/.", "results//x", "~/x"]


def default_config():
    text = (ROOT / "config/default.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def accept(config):
    return expand_profile(check_profile(config, "hostile.yaml"), "hostile.yaml")


def refuse(config):
    """The one line that refuses the configuration."""
    with pytest.raises(ConfigError) as refused:
        accept(config)
    message = str(refused.value)
    assert message.startswith("hostile.yaml: ")
    assert len(message.splitlines()) == 1
    return message


# Values of the configuration


def test_the_default_configuration_is_accepted():
    assert accept(default_config())


@pytest.mark.parametrize("key", ["results_dir", "figures_dir"])
@pytest.mark.parametrize(
    "value", [*COMMANDS, *PATHS, "results\n", "", "results/a b", "results/{x}"]
)
def test_folders_outside_results_and_figures_and_commands_in_them_are_refused(key, value):
    value = value.replace("results", key.removesuffix("_dir"))
    assert key in refuse({**default_config(), key: value})


@pytest.mark.parametrize("value", [*COMMANDS, *PATHS, "sspo\n", "Sspo", "sspo-s0", ".", ""])
def test_names_of_methods_and_splits_that_could_be_paths_or_commands_are_refused(value):
    config = default_config()
    config["methods"][value] = config["methods"]["sspo"]
    config["experiment"]["methods"] = [value]
    refuse(config)
    config = default_config()
    config["task"]["splits"][value] = {"size": 1, "min_operations": 2, "max_operations": 2}
    refuse(config)


@pytest.mark.parametrize("value", [*COMMANDS, *PATHS])
@pytest.mark.parametrize(
    "place",
    [
        ("methods", "sspo", "color"),
        ("methods", "sspo", "objective"),
        ("methods", "sspo", "params", "gate"),
        ("task", "name"),
        ("compute", "device"),
        ("compute", "dtype"),
        ("rollout", "engine"),
        ("pretrain", "supervised", "schedule"),
        ("tracking", "service"),
    ],
    ids=".".join,
)
def test_every_other_text_value_is_one_of_a_known_set(place, value):
    config = section = default_config()
    for key in place[:-1]:
        section = section[key]
    section[place[-1]] = value
    refuse(config)


@pytest.mark.parametrize("value", [*COMMANDS, *PATHS, "sspo\n", "a b", "a/b", "."])
def test_the_name_of_a_project_that_could_be_a_path_or_a_command_is_refused(value):
    assert "tracking.project" in refuse(
        {**default_config(), "tracking": {"service": "none", "project": value}}
    )


@pytest.mark.parametrize("seed", ["0; touch pwned", "../0", 0.5, -1, None])
def test_a_seed_is_a_whole_number(seed):
    config = default_config()
    config["experiment"]["seeds"] = [seed]
    refuse(config)


# Through Snakemake itself


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole (pretended) pipeline whose labels and completions are hostile."""
    workspace = Workspace(tmp_path_factory.mktemp("hostile"), fake=True)
    workspace.edit(methods__sspo__label=" ".join([*COMMANDS, *PATHS, SCRIPT, "{input} {{x}} %s"]))
    workspace.run("--cores", "2")
    for path in workspace.folder.rglob("*.jsonl.gz"):
        path.write_bytes(gzip.compress(COMPLETION.encode()))
    for path in workspace.folder.rglob("metrics.jsonl"):
        path.write_text(COMPLETION)
    return workspace


@pytest.mark.slow
def test_a_hostile_label_is_text_and_nothing_else(finished):
    assert not list(finished.folder.rglob("*pwned*"))
    label = yaml.safe_load((finished.folder / "tiny.yaml").read_text())["methods"]["sspo"]["label"]
    methods = (finished.folder / "results/methods/config.json").read_text()
    assert yaml.safe_load(methods)["sspo"]["label"] == label


@pytest.mark.slow
@pytest.mark.parametrize("changes", [
    {"results_dir": "results; touch pwned"},
    {"results_dir": "../outside"},
    {"figures_dir": "$(touch pwned)"},
    {"experiment__methods": ["sspo`touch pwned`"]},
], ids=str)  # fmt: skip
def test_snakemake_refuses_hostile_folders_and_names_before_it_does_anything(tmp_path, changes):
    workspace = Workspace(tmp_path / "fresh", fake=True)
    workspace.edit(**changes)
    done = workspace.snakemake("--cores", "1")
    assert done.returncode != 0
    assert "tiny.yaml: " in done.stdout + done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fresh"]
    assert not list(tmp_path.rglob("pwned*"))
    assert not (workspace.folder / "results").exists()


@pytest.mark.slow
def test_a_value_given_on_the_command_line_is_checked_as_well(finished):
    done = finished.snakemake("--cores", "1", "--config", "results_dir=../outside")
    assert done.returncode != 0
    assert "results_dir = '../outside'" in done.stdout + done.stderr


@pytest.mark.slow
def test_the_html_report_holds_no_completion_and_no_label_as_markup(finished):
    finished.run("--cores", "1", "--report", "results/report.html")
    report = (finished.folder / "results/report.html").read_text(encoding="utf-8")
    assert len(report) > 100_000
    assert SCRIPT not in report
    assert "completion_ran" not in report


# The code


FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "marshal", "shelve", "joblib", "cloudpickle"}
FORBIDDEN_CALLS = {
    "torch.load",
    "torch.save",
    "os.system",
    "os.popen",
    "yaml.load",
    "yaml.unsafe_load",
    "pandas.read_pickle",
    "pd.read_pickle",
}
SAFE_LOADERS = ("yaml.SafeLoader", "yaml.CSafeLoader")  # and classes made of them
FORBIDDEN_KEYWORDS = {"shell", "trust_remote_code", "allow_pickle"}
CODE = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "workflow").rglob("*.py")])


def dangers(source):
    """What a module does that could run text or bytes it was given."""
    found, tree = [], ast.parse(source)
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    safe = {c.name for c in classes if {ast.unparse(b) for b in c.bases} & {*SAFE_LOADERS}}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found += [name for name in names if name.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called == "yaml.load" and {ast.unparse(k.value) for k in node.keywords} & safe:
                continue
            found += [called] if called in FORBIDDEN_NAMES | FORBIDDEN_CALLS else []
            for keyword in node.keywords:
                off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                if keyword.arg in FORBIDDEN_KEYWORDS and not off:
                    found.append(keyword.arg)
    return found


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.stem)
def test_no_code_runs_what_it_reads(path):
    assert dangers(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("line", [
    "eval(x)", "exec(x)", "import pickle", "from pickle import loads", "torch.load(f)",
    "subprocess.run(c, shell=True)", "subprocess.run(c, shell=flag)",
    "AutoModel.from_pretrained(f, trust_remote_code=True)", "np.load(f, allow_pickle=True)",
    "yaml.load(f)", "class L(yaml.Loader): pass\nyaml.load(f, Loader=L)", "os.system(c)",
    "__import__(name)",
])  # fmt: skip
def test_the_search_for_dangers_finds_each(line):
    assert dangers(line) != []


@pytest.mark.parametrize("line", [
    "model.eval()", "re.compile(p)", "yaml.safe_load(f)",
    "class L(yaml.SafeLoader): pass\nyaml.load(f, Loader=L)",
    "AutoModel.from_pretrained(f, trust_remote_code=False)", "'eval(x)'  # exec(x)",
])  # fmt: skip
def test_the_search_for_dangers_leaves_the_rest_alone(line):
    assert dangers(line) == []


@pytest.mark.parametrize("path", sorted((ROOT / "workflow").rglob("*.smk")), ids=lambda p: p.stem)
def test_rules_quote_what_comes_from_the_configuration(path):
    text = path.read_text(encoding="utf-8")
    assert not {"run:", "script:"} & {line.strip() for line in text.splitlines()}
    assert "{params.config:q}" in text or "_json(CONFIGS" not in text


# Known vulnerabilities


@pytest.mark.parametrize(
    ("program", "code", "message"),
    [
        ("echo 'No known vulnerabilities found' >&2", 0, "No known vulnerabilities found"),
        ("echo 'Found 1 known vulnerability in 1 package' >&2; exit 1", 2, "Found 1 known"),
        ("echo 'requests.exceptions.ProxyError: refused' >&2; exit 1", 2, "nothing was checked"),
    ],
    ids=["none", "some", "no network"],
)
def test_an_audit_without_an_answer_is_no_clean_audit(tmp_path, program, code, message):
    audit = tmp_path / "pip-audit"
    audit.write_text(f"#!/bin/sh\n{program}\n")
    audit.chmod(0o755)
    command = ["make", "-C", str(ROOT), "audit", f"AUDIT={audit}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code  # make's own, 2 for every failure
    assert message in done.stdout + done.stderr
