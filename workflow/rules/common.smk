"""Validate the configuration once, and turn it into plain dicts that the rules look up."""

import json
import shutil
import sys
from pathlib import Path

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT / "src"))

from snakemake.exceptions import WorkflowError

from sspo.benchmarks import source_files
from sspo.config import ConfigError
from sspo.experiment import CONTROL, expand_config, split_names
from sspo.locks import PipelineLock
from sspo.provenance import import_closure
from sspo.schema import check_config

CONFIG_NAME = str(
    ([*workflow.overwrite_configfiles] or [ROOT / "workflow/config/default.yaml"])[-1]
)

try:
    check_config(config, ROOT / "workflow/schemas/config.schema.yaml", CONFIG_NAME)
    CONFIGS = expand_config(config, CONFIG_NAME)
    DATA_FILES = []
    if "math_data" in config:
        names = [*config["math_data"]["train"], *config["math_data"]["benchmarks"]]
        DATA_FILES = source_files(config["math_data"]["source"], names)
except ConfigError as error:
    raise WorkflowError(str(error)) from None

# Whoever holds this lock is the only Snakemake process here, so locks left by a killed one are stale.
# Dry runs and reports come through here too: only `onstart` refuses a second pipeline.
PIPELINE = PipelineLock(Path(".snakemake/sspo"))
if workflow.is_main_process:
    if PIPELINE.claim():
        shutil.rmtree(".snakemake/locks", ignore_errors=True)
    else:
        print(f"note: Snakemake process {PIPELINE.owner()} is at work here", file=sys.stderr)


onstart:
    try:
        PIPELINE.start()
    except ConfigError as error:
        raise WorkflowError(str(error)) from None


RESULTS, FIGURES = config["results_dir"], config["figures_dir"]
RUNS = sorted(place.removeprefix("runs/") for place in CONFIGS if place.startswith("runs/"))
CONTROL_RUNS = [run for run in RUNS if run.startswith(f"{CONTROL}-s")]
RL_RUNS = [run for run in RUNS if run not in CONTROL_RUNS]
EVALUATED = ["base", *(f"runs/{run}" for run in RUNS)]
ONE_RUN_PER_METHOD = [
    f"{method}-s{config['experiment']['seeds'][0]}" for method in config["experiment"]["methods"]
]
SPLITS = split_names(config)
ENVIRONMENT = str(ROOT / "environment.yml")

# Figure -> (folder of the methods' looks, tables it is drawn from, what it shows).
FIGURE_SOURCES = {
    "f1_gates": ("methods", ["summary/gates"], "gate value and gradient weight against the ratio"),
    "f2_reward": ("methods", ["summary/metrics"], "training reward"),
    "f3_accuracy": (
        "methods",
        ["summary/metrics"],
        "held-out accuracy against step and sampled tokens",
    ),
    "f4_entropy": ("methods", ["summary/metrics"], "entropy"),
    "f5_kl": ("methods", ["summary/metrics"], "KL to the initial policy"),
    "f6_log_ratio": ("methods", ["summary/metrics"], "range and variance of the log-ratio"),
    "f7_grad_norm": ("methods", ["summary/metrics"], "gradient norm"),
    "f8_attenuation": (
        "methods",
        ["summary/metrics"],
        "clip fraction and mean gradient coefficient",
    ),
    "f9_length": ("methods", ["summary/metrics"], "response length and truncation"),
    "t1_benchmarks": ("methods", ["summary/evaluations"], "final accuracy with intervals"),
    "t4_settings": ("methods", ["summary/settings"], "hyperparameters and their sources"),
}
STUDY_TABLES = [f"exact_study/{table}" for table in ("gradients", "pushes", "training")]
if "exact_study" in CONFIGS:
    FIGURE_SOURCES |= {
        "f13_exact": (
            "exact_study/methods",
            STUDY_TABLES,
            "bias, variance and weights of the expected gradients under drift",
        ),
        "f14_staleness": (
            "exact_study/methods",
            STUDY_TABLES,
            "a bad response pushed down, and training on stale responses, exactly",
        ),
    }


def one_of(values):
    """A wildcard constraint that matches exactly these values."""
    return "|".join(values) or "(?!)"


def inert_json(data):
    """JSON text without characters of markup: the HTML report copies parameters into its own script."""
    return json.dumps(data).replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def code(script):
    """The files a script's results depend on: itself and every project module it imports."""
    return import_closure(f"workflow/scripts/{script}.py")


wildcard_constraints:
    place=one_of(CONFIGS),
