"""The page of the claims says what the report says, and nothing of its own."""

import re

import pytest

from sspo.evidence.page import claims_page, last_lines
from sspo.evidence.protocol import CLAIM_TEXT, load_protocol
from sspo.evidence.report import claims_report
from support.evidence_frames import make_runs
from support.paths import CLAIMS_PLAN

PLAN = load_protocol(CLAIMS_PLAN)
METHODS = ("grpo", "gspo", "gmpo", "sapo", "sspo", "sspo_pessimistic")
LABELS = {"sspo": "SSPO (sigmoid)", "sspo_pessimistic": "ours"}


@pytest.fixture(scope="module")
def report() -> dict:
    runs = make_runs(METHODS)
    return claims_report(PLAN, runs[runs["regime"].isin(["main", "stale16"])], labels=LABELS)


@pytest.fixture(scope="module")
def page(report) -> str:
    return claims_page(report, LABELS)


def test_a_pipeline_ends_with_every_verdict_and_where_everything_lies(report):
    lines = last_lines(report, LABELS, "results/x", "figures/x").splitlines()
    for claim, text in CLAIM_TEXT.items():
        (line,) = [line for line in lines if line.strip().startswith(text)]
        found = report["overall"][claim]
        assert line.split(text)[1].split()[0] == found["verdict"].split()[0]
        assert f"SSPO (sigmoid): {found['by_variant']['sspo']}" in line
    for place in ("results/x/claims.md", "figures/x/", "results/x/overview.html"):
        assert place in lines[-2]
    assert "results/x/report.html" in lines[-1]


def test_every_comparison_of_the_deciding_regime_is_a_row(report, page):
    for c in report["comparisons"]:
        if c["regime"] != "main" or c["effect"] is None:
            continue
        row = (
            f"| main | {LABELS.get(c['sspo'], c['sspo'])} | {c['baseline']} | {c['sspo_mean']:.3g} | "
            f"{c['baseline_mean']:.3g} | {c['effect']:+.3g} [{c['low']:+.3g}, {c['high']:+.3g}]"
        )
        (line,) = [x for x in page.splitlines() if x.startswith(row)]
        assert line.endswith(f"| {c['n']} | {c['verdict']} |")


def test_each_claim_has_its_verdict_per_variant_and_regime(report, page):
    for claim, text in CLAIM_TEXT.items():
        found = report["overall"][claim]
        for variant, by_regime in found["by_regime"].items():
            cells = [text, f"**{found['verdict']}**", LABELS.get(variant, variant)]
            assert f"| {' | '.join([*cells, *by_regime.values()])} |" in page


def test_the_remedy_is_compared_with_sspo_and_the_baselines(report, page):
    section = page.split("## The remedy (ours)")[1].split("\n## ")[0]
    for other in ("SSPO (sigmoid)", "grpo", "sapo"):
        assert f"| main | ours | {other} |" in section


def test_tables_are_rectangular(page):
    tables = re.findall(r"(?:^\|.*\n)+", page, flags=re.MULTILINE)
    assert len(tables) > 10
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_without_remedies_there_is_no_such_section():
    runs = make_runs(METHODS[:5], seeds=2)
    report = claims_report(PLAN.changed(remedies=()), runs[runs["regime"] == "main"])
    assert report["remedies"] == []
    assert "remedy" not in claims_page(report, {})
