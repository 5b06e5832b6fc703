"""Validate the configuration once, and turn it into plain dicts that the rules look up."""

import hashlib
import json
import os
import shlex

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from sspo.config.errors import ConfigError
from sspo.config.launch_file import read_launch
from sspo.config.names import (
    BASE,
    CONTROL,
    MAIN,
    TUNING,
    base_place,
    data_place,
    evaluation_place,
    trial_runs,
    tuning_place,
)
from sspo.config.profile import check_profile
from sspo.config.settings import CheckpointConfig
from sspo.config.yaml_files import read_yaml
from sspo.data.sources import source_files
from sspo.experiment.expand import expand_profile
from sspo.experiment.packages import without_missing
from sspo.experiment.stale import changed_keys, describe
from sspo.models.pretrained import checkpoint_files
from sspo.pipeline.closure import code_files
from sspo.pipeline.locks import refuse_orphan, start_pipeline

CONFIG_NAME = str(["config", *workflow.configfiles, *workflow.overwrite_configfiles][-1])

try:
    for file in [ROOT / "config/default.yaml", *workflow.overwrite_configfiles]:
        read_yaml(file)  # Snakemake has read it too, but does not mind a key that is given twice
    PROFILE, LEFT_OUT = without_missing(check_profile(config, CONFIG_NAME), CONFIG_NAME)
    CONFIGS = expand_profile(PROFILE, CONFIG_NAME)
    if workflow.is_main_process:
        # Once is enough: on a cluster every job comes through this file.
        from sspo.evidence.protocol import check_scores, load_protocol

        protocol = load_protocol(ROOT / "workflow/claims.yaml")
        check_scores(protocol, config["evaluation"], CONFIG_NAME)
    DATA_FILES = []
    if "math_data" in config:
        names = [*config["math_data"]["train"], *config["math_data"]["benchmarks"]]
        DATA_FILES = source_files(config["math_data"]["source"], names)
except ConfigError as error:
    raise WorkflowError(str(error)) from None

if not workflow.is_main_process:  # a job; before Snakemake removes what it would make again
    try:
        refuse_orphan()
    except ConfigError as error:
        raise WorkflowError(str(error)) from None


# Not a dry run, nor a report. The profiles turn off Snakemake's own lock, which a killed process leaves behind.
onstart:
    try:
        start_pipeline(".snakemake/sspo")
    except ConfigError as error:
        raise WorkflowError(str(error)) from None


def say_what_is_left_out():
    for note in LEFT_OUT:
        logger.warning(f"{CONFIG_NAME}: {note}")


onsuccess:
    say_what_is_left_out()


onerror:
    say_what_is_left_out()


RESULTS, FIGURES = config["results_dir"], config["figures_dir"]
if workflow.is_main_process:  # above a dry run's list of jobs, and at the start of a run
    say_what_is_left_out()
    for line in describe(changed_keys(CONFIGS, Path(RESULTS)), CONFIG_NAME):
        logger.info(line)

BASES = [base_place(name) for name in (BASE, *config.get("bases", {}))]
# Where curves are shown changes no result: an edit trains nothing anew.
TRACKING = ancient(f"{RESULTS}/tracking/config.json")
IMPORTED = [base for base in BASES if "checkpoint" in CONFIGS[base]]
# A base model without data of its own shares the main one's.
DATA = {base: data_place(CONFIGS, base) for base in BASES}
RUNS = {
    place.removeprefix("runs/"): run for place, run in CONFIGS.items() if place.startswith("runs/")
}
# The trials of every regime that has its own: folder -> runs.
TRIALS = {
    place: trial_runs(tuning) for place, tuning in CONFIGS.items() if place.startswith(f"{TUNING}/")
}
TRIAL_RUNS = sorted(name for name, run in RUNS.items() if run["regime"] == TUNING)
CONTROL_RUNS = sorted(name for name, run in RUNS.items() if run["method"] == CONTROL)
RL_RUNS = sorted(RUNS.keys() - {*CONTROL_RUNS})
FINAL_RUNS = sorted(RUNS.keys() - {*TRIAL_RUNS})
EVALUATED = [*BASES, *(f"runs/{run}" for run in FINAL_RUNS)]
ONE_RUN_PER_METHOD = [
    next(name for name in RL_RUNS if (RUNS[name]["method"], RUNS[name]["regime"]) == (method, MAIN))
    for method in PROFILE.experiment.methods
]
SPLITS = PROFILE.split_names()
# Absent on CPU, as some executors take a mention of zero GPUs for a GPU job.
ON_GPU = config["compute"]["device"].startswith("cuda")
GPUS = {"gpu": 1} if ON_GPU else {}
MEMORY = config["compute"]["memory_mb"]


