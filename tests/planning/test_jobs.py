"""Jobs of an experiment, the tokens they sample and train on, and the hours that takes."""

from __future__ import annotations

import pytest

from sspo.config.profile import read_profile
from sspo.experiment.expand import expand_profile
from sspo.planning.jobs import (
    EVALUATE,
    PRETRAIN,
    TRAIN,
    TRAIN_CONTROL,
    by_kind,
    hours,
    list_jobs,
    tokens,
)
from sspo.planning.model_size import base_size
from support.paths import PROFILES
from support.plans import RATES, TINY, TORCH, bases, expand, jobs_of, read


@pytest.mark.parametrize("profile", ["default.yaml", "evidence.yaml", "gpu.yaml"])
def test_every_run_and_base_model_is_planned_once(profile):
    configs = expand({} if profile == "default.yaml" else read(profile))
    jobs = jobs_of(configs)
    runs = {p for p in configs if p.startswith("runs/")}
    trained = [job.place for job in jobs if job.kind in (TRAIN, TRAIN_CONTROL)]
    assert sorted(trained) == sorted(runs)
    trials = {p for p in runs if configs[p]["regime"] == "tuning"}
    assert {job.place for job in by_kind(jobs).get("train tuning", [])} == trials
    evaluated = [job.place for job in jobs if job.kind == EVALUATE]
    assert sorted(evaluated) == sorted([*bases(configs), *runs - trials])


def test_the_tokens_of_a_tiny_experiment_are_those_counted_by_hand():
    groups = {key: jobs[0] for key, jobs in by_kind(jobs_of(expand(TINY))).items()}
    run = groups["train main"]
    # Validated before step 1 and after steps 3, 6 and 7: 5 problems, greedy and 2 samples each.
    assert (run.trained, run.sampled) == (7 * 4 * 3, 7 * 4 * 3 + 4 * 5 * 3)
    assert tokens([run]) == tokens([run], length=70.0) == (144 * 50, 84 * 50)
    assert tokens([run], length=20.0) == (144 * 20, 84 * 20)
    base = groups[PRETRAIN]
    assert (base.trained, base.sampled) == (10 * 6, 2 * 5 * 3)
    control = groups["train control main"]
    # 14 updates on 6 solutions each; validated at the start, after updates 6, 12 and 14.
    assert (control.trained, control.sampled) == (14 * 6, 4 * 5 * 3)
    assert groups[EVALUATE].sampled == (11 + 9) * (1 + 8)


def test_memory_for_the_scheduler_is_part_of_no_config():
    assert expand() == expand({"compute": {"memory_mb": 64_000}})
    assert not any("memory_mb" in config.get("compute", {}) for config in expand().values())


def test_prompts_of_real_data_are_taken_to_be_as_long_as_those_that_are_known():
    jobs = jobs_of(expand(read("paper.yaml"), {"rollout": TORCH, "evaluation": TORCH}))
    assert min(job.prompt for job in jobs) >= 1126


def test_hours_grow_by_as_much_with_every_step():
    def of(steps):
        configs = expand(TINY, {"train": {"steps": steps, "eval_every": 1}})
        return hours([jobs_of(configs)[1]], RATES, {})

    assert of(20) - of(10) == pytest.approx(of(30) - of(20))
    assert of(20) - of(10) == pytest.approx(10 * (12 * 50 / 500 + 27 * 50 / 1000) / 3600)


def test_hours_count_every_start_and_a_larger_model_by_its_parameters():
    run = by_kind(jobs_of(expand(TINY)))["train main"][0]
    once, twice = hours([run], RATES, {}), hours([run, run], RATES, {})
    assert twice == pytest.approx(2 * once)
    larger = hours([run], RATES, {"base": 3 * RATES.parameters})
    assert larger * 3600 - 10.0 == pytest.approx(3 * (once * 3600 - 10.0))


def test_problems_of_reasoning_gym_and_learnt_tokenizers_are_counted_before_they_are_made(tmp_path):
    profile = read_profile([PROFILES / "words.yaml"])
    configs = expand_profile(profile, "words.yaml", installed=False)
    splits, evaluation = profile.gym_data.splits, profile.evaluation
    asked = sum(splits[name].size for name in evaluation.splits) * (1 + evaluation.samples)
    jobs = list_jobs(configs, tmp_path)
    assert {job.sampled for job in jobs if job.kind == EVALUATE} == {asked}
    assert {job.prompt for job in jobs} == {profile.model.context}
    assert base_size(configs["base"], tmp_path / "base").vocab_size == profile.pretrain.pieces
