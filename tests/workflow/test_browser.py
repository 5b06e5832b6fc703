"""The pages of results in a browser: from a file, without a network, on a wide and a narrow window."""

from __future__ import annotations

import gzip
import io
import json

import pandas as pd
import pytest
from PIL import Image

from sspo.figures.registry import FIGURES, TABLES
from support.browser import (
    chromium,
    errors,
    open_page,
    overflow,
    requests,
    unloaded_images,
    unnamed_controls,
)
from support.pipelines import Workspace

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PAGES = {
    "curves": "figures/curves.html",
    "overview": "results/overview.html",
    "report": "results/report.html",
}
REPORT = ("--report-stylesheet", "workflow/report/report.css",
          "--report-metadata", "workflow/report/metadata.yaml")  # fmt: skip
CLAIMS = """# The verdicts

Decided in: main.

| claim | verdict |
| --- | --- |
| SSPO learns faster | **undecided** |

## SSPO learns faster?
"""
HOSTILE = '<img src="x" onerror="window.ran = 1"><script>window.ran = 1</script>'
OF_SNAKEMAKE = "cdn.tailwindcss.com should not be used"  # a note of its report, which bundles it


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


def samples_of_results():
    """What the pretended pipeline writes: file name -> bytes. No rollouts belong to run sspo-s2."""
    runs = [("grpo", "main", 0), ("grpo", "main", 1), ("sspo", "main", 0), ("sspo", "main", 2),
            ("sspo", "stale", 0), ("sspo", "stale", 1), ("supervised", "main", 0)]  # fmt: skip
    rows = [
        {"method": method, "regime": regime, "base": "base", "seed": seed, "step": step,
         "run": "-".join([method, *([regime] * (regime != "main")), f"s{seed}"]),
         "pass@1": 0.1 * step + 0.05 * seed, "entropy": 1 / (step + 1)}
        for method, regime, seed in runs for step in range(3)
    ]  # fmt: skip
    metrics = pd.DataFrame(rows)
    rollouts = [
        {
            "step": step,
            "prompt": "1+1=",
            "response": f"#{answer} {HOSTILE}",
            "reward": float(answer == 2),
        }
        for step in (1, 2)
        for answer in range(4)
    ]
    environment = {"commit": None, "dirty": None, "versions": {}, "hardware": {}, "inputs": {}}
    picture = io.BytesIO()
    Image.new("RGB", (1100, 600), "white").save(picture, "png")
    table = (
        b"# Title\n\n"
        + b"| a long name " * 12
        + b"|\n"
        + b"|:--" * 12
        + b"|\n"
        + b"| 0.123 " * 12
        + b"|\n"
    )
    return {
        "metrics.csv": metrics.to_csv(index=False).encode(),
        "runs.csv": b"run\ngrpo-s0\nsspo-s0\n",
        "rollouts.jsonl.gz": gzip.compress("\n".join(map(json.dumps, rollouts)).encode()),
        "environment.json": json.dumps(environment).encode(),
        "claims.md": CLAIMS.replace("undecided", HOSTILE).encode(),
        **{f"{name}.png": picture.getvalue() for name in FIGURES},
        **{f"{name}.md": table for name in TABLES},
    }


@pytest.fixture(scope="module")
def pages(driver, tmp_path_factory):
    """Name -> page, of a pretended pipeline whose pages are real."""
    folder = tmp_path_factory.mktemp("a checkout")
    workspace = Workspace(folder, fake=True, real=("write_curves", "write_overview"))
    (folder / "samples").mkdir()
    for name, content in samples_of_results().items():
        (folder / "samples" / name).write_bytes(content)
    workspace.edit(methods__sspo__label=f"SSPO {HOSTILE}")
    workspace.run("--cores", "2")
    workspace.run("--cores", "1", "--report", PAGES["report"], *REPORT)
    return {name: folder / place for name, place in PAGES.items()}


def choose(driver, control, value):
    """Select an option as a user does, and let the page draw."""
    from selenium.webdriver.support.ui import Select

    Select(driver.find_element("id", control)).select_by_value(value)


def samples(driver):
    return driver.find_element("id", "samples").text


def all_of(driver, selector, attribute):
    """An attribute of all elements that a CSS selector finds, as the page's source has it."""
    return [e.get_dom_attribute(attribute) for e in driver.find_elements("css selector", selector)]