def base_of(run):
    """The place of the base model that a run starts from; of a base model, itself."""
    return base_place(RUNS[run.removeprefix("runs/")]["base"]) if run not in BASES else run


def model_of_base(wildcards):
    return f"{RESULTS}/{base_of(wildcards.run)}/model/model.safetensors"


def data_file(name):
    """The input function of a file of the data that a run, or a base model, belongs to."""
    return lambda wildcards: f"{RESULTS}/{DATA[base_of(next(iter(wildcards)))]}/{name}"


def published_readers(wildcards):
    """The published base models that read the problems of a data folder."""
    readers = [base for base in IMPORTED if DATA[base] == wildcards.data]
    return [f"{RESULTS}/{base}/model/model.safetensors" for base in readers]


def published_files(wildcards):
    """The files of a base model that is imported from a folder."""
    published = CONFIGS[wildcards.base]["checkpoint"]
    return checkpoint_files(CheckpointConfig(**published))


def evaluated_splits(wildcards):
    """The files of the splits that a run, or a base model, is evaluated on."""
    return [data_file(f"{split}.jsonl")(wildcards) for split in config["evaluation"]["splits"]]


def evaluation_of(wildcards):
    """The place of the config that a run, or a base model, is evaluated by."""
    return evaluation_place(CONFIGS, base_of(wildcards.place))


def train_script(wildcards):
    """The script of the trainer that a run asks for."""
    return {"native": "train", "trl": "train_trl"}[CONFIGS[f"runs/{wildcards.run}"]["trainer"]]


def launcher(wildcards):
    """What starts that script: accelerate, where its file says in how many processes."""
    file = "".join(launch_file(wildcards))
    return f"accelerate launch --config_file {shlex.quote(file)}" if file else "python"


def launch_file(wildcards):
    """The file that says in how many processes a run trains, and how they share it; none for one process."""
    file = config["backends"]["accelerate_config"]
    return [file] if file and train_script(wildcards) == "train_trl" else []


def gpus_of_training(wildcards):
    """How many GPUs a run trains on: one for each process of its launcher."""
    return read_launch("".join(launch_file(wildcards))).processes


def takes_the_server(wildcards):
    """How many servers a run samples with: profiles say that there is one, and it serves one run at a time."""
    return int(CONFIGS[f"runs/{wildcards.run}"]["rollout"]["engine"] == "vllm_server")


def choices_of(wildcards):
    """What a tuned run's config waits for."""
    config = CONFIGS[wildcards.place]
    if config.get("tuned", "nothing") == "nothing":
        return []
    return [f"{RESULTS}/{tuning_place(CONFIGS, config['regime'])}/choices.json"]


def of_trials(file):
    """The input function of this file of every run among a regime's trials."""
    return lambda wildcards: [f"{RESULTS}/runs/{run}/{file}" for run in TRIALS[wildcards.tuning]]


def one_of(values):
    """A wildcard constraint that matches exactly these values."""
    return "|".join(values) or "(?!)"


def inert_json(data):
    """JSON text without characters of markup: the HTML report copies parameters into its own script."""
    return json.dumps(data).replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def short_hash(data):
    """Stands for a config where Snakemake prints why a job runs; ``describe`` says which keys changed."""
    return hashlib.sha256(json.dumps(data).encode()).hexdigest()[:12]


def checkout(file):
    """A file of this checkout: relative where it lies in the working directory, so that both can move."""
    path = ROOT / file
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def script(name):
    """The path of a script."""
    return checkout(f"workflow/scripts/{name}.py")


def code(name, *modules, config=None):
    """The files that a script's results depend on: the script and what it uses of the project.

    That is what it imports, and modules named here, without what the config of its rule does not use.
    """
    files = code_files(ROOT / f"workflow/scripts/{name}.py", *modules, config=config)
    return [checkout(file) for file in files]


def looks_of(frames):
    """The methods to show and how: the exact study has its own."""
    folder = "exact_study/" if frames[0].startswith("exact_study/") else ""
    return f"{RESULTS}/{folder}methods/config.json"


def numbered(name):
    """``f2_reward`` -> F02: Snakemake's report sorts names as text, and F10 comes after F9."""
    kind, number = name[0], name[1:].split("_")[0]
    return f"{kind.upper()}{int(number):02d}"


wildcard_constraints:
    place=one_of(CONFIGS),
