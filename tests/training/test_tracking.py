"""Tracking: TensorBoard holds every number once, a service is optional, neither can stop a run."""

from __future__ import annotations

import importlib.util
import logging
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from sspo.config.errors import ConfigError
from sspo.config.installed import check_packages
from sspo.config.settings import TrackingConfig
from sspo.data.problems import read_jsonl
from sspo.training.checkpoint import CheckpointStore
from sspo.training.metrics import RunLog
from sspo.training.tracking import TrackedLog, Tracker, numbers
from sspo.training.trainer import train
from support.runs import PROBLEMS as PROMPTS
from support.runs import make_actors, read_metrics, run_config
from support.supervised_runs import PROBLEMS, train_supervised_run

NOWHERE = TrackingConfig(service="none", project="")
RECORDS = [
    {"step": 0, "sampled_tokens": 0, "pass@1": 0.125, "greedy": 0.25},
    {"step": 1, "sampled_tokens": 640, "loss": -1.5, "mass_pos_up": None, "label": "x"},
    {"step": 2, "sampled_tokens": 1280, "loss": 0.5, "mass_pos_up": 0.75, "kept": True},
]


def events(folder):
    """(step, value) by name of everything that TensorBoard shows of a run, in its order."""
    found = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def expected(records):
    shown = {}
    for record in records:
        for key, value in numbers(record).items():
            shown.setdefault(key, []).append((record["step"], pytest.approx(value, rel=1e-6)))
    return shown


class Service:
    """Stands in for wandb or trackio; fails from a step on, or at its start."""

    def __init__(self, fails_at=math.inf):
        self.fails_at, self.started, self.logged, self.calls = fails_at, [], [], 0

    def init(self, **settings):
        self.started.append(settings)
        if self.fails_at < 0:
            raise OSError("no network")
        return SimpleNamespace(log=self.log)

    def log(self, values, step):
        self.calls += 1
        if step >= self.fails_at:
            raise OSError("no network")
        self.logged.append((step, values))