def lines(driver, kind=""):
    """The names of the lines that are drawn: of all, or of the means alone, or of the runs alone."""
    names = driver.execute_script("return id('plot').data.map((trace) => trace.name)")
    return [name for name in names if not kind or name.startswith("mean of") == (kind == "means")]


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_offline_without_errors_and_fits_the_window(driver, pages, name, width):
    open_page(driver, pages[name], width)
    assert [error for error in errors(driver) if OF_SNAKEMAKE not in error] == []
    assert requests(driver) <= {"file", "data"}
    assert overflow(driver) == 0
    assert unloaded_images(driver) == []
    assert driver.execute_script("return window.ran") is None  # labels and responses are text
    if name != "report":  # whose menu has icons without names
        assert unnamed_controls(driver) == []


def test_the_overview_opens_on_the_verdicts_and_has_its_figures_in_order(driver, pages):
    open_page(driver, pages["overview"], 1200)
    verdicts = driver.find_element("css selector", "#verdicts + p + table")
    hero = driver.find_element("css selector", "figure img")
    assert 0 < verdicts.rect["y"] < hero.rect["y"] < 900
    _, *others = all_of(driver, "figure", "id")
    assert others == sorted(others, key=lambda name: int(name[1:])) and "F11" in others
    texts = all_of(driver, "img", "alt")
    assert min(map(len, texts)) > 20 and len({*texts}) == len(texts)


def test_every_link_of_the_overview_leads_somewhere(driver, pages):
    open_page(driver, pages["overview"], 1200)
    links = all_of(driver, "a", "href")
    inside = {link[1:] for link in links if link.startswith("#")}
    assert inside <= {*all_of(driver, "[id]", "id")} and len(inside) > 15
    files = [pages["overview"].parent / link for link in links if not link.startswith("#")]
    assert {"curves.html", "t1_benchmarks.html", "config.json"} <= {file.name for file in files}
    assert [file for file in files if not file.exists()] == []


def test_the_report_opens_on_the_overview_and_lists_figures_by_their_numbers(driver, pages):
    open_page(driver, pages["report"], 1200)
    assert 0 < driver.find_element("id", "verdicts").rect["y"] < 400
    assert all(all_of(driver, "figure img", "alt"))
    menu = driver.find_elements("css selector", "nav a")
    next(entry for entry in menu if entry.text.strip() == "Figures").click()
    names = [e.text for e in driver.find_elements("css selector", "nav tbody td:first-child")]
    assert names == sorted(names) and {"F01", "F09", "F11", "F16"} <= {*names}


def test_the_curves_have_one_colour_a_method_as_configured(driver, pages):
    open_page(driver, pages["curves"], 1200)
    looks = json.loads((pages["overview"].parent / "methods/config.json").read_text())
    colors = driver.execute_script("return id('plot').data.map((trace) => trace.line.color)")
    drawn = {*zip(lines(driver), colors, strict=True)}
    for method, second in (("grpo", 1), ("sspo", 2)):
        names = (f"{method}-s0", f"{method}-s{second}", f"mean of 2 runs of {method}")
        assert {(name, looks[method]["color"]) for name in names} <= drawn
    assert ("supervised-s0", "#777777") in drawn


def test_the_curves_follow_the_controls(driver, pages):
    open_page(driver, pages["curves"], 1200)
    driver.find_element("css selector", "input[value=grpo]").click()
    assert lines(driver) and not any("grpo" in name for name in lines(driver))
    choose(driver, "regime", "stale")
    assert lines(driver, "runs") == ["sspo-stale-s0", "sspo-stale-s1"]
    choose(driver, "measure", "entropy")
    assert driver.find_element("id", "plot").accessible_name.startswith("Entropy")
    (row,) = driver.find_elements("css selector", "#last tr")
    assert row.text.startswith("SSPO")
    driver.find_element("id", "runs").click()
    assert lines(driver) == ["mean of 2 runs of sspo"]
    driver.find_element("id", "means").click()
    assert lines(driver) == [] and errors(driver) == []


def test_pointing_at_a_line_tells_its_run_and_choosing_it_shows_its_responses(driver, pages):
    open_page(driver, pages["curves"], 390)
    driver.execute_script("Plotly.Fx.hover('plot', [{curveNumber: 1, pointNumber: 1}])")
    assert lines(driver)[1] in driver.find_element("css selector", ".hoverlayer").text
    choose(driver, "run", "sspo-s0")
    assert samples(driver).count("Response, reward") == 4  # two of each step
    assert "Step 1, prompt" in samples(driver) and "Step 2, prompt" in samples(driver)
    choose(driver, "run", "sspo-s2")
    assert samples(driver) == "There are no samples of this run."
    assert overflow(driver) == 0 and errors(driver) == []
