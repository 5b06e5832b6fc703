"""Saved states: exact resume, and nothing damaged or foreign is ever trusted."""

from __future__ import annotations

import copy
import json
import logging
import os
import shutil

import pytest
import torch
from torch import nn

from sspo.config.settings import ModelConfig
from sspo.models.policy import build_model
from sspo.training.checkpoint import CheckpointStore
from sspo.training.optim import apply_update, make_optimizer

FILES = ("weights.safetensors", "optimizer.safetensors", "state.json")


def make(seed=0):
    """A small network with matrices and vectors, and its optimizer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 2))
    return model, make_optimizer(model, 0.01, (0.9, 0.99), 0.1)


def train(model, optimizer, steps, first=0):
    """Updates whose data and learning rate are a function of the step."""
    for step in range(first, first + steps):
        generator = torch.Generator().manual_seed(step)
        model(torch.randn(16, 5, generator=generator)).pow(3).mean().backward()
        apply_update(model, optimizer, 0.01 / (step + 1), 1.0)


def assert_same(first: nn.Module, second: nn.Module) -> None:
    for (name, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def save_beside(store, step, model, optimizer, extra=None):
    """Save a state and keep the ones before it, as if the clean-up had not run."""
    kept = store.folder.with_name("kept")
    if store.folder.exists():
        shutil.copytree(store.folder, kept)
    store.save(step, model, optimizer, extra or {})
    if kept.exists():
        shutil.copytree(kept, store.folder, dirs_exist_ok=True)
        shutil.rmtree(kept)


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "checkpoint", "fingerprint")


@pytest.fixture
def two_states(store):
    """Intact states after steps 20 and 40; yields (model at 20, model at 40)."""
    model, optimizer = make()
    train(model, optimizer, 2)
    save_beside(store, 20, model, optimizer, {"tokens": 20})
    early = copy.deepcopy(model)
    train(model, optimizer, 2, first=2)
    save_beside(store, 40, model, optimizer, {"tokens": 40})
    assert names(store) == ["step-000020", "step-000040"]
    return early, model


def names(store):
    return sorted(path.name for path in store.folder.iterdir())


def restore(store):
    model, optimizer = make(seed=1)
    step, extra = store.restore(model, optimizer)
    return step, extra, model


# Save and restore


def test_a_restored_run_continues_bit_for_bit(store):
    whole, whole_optimizer = make()
    train(whole, whole_optimizer, 9)
    model, optimizer = make()
    train(model, optimizer, 4)
    store.save(4, model, optimizer, {"sampled_tokens": 123})
    resumed, resumed_optimizer = make(seed=1)
    assert store.restore(resumed, resumed_optimizer) == (4, {"sampled_tokens": 123})
    assert_same(resumed, model)
    train(resumed, resumed_optimizer, 5, first=4)
    assert_same(resumed, whole)


def test_every_optimizer_tensor_comes_back_with_its_type(store):
    model, optimizer = make()
    train(model, optimizer, 3)
    store.save(3, model, optimizer, {})
    twin, twin_optimizer = make(seed=1)
    store.restore(twin, twin_optimizer)
    expected, found = optimizer.state_dict()["state"], twin_optimizer.state_dict()["state"]
    assert expected.keys() == found.keys() and len(expected) == 6
    for index, one in expected.items():
        assert one.keys() == found[index].keys() == {"step", "exp_avg", "exp_avg_sq"}
        for key, tensor in one.items():
            assert found[index][key].dtype == tensor.dtype
            assert torch.equal(found[index][key], tensor)


def test_a_model_with_tied_weights_round_trips_and_stays_tied(store):
    sizes = ModelConfig(hidden_size=32, layers=1, heads=1, mlp_size=32, context=32)
    model, twin = (build_model(sizes, 18, seed) for seed in (0, 1))
    optimizers = [make_optimizer(m, 0.01, (0.9, 0.99), 0.1) for m in (model, twin)]
    ids = torch.arange(18).view(2, 9)

    def update(which, optimizer):
        which(ids).logits.pow(2).mean().backward()
        apply_update(which, optimizer, 0.01, 1.0)

    update(model, optimizers[0])
    store.save(1, model, optimizers[0], {})
    store.restore(twin, optimizers[1])
    assert twin.get_input_embeddings().weight is twin.get_output_embeddings().weight
    assert_same(twin, model)
    update(model, optimizers[0])
    update(twin, optimizers[1])
    assert_same(twin, model)


def test_nothing_saved_restores_nothing(store):
    step, extra, model = restore(store)
    assert (step, extra) == (0, {})
    assert_same(model, make(seed=1)[0])


def test_a_save_before_the_first_update_restores(store):
    model, optimizer = make()
    store.save(0, model, optimizer, {})
    assert_same(restore(store)[2], model)


def test_clear_removes_everything_and_may_be_called_twice(store, two_states):
    store.clear()
    store.clear()
    assert not store.folder.exists()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_never_saved(store, two_states, bad):
    model, optimizer = make()
    with torch.no_grad():
        model[2].weight[1, 3] = bad
    with pytest.raises(ValueError, match=r"step 60: weight 2\.weight is not finite"):
        store.save(60, model, optimizer, {})
    assert names(store) == ["step-000020", "step-000040"]


def test_a_state_whose_company_is_not_usable_is_skipped(store, two_states, caplog):
    model, optimizer = make(seed=1)
    step, extra = store.restore(model, optimizer, usable=lambda extra: extra["tokens"] == 20)
    assert (step, extra) == (20, {"tokens": 20})
    assert_same(model, two_states[0])
    assert "run log that belongs to" in caplog.text


# Which state


def test_the_newest_intact_state_is_used(store, two_states):
    step, extra, model = restore(store)
    assert (step, extra) == (40, {"tokens": 40})
    assert_same(model, two_states[1])


def test_states_are_ordered_by_number_not_by_name(store):
    model, optimizer = make()
    for step in (999_999, 1_000_000):
        save_beside(store, step, model, optimizer)
    assert restore(store)[0] == 1_000_000


def test_saving_removes_the_older_states(store):
    model, optimizer = make()
    for step in (20, 40, 60):
        store.save(step, model, optimizer, {})
        assert names(store) == [f"step-{step:06d}"]


def test_saving_a_step_again_replaces_it(store):
    model, optimizer = make()
    store.save(20, model, optimizer, {"n": 1})
    train(model, optimizer, 1)
    store.save(20, model, optimizer, {"n": 2})
    step, extra, restored = restore(store)
    assert (step, extra) == (20, {"n": 2})
    assert_same(restored, model)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "empty", "zeros", "not text"])
def test_a_damaged_state_is_skipped_with_a_warning_and_the_older_one_used(
    store, two_states, caplog, name, damage
):
    path = store.folder / "step-000040" / name
    data = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    elif damage == "flip":
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
    else:
        kinds = {"truncate": data[: len(data) // 2], "empty": b"", "zeros": bytes(len(data))}
        path.write_bytes(kinds.get(damage, b"\xff\xfe" + data))
    with caplog.at_level(logging.WARNING):
        step, extra, model = restore(store)
    assert (step, extra) == (20, {"tokens": 20})
    assert_same(model, two_states[0])
    assert f"{store.folder / 'step-000040'} is damaged; skipped" in caplog.text


@pytest.mark.parametrize("content", ["{}", "[]", "null", '{"step": 40, "sha256": {}}'])
def test_a_state_file_that_lacks_its_keys_is_damaged(store, two_states, caplog, content):
    (store.folder / "step-000040" / "state.json").write_text(content)
    with caplog.at_level(logging.WARNING):
        assert restore(store)[0] == 20
    assert "is damaged; skipped" in caplog.text


def test_a_swapped_file_of_another_state_is_damage(store, two_states):
    for name in ("weights.safetensors", "optimizer.safetensors"):
        shutil.copy(store.folder / "step-000020" / name, store.folder / "step-000040" / name)
    assert restore(store)[0] == 20


def test_states_of_another_fingerprint_are_ignored_with_a_warning(store, two_states, caplog):
    other = CheckpointStore(store.folder, "other")
    with caplog.at_level(logging.WARNING):
        step, extra, model = restore(other)
    assert (step, extra) == (0, {})
    assert_same(model, make(seed=1)[0])
    assert caplog.text.count("belongs to another config, data or code; skipped") == 2


@pytest.mark.parametrize("reason", ["foreign", "damaged"])
def test_a_new_state_survives_a_skipped_one_of_a_later_step(store, two_states, reason):
    if reason == "damaged":
        (store.folder / "step-000040" / "weights.safetensors").unlink()
    else:
        store = CheckpointStore(store.folder, "other")
    model, optimizer = make()
    store.save(30, model, optimizer, {"n": 30})
    step, extra, restored = restore(store)
    assert (step, extra) == (30, {"n": 30})
    assert_same(restored, model)


# Interrupted saves


def test_leftovers_of_an_interrupted_save_are_ignored_and_replaced(store, two_states):
    partial = store.folder / "step-000060.partial"
    shutil.copytree(store.folder / "step-000040", partial)
    (partial / "leftover").write_text("x")
    assert restore(store)[0] == 40
    model, optimizer = make()
    store.save(60, model, optimizer, {})
    assert names(store) == ["step-000060"]
    assert sorted(p.name for p in (store.folder / "step-000060").iterdir()) == sorted(FILES)


@pytest.mark.parametrize("crash", ["save_file", "_flush", "os.rename"])
def test_a_crash_while_saving_leaves_the_last_state_usable(store, crash, monkeypatch):
    model, optimizer = make()
    store.save(20, model, optimizer, {"n": 20})
    saved = copy.deepcopy(model)
    train(model, optimizer, 1)

    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"sspo.training.checkpoint.{crash}", fail)
    with pytest.raises(KeyboardInterrupt):
        store.save(40, model, optimizer, {"n": 40})
    monkeypatch.undo()
    step, extra, restored = restore(store)
    assert (step, extra) == (20, {"n": 20})
    assert_same(restored, saved)


def test_a_state_is_flushed_to_disk_before_it_gets_its_name(store, monkeypatch):
    events = []
    flush, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append("fsync"), flush(fd))[1])
    monkeypatch.setattr(os, "rename", lambda a, b: (events.append("rename"), rename(a, b))[1])
    store.save(20, *make(), {})
    assert events == ["fsync"] * 3 + ["rename", "fsync"]


def test_state_lists_the_hashes_of_its_files(store):
    store.save(20, *make(), {"n": 1})
    state = json.loads((store.folder / "step-000020" / "state.json").read_text())
    assert sorted(state["sha256"]) == ["optimizer.safetensors", "weights.safetensors"]
    assert (state["step"], state["fingerprint"], state["extra"]) == (20, "fingerprint", {"n": 1})