@pytest.fixture(autouse=True)
def numbered_event_files(monkeypatch):
    """Within a second and a process, event files are told apart by a number and sorted as text."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))


@pytest.fixture
def install(monkeypatch):
    """Pretend that a package is installed, or with None that it is not."""
    find = importlib.util.find_spec
    packages = {}

    def pretend(name, *arguments):
        return packages[name] if name in packages else find(name, *arguments)

    def put(name, module):
        packages[name] = module
        monkeypatch.setitem(sys.modules, name, module)

    monkeypatch.setattr(importlib.util, "find_spec", pretend)
    return put


# TensorBoard


def test_every_number_of_every_record_arrives_at_its_step(tmp_path):
    tracker = Tracker(tmp_path, "sspo-s0", NOWHERE)
    for record in RECORDS:
        tracker(record["step"], record)
    found = events(tmp_path)
    assert found == expected(RECORDS)
    assert found["sampled_tokens"] == [(0, 0.0), (1, 640.0), (2, 1280.0)]
    assert found["mass_pos_up"] == [(2, 0.75)]


def test_what_is_no_number_is_left_out():
    assert numbers({"step": 1, "a": None, "b": "2", "c": True, "d": [3]}) == {}
    assert numbers({"step": 1, "a": 2, "b": -0.5}) == {"a": 2, "b": -0.5}


def test_a_resumed_run_shows_no_step_twice_and_loses_none(tmp_path):
    first = Tracker(tmp_path, "sspo-s0", NOWHERE)
    for step in range(6):
        first(step, {"step": step, "loss": float(step)})
    resumed = Tracker(tmp_path, "sspo-s0", NOWHERE)
    for step in range(4, 8):
        resumed(step, {"step": step, "loss": step + 0.5})
    values = [0.0, 1.0, 2.0, 3.0, 4.5, 5.5, 6.5, 7.5]
    assert events(tmp_path) == {"loss": [*enumerate(values)]}


def test_a_run_that_starts_over_shows_nothing_of_the_run_before(tmp_path):
    for end in (5, 2):
        tracker = Tracker(tmp_path, "sspo-s0", NOWHERE)
        for step in range(end):
            tracker(step, {"loss": float(end)})
    assert events(tmp_path) == {"loss": [(0, 2.0), (1, 2.0)]}


def test_a_reported_step_is_on_disk_before_the_run_goes_on(tmp_path):
    tracker = Tracker(tmp_path, "sspo-s0", NOWHERE)
    for record in RECORDS:
        tracker(record["step"], record)
        assert events(tmp_path)["sampled_tokens"][-1][0] == record["step"]


def test_nothing_is_written_before_the_first_record(tmp_path):
    Tracker(tmp_path, "sspo-s0", NOWHERE)
    assert [*tmp_path.iterdir()] == []


# In training


def train_tracked(folder, tracker, stop_at=None):
    def stop(step, record, seconds):
        if step == stop_at:
            raise KeyboardInterrupt

    store = CheckpointStore(folder / "checkpoint", "f")
    config = run_config(checkpoint_every=2)
    train(config, make_actors(), PROMPTS, store, TrackedLog(store.folder, tracker), stop)


def test_training_shows_the_records_that_it_logs_from_step_0_on(tmp_path):
    train_tracked(tmp_path, Tracker(tmp_path, "sspo-s0", NOWHERE))
    records = read_metrics(tmp_path / "checkpoint")
    assert [record["step"] for record in records] == [0, 1, 2, 3]
    assert events(tmp_path) == expected(records)


@pytest.mark.parametrize("stop_at", [1, 2, 3])
def test_training_that_is_stopped_and_resumed_shows_what_it_would_have_shown(tmp_path, stop_at):
    with pytest.raises(KeyboardInterrupt):
        train_tracked(tmp_path, Tracker(tmp_path, "sspo-s0", NOWHERE), stop_at)
    train_tracked(tmp_path, Tracker(tmp_path, "sspo-s0", NOWHERE))
    assert events(tmp_path) == expected(read_metrics(tmp_path / "checkpoint"))


def test_the_log_of_a_run_is_the_same_with_and_without_a_tracker(tmp_path):
    plain = RunLog(tmp_path / "plain")
    seen = []
    tracked = TrackedLog(tmp_path / "tracked", lambda step, record: seen.append((step, record)))
    for log in (plain, tracked):
        log.rewind(None)
        log.write("metrics", iter(RECORDS))
        log.write("rollouts", iter([{"step": 1, "response": "2#"}]))
    assert plain.mark() == tracked.mark()
    assert seen == [(record["step"], record) for record in RECORDS]


def test_a_supervised_run_shows_its_metrics_on_the_axis_of_rl_steps(model, tokenizer, tmp_path):
    records = [{**problem, "solution": f"{problem['answer']}#"} for problem in PROBLEMS]
    tracker = Tracker(tmp_path, "base", TrackingConfig(service="none", project=""))
    train_supervised_run(model, tokenizer, tmp_path, records, tracker)
    assert events(tmp_path) == expected(read_jsonl(tmp_path / "metrics.jsonl"))


# Services


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_service_gets_the_numbers_under_the_name_of_the_run(tmp_path, install, name):
    service = Service()
    install(name, service)
    tracker = Tracker(tmp_path, "sspo-s0", TrackingConfig(service=name, project="study"))
    assert service.started == []
    for record in RECORDS:
        tracker(record["step"], record)
    assert service.logged == [(record["step"], numbers(record)) for record in RECORDS]
    (settings,) = service.started
    names = {"project": "study", "name": "sspo-s0", "group": "sspo-s0"}
    assert {key: settings[key] for key in names} == names
    assert events(tmp_path) == expected(RECORDS)


def test_wandb_keeps_to_the_folder_of_the_run_and_does_not_hold_up_its_end(tmp_path, install):
    service = Service()
    install("wandb", service)
    Tracker(tmp_path, "sspo-s0", TrackingConfig(service="wandb", project="study"))(0, {"loss": 1.0})
    assert Path(service.started[0]["dir"]) == tmp_path
    assert 0 < service.started[0]["settings"]["finish_timeout"] <= 60


@pytest.mark.parametrize("fails_at", [-1, 0, 1])
def test_a_service_that_fails_is_left_out_with_one_warning(tmp_path, install, caplog, fails_at):
    service = Service(fails_at)
    install("wandb", service)
    tracker = Tracker(tmp_path, "sspo-s0", TrackingConfig(service="wandb", project="study"))
    with caplog.at_level(logging.WARNING):
        for record in RECORDS:
            tracker(record["step"], record)
    (warning,) = [r.getMessage() for r in caplog.records if r.name == "sspo.training.tracking"]
    assert "wandb" in warning and "no network" in warning
    assert (len(service.started), service.calls) == (1, fails_at + 1)
    assert events(tmp_path) == expected(RECORDS)


def test_tensorboard_that_cannot_write_stops_neither_the_run_nor_the_service(
    tmp_path, install, caplog
):
    service = Service()
    install("trackio", service)
    (tmp_path / "tensorboard").write_text("a file where the folder should be")
    train_tracked(
        tmp_path, Tracker(tmp_path, "sspo-s0", TrackingConfig(service="trackio", project="study"))
    )
    assert [step for step, _ in service.logged] == [0, 1, 2, 3]
    warnings = [r.getMessage() for r in caplog.records if r.name == "sspo.training.tracking"]
    assert len(warnings) == 1 and "TensorBoard" in warnings[0]


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_missing_service_is_an_error_that_names_key_and_fix(tmp_path, install, name):
    install(name, None)
    with pytest.raises(ConfigError) as refused:
        Tracker(tmp_path, "sspo-s0", TrackingConfig(service=name, project="study"))
    message = str(refused.value)
    for fragment in (f"tracking.service = '{name}'", "pip install", f'".[{name}]"', "none"):
        assert fragment in message
    assert "\n" not in message


def test_missing_tensorboard_is_an_error_that_names_key_and_fix(install):
    install("tensorboard", None)
    with pytest.raises(ConfigError, match=r"tracking: .*pip install -r requirements\.txt"):
        check_packages(NOWHERE)


@pytest.mark.parametrize("service", ["wandb", "trackio"])
def test_a_service_without_a_project_is_refused(service):
    with pytest.raises(ValueError, match=rf"service = '{service}' needs the name of a project"):
        TrackingConfig(service=service, project="")
