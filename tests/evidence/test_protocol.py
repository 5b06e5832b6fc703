"""The plan of the claims: the shipped one loads, one that makes no sense is refused."""

import pytest

from sspo.config.errors import ConfigError
from sspo.config.reading import plain
from sspo.evidence.protocol import CLAIMS, check_scores, load_protocol
from support.claims import AREA, DRAWDOWN, FINAL, FURTHER, PLAN
from support.paths import CLAIMS_PLAN


def test_the_plan_in_the_workflow_loads_and_covers_the_paper():
    plan = load_protocol(CLAIMS_PLAN)
    assert plan.baselines == ("grpo", "gspo", "gmpo", "sapo")
    assert {m.claim for m in plan.measures if m.primary} == set(CLAIMS)
    assert plan.learning.target == 0.7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baselines": ("sspo",)}, "sspo: cannot be SSPO and its baseline"),
        ({"baselines": ()}, "baselines = \\[\\]: .* at least 1 item"),
        ({"measures": (AREA, AREA, DRAWDOWN, FINAL, *FURTHER)}, "stands twice"),
        ({"measures": (AREA, FINAL, *FURTHER)}, "stabler without a primary measure"),
        ({"measures": (AREA.changed(primary=False), DRAWDOWN, FINAL, *FURTHER)}, "faster without"),
        (
            {"measures": ({**plain(AREA), "smallest_effect": -1.0}, DRAWDOWN, FINAL, *FURTHER)},
            r"measures\[0\].smallest_effect = -1.0",
        ),
        ({"level": 95.0}, "level = 95.0"),
        ({"minimum_pairs": 1}, "minimum_pairs = 1"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        PLAN.changed(**change)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sspo: [a]\nbaseline: [b]\n", "plan.yaml: baseline: unknown key"),
        ("[1, 2]", "plan.yaml: "),
        ("", "plan.yaml: "),
        ("a: [", "plan.yaml: "),
    ],
)
def test_a_file_that_is_no_plan_is_refused_by_name_in_one_line(tmp_path, text, message):
    file = tmp_path / "plan.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        load_protocol(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({"pass_at": [1, 4]}, "need hard_pass@8"),
        ({"splits": ["test"]}, "need hard_pass@1"),
        ({"splits": ["math500"]}, "need test_pass@1"),
    ],
)
def test_an_evaluation_without_a_planned_score_is_refused_before_any_run(changes, needed):
    evaluation = {"splits": ["test", "hard"], "pools": {}, "pass_at": [1, 8]}
    check_scores(load_protocol(CLAIMS_PLAN), evaluation, "mine.yaml")
    pools = {"pools": {"test": ["math500"], "hard": ["aime24"]}, "splits": ["math500", "aime24"]}
    check_scores(load_protocol(CLAIMS_PLAN), evaluation | pools, "mine.yaml")
    with pytest.raises(ConfigError, match=f"mine.yaml: the claims {needed}"):
        check_scores(load_protocol(CLAIMS_PLAN), evaluation | changes, "mine.yaml")
