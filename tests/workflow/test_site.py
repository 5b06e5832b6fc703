"""The site: every link of the documents leads somewhere, on the site and in the repository."""

from __future__ import annotations

import importlib.util
import logging

import pytest
import yaml

from support.paths import ROOT

spec = importlib.util.spec_from_file_location("hook", ROOT / "docs" / "site" / "hook.py")
hook = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hook)
DOCUMENTS = sorted(
    [*hook.OTHERS, *(str(path.relative_to(ROOT / "docs")) for path in ROOT.glob("docs/**/*.md"))]
)


@pytest.mark.parametrize("page", DOCUMENTS)
def test_every_link_of_a_document_leads_to_a_file(page, caplog):
    name = hook.origin(page)
    text = hook.as_markdown(name, (ROOT / name).read_text(encoding="utf-8"))
    with caplog.at_level(logging.WARNING):
        hook.with_links(text, page, "")
    assert caplog.messages == []


def test_a_link_to_a_file_that_does_not_exist_is_a_warning(caplog):
    hook.with_links("See [this](nowhere.md).", "faq.md", "")
    assert caplog.messages == ["docs/faq.md: no such file: nowhere.md; mend the link"]


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("index.md", "[a](docs/faq.md)", "[a](faq.md)"),
        ("index.md", "![a](docs/demo/before_after.png)", "![a](demo/before_after.png)"),
        ("faq.md", "[a](../README.md#two-commands)", "[a](index.md#two-commands)"),
        ("demo/before_after.md", "[a](../faq.md)", "[a](../faq.md)"),
        (
            "faq.md",
            "[a](https://arxiv.org/abs/2602.19327)",
            "[a](https://arxiv.org/abs/2602.19327)",
        ),
        ("faq.md", "[a](#here)", "[a](#here)"),
        (
            "method.md",
            "[`gates.py`](../src/sspo/objectives/gates.py)",
            "[`gates.py`](api/objectives.md#sspo.objectives.gates)",
        ),
        (
            "index.md",
            "[`gates.py`](src/sspo/objectives/gates.py)",
            "[`gates.py`](api/objectives.md#sspo.objectives.gates)",
        ),
        ("method.md", "[a](../config/default.yaml)", "[a](HOME/blob/HEAD/config/default.yaml)"),
        (
            "index.md",
            "[docs/evidence](docs/evidence)",
            "[docs/evidence](HOME/blob/HEAD/docs/evidence)",
        ),
        ("faq.md", "```\n[a](../README.md)\n```", "```\n[a](../README.md)\n```"),
    ],
)
def test_a_link_of_the_repository_becomes_one_of_the_site(page, link, expected):
    assert hook.with_links(link, page, "HOME") == expected


def test_without_an_address_a_link_to_a_file_that_has_no_page_is_its_text():
    assert hook.with_links("In [a `file`](../Makefile).", "faq.md", "") == "In a `file`."


def test_what_belongs_to_an_item_of_a_list_is_indented_as_mkdocs_reads_it():
    text = "- one\n  more\n\n  | a |\n  - inner\n1. two\n\n   ```\n   code\n   ```\nend\n  no item"
    wide = text.replace("\n  ", "\n    ").replace("\n     ", "\n    ").replace("    no", "  no")
    assert "\n    | a |\n    - inner\n1. two\n\n    ```\n    code\n" in wide
    assert hook.with_wide_lists(text) == wide
    code = "```yaml\n- a\n  b\n```"
    assert hook.with_wide_lists(code) == code


def test_the_navigation_has_a_page_for_every_package():
    class Loader(yaml.SafeLoader):
        """Takes mkdocs's own tag as a list."""

    Loader.add_constructor("!ENV", Loader.construct_sequence)
    config = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)
    [code] = [entry["Code"] for entry in config["nav"] if "Code" in entry]
    named = [page for entry in code for page in entry.values()]
    assert sorted(named) == [f"api/{package}.md" for package in hook.packages()]


def test_a_package_s_page_says_what_it_is_for_and_names_its_modules():
    title, meaning, *directives = hook.api_page("objectives").strip().split("\n\n")
    assert title == "# sspo.objectives"
    assert meaning.startswith("The losses and gates of the paper")
    assert "::: sspo.objectives.losses" in directives


def test_a_notebook_becomes_its_texts_code_and_outputs():
    text = hook.as_markdown(
        "a.ipynb", (ROOT / "examples" / "sspo.ipynb").read_text(encoding="utf-8")
    )
    assert text.startswith("# SSPO in a notebook")
    assert text.count("```python") == 6
    assert "```text\ngates: sigmoid" in text
    assert text.count('src="data:image/png;base64,') == 4
