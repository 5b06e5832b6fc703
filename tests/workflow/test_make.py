"""The targets of the Makefile, with stand-ins for programs, in a checkout whose path has a space."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys

import pytest

from support.paths import ROOT

TARGETS = re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
PROGRAMS = {
    ".venv": ("python", "pip", "snakemake", "ruff", "lint-imports", "snakefmt", "mypy", "mutmut"),
    ".venv-audit": ("pip-audit",),
    ".venv-uv": ("uv",),
    ".venv-site": ("mkdocs", "pip"),
}
VARIABLES = ("HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR")
# Notes itself, its arguments and where it would keep files, a line each; `-m venv DIR` makes another.
STAND_IN = "\n".join(
    [
        "#!/bin/sh",
        """for word in "$0" "$@"; do printf '%s\\n' "$word" >> calls.txt; done""",
        """if [ "$2" = venv ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$0" "$3/bin/pip"; fi""",
        *(f"""printf '{name}=%s\\n' "${name}" >> calls.txt""" for name in VARIABLES),
    ]
)


def stand_in(path, text=STAND_IN):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path):
    """What targets need of the repository, its environment of stand-ins, and results to copy."""
    folder = tmp_path / "a checkout"
    shutil.copytree(ROOT / "config", folder / "config")
    for name in ("Makefile", "requirements.txt", "requirements.gpu.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    for environment, names in PROGRAMS.items():
        for name in names:
            stand_in(folder / environment / "bin" / name)
    figures = [f"figures/f1.{kind}" for kind in ("png", "json", "html", "md", "csv")]
    tables = ["claims.md", "claims.json", "environment.json", "factorial.csv"]
    tables += ["summary/runs.csv", "summary/metrics.csv"]
    for name in (*figures, *(f"results/{table}" for table in tables), ".venv/.installed"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    for name in ("results/README.md", "figures/README.md", ".snakemake/log"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def make(checkout, *arguments, without=(), **environment):
    """A make in that folder, and the words that the stand-ins noted."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", *without)}
    done = subprocess.run(
        ["make", *arguments],
        cwd=checkout,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
    )
    noted = checkout / "calls.txt"
    return done, noted.read_text().splitlines() if noted.exists() else []


@pytest.mark.parametrize("target", TARGETS)
def test_a_path_with_a_space_stays_whole_in_every_target(checkout, target):
    done, words = make(checkout, target)
    assert done.returncode == 0, done.stdout + done.stderr
    assert words or target in ("help", "reference", "environment", "clean")
    folder = checkout.parent
    assert all(str(checkout) in word for word in words if str(folder) in word)


def test_a_clean_checkout_keeps_what_the_repository_has(checkout):
    done, _ = make(checkout, "clean")
    assert done.returncode == 0, done.stderr
    kept = [
        path.relative_to(checkout)
        for part in ("results", "figures")
        for path in checkout.glob(f"{part}/*")
    ]
    assert sorted(map(str, kept)) == ["figures/README.md", "results/README.md"]
    assert not (checkout / ".snakemake").exists()


@pytest.mark.parametrize("target", ["environment", "reproduce", "test", "vllm"])
def test_an_older_python_is_refused_before_anything_is_installed(checkout, target):
    shutil.rmtree(checkout / ".venv")
    older = "import sys; sys.version_info = (3, 10, 14); exec(sys.argv[1])"
    stand_in(
        checkout / "python3",
        f"""#!/bin/sh\necho "$1" >> calls.txt\nexec '{sys.executable}' -c '{older}' "$2" """,
    )
    done, words = make(checkout, target, f"PYTHON={checkout}/python3".replace(" ", "\\ "))
    assert done.returncode != 0
    assert "is not Python 3.11 or newer: install Python 3.11" in done.stderr
    assert words == ["-c"]
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("home", ["nowhere", "a file"])
def test_caches_go_into_the_checkout_where_the_home_folder_takes_none(checkout, home):
    (checkout / "a file").touch()
    done, words = make(
        checkout, "plan", without=("XDG_CACHE_HOME", "MPLCONFIGDIR"), HOME=str(checkout / home)
    )
    assert done.returncode == 0, done.stderr
    caches = checkout / ".snakemake/cache"
    assert f"XDG_CACHE_HOME={caches}" in words
    assert f"MPLCONFIGDIR={caches}/matplotlib" in words


def test_a_home_folder_that_can_be_written_to_stays_in_use(checkout):
    _, words = make(
        checkout, "plan", without=("XDG_CACHE_HOME", "MPLCONFIGDIR"), HOME=str(checkout)
    )
    assert {f"HOME={checkout}", "XDG_CACHE_HOME=", "MPLCONFIGDIR="} <= {*words}


def test_without_a_home_the_account_s_own_counts(checkout):
    _, words = make(checkout, "plan", without=("HOME", "USER"))
    assert f"HOME={pwd.getpwuid(os.getuid()).pw_dir}" in words


@pytest.mark.parametrize(
    ("config", "command"),
    [
        ("default", "make reproduce"),
        ("evidence", "make reproduce CONFIG=evidence"),
        ("paper paper_7b", 'make reproduce CONFIG="paper paper_7b"'),
    ],
)
def test_targets_name_the_command_of_their_own_profile(checkout, config, command):
    for target in ("status", "verify"):
        _, words = make(checkout, target, f"CONFIG={config}")
        assert words[words.index("--remake") + 1] == command
        (checkout / "calls.txt").unlink()
    shutil.rmtree(checkout / "results")
    done, words = make(checkout, "report", f"CONFIG={config}")
    assert done.returncode != 0
    assert f"`{command}`" in done.stderr
    assert words == []


def test_a_report_that_lacks_a_file_names_the_command(checkout):
    stand_in(checkout / ".venv/bin/snakemake", "#!/bin/sh\nexit 1")
    done, _ = make(checkout, "report")
    assert done.returncode != 0
    assert "`make reproduce`" in done.stderr
