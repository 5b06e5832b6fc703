"""Hashes, git state, code closure, and files that are written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import subprocess
from itertools import count
from pathlib import Path

import pytest

from sspo.pipeline.closure import import_closure
from sspo.pipeline.files import write_json
from sspo.pipeline.provenance import (
    fingerprint,
    git_state,
    hardware,
    provenance,
    sha256_file,
    versions,
)

SHA_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2


@pytest.fixture(autouse=True)
def plain_git(monkeypatch, tmp_path):
    """Git without the settings of this machine, which finds no repository above the test's folder."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.delenv("GIT_DIR", raising=False)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "test")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "test@example.org")


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / name for name in ("a", "b")]
    for path in paths:
        path.write_text(f"content of {path.name}")
    return paths


# Hashes


def test_sha256_is_that_of_the_bytes(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert sha256_file(path) == sha256_file(str(path)) == SHA_ABC
    path.write_bytes(bytes(range(256)) * 9999)
    assert sha256_file(path) == hashlib.sha256(bytes(range(256)) * 9999).hexdigest()


def test_fingerprint_depends_on_contents_and_order_and_not_on_names(files, tmp_path):
    a, b = files
    whole = fingerprint([a, b])
    assert fingerprint(iter([str(a), str(b)])) == whole
    assert len({whole, fingerprint([b, a]), fingerprint([a]), fingerprint([a, b, b])}) == 4
    a.rename(tmp_path / "renamed")
    assert fingerprint([tmp_path / "renamed", b]) == whole
    b.write_text("content of B")
    assert fingerprint([tmp_path / "renamed", b]) != whole


def test_fingerprint_keeps_file_boundaries(tmp_path):
    for name, text in (("a", "one"), ("b", "two"), ("c", "onetw"), ("d", "o")):
        (tmp_path / name).write_text(text)
    first = fingerprint([tmp_path / "a", tmp_path / "b"])
    assert first != fingerprint([tmp_path / "c", tmp_path / "d"])


# Git


def git(folder, *arguments):
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_git_state_outside_git_is_null(tmp_path):
    assert git_state(tmp_path) == {"commit": None, "dirty": None}
    assert git_state(tmp_path / "missing") == {"commit": None, "dirty": None}


def test_git_state_without_the_program_is_null(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path) == {"commit": None, "dirty": None}


def test_git_state_names_the_commit_and_whether_files_changed(files):
    folder = files[0].parent
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
    commit = git(folder, "rev-parse", "HEAD")
    assert len(commit) == 40
    assert git_state(folder) == {"commit": commit, "dirty": False}
    files[0].write_text("changed")
    assert git_state(folder) == {"commit": commit, "dirty": True}
    git(folder, "checkout", "--quiet", "--", "a")
    assert git_state(folder)["dirty"] is False
    (folder / "untracked").write_text("x")
    assert git_state(folder)["dirty"] is True


def committed(folder):
    """A repository with one commit; returns the commit."""
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text(folder.name)  # so that no two repositories share a commit
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
    return git(folder, "rev-parse", "HEAD")


def test_an_archive_unpacked_inside_another_repository_has_no_commit(tmp_path):
    committed(tmp_path)
    unpacked = tmp_path / "sspo"
    unpacked.mkdir()
    (unpacked / "file").write_text("x")
    assert git_state(unpacked) == {"commit": None, "dirty": None}
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "with the archive")
    assert git_state(unpacked) == {"commit": None, "dirty": None}


def test_a_clone_inside_another_repository_and_behind_a_link_has_its_own_commit(tmp_path):
    outer, inner = committed(tmp_path), tmp_path / "clone"
    commit = committed(inner)
    (tmp_path / "link").symlink_to(inner)
    git(inner, "worktree", "add", "--quiet", "--detach", str(tmp_path / "with a space"))
    for folder in (inner, tmp_path / "link", tmp_path / "with a space"):
        assert git_state(folder) == {"commit": commit, "dirty": False}
    assert git_state(tmp_path)["commit"] == outer


def test_the_variables_of_a_hook_of_another_repository_name_no_commit(tmp_path, monkeypatch):
    committed(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    assert git_state(tmp_path) == {"commit": None, "dirty": None}


# The record


def test_provenance_holds_input_hashes_extras_and_environment(files):
    record = provenance(reversed(files), seed=3)
    assert list(record["inputs"].items()) == [(str(p), sha256_file(p)) for p in sorted(files)]
    assert record["seed"] == 3
    assert {"commit", "dirty", "versions", "hardware"} < record.keys()
    json.dumps(record, allow_nan=False)


def test_a_missing_input_raises(tmp_path):
    with pytest.raises(FileNotFoundError):
        provenance([tmp_path / "none"])


def test_versions_name_installed_packages_only(monkeypatch):
    import numpy
    import torch

    monkeypatch.setattr(
        "sspo.pipeline.provenance.PACKAGES", ("torch", "numpy", "no-such-package-here")
    )
    found = versions()
    assert (found["torch"], found["numpy"]) == (torch.__version__, numpy.__version__)
    assert sorted(found) == ["numpy", "python", "torch"]


def test_hardware_is_plain_data_without_a_gpu_program(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = hardware()
    assert found["gpu"] is None
    assert found["cores"] >= 1
    assert found["memory_gib"] > 0
    json.dumps(found)


# Code closure


@pytest.fixture
def project(tmp_path):
    """A package ``pack`` and scripts; returns a function script text -> names of its closure."""
    modules = {
        "pack/__init__.py": "VERSION = 1\n",
        "pack/leaf.py": "import json\n",
        "pack/middle.py": "from pack.leaf import anything\n",
        "pack/lazy.py": "def f():\n    from pack import leaf\n    return leaf\n",
        "pack/first.py": "import pack.second\n",
        "pack/second.py": "import pack.first\n",
        "pack/sub/__init__.py": "from pack import leaf\n",
        "pack/sub/deep.py": "DEEP = 1\n",
        "pack/unused.py": "UNUSED = 1\n",
        "pack/empty.py": '"""Nothing but words."""\n',
        "single.py": "import pack.leaf\n",
    }
    for name, text in modules.items():
        path = tmp_path / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    numbers = count()  # files are read once in a process, so every script is a new one

    def closure(text, modules=(), without=frozenset()):
        script = tmp_path / f"script{next(numbers)}.py"
        script.write_text(text)
        found = import_closure(script, modules, without, tmp_path / "src")
        assert found == sorted(found)
        return {str(path.relative_to(tmp_path / "src")) for path in found}

    return closure


@pytest.mark.parametrize(
    "script, expected",
    [
        ("import os, json\n", set()),
        ("import pack.leaf\n", {"pack/__init__.py", "pack/leaf.py"}),
        ("import pack.leaf as other\n", {"pack/__init__.py", "pack/leaf.py"}),
        ("from pack import leaf\n", {"pack/__init__.py", "pack/leaf.py"}),
        ("from pack.leaf import anything\n", {"pack/__init__.py", "pack/leaf.py"}),
        ("from pack import *\n", {"pack/__init__.py"}),
        ("from pack import middle\n", {"pack/__init__.py", "pack/leaf.py", "pack/middle.py"}),
        ("import single\n", {"single.py", "pack/__init__.py", "pack/leaf.py"}),
        ("import pack.sub\n", {"pack/__init__.py", "pack/sub/__init__.py", "pack/leaf.py"}),
        (
            "import pack.sub.deep\n",
            {"pack/__init__.py", "pack/sub/__init__.py", "pack/sub/deep.py", "pack/leaf.py"},
        ),
        ("import pack.first\n", {"pack/__init__.py", "pack/first.py", "pack/second.py"}),
    ],
)
def test_closure_follows_imports_through_packages_and_circles(project, script, expected):
    assert project(script) == expected


def test_closure_finds_lazy_conditional_and_guarded_imports(project):
    leaf = {"pack/__init__.py", "pack/leaf.py"}
    assert project("def f():\n    import pack.leaf\n") == leaf
    assert project("class A:\n    def f(self):\n        from pack.leaf import x\n") == leaf
    assert project("if False:\n    import pack.leaf\n") == leaf
    assert project("try:\n    import pack.leaf\nexcept ImportError:\n    pass\n") == leaf
    assert project("from pack.lazy import f\n") == leaf | {"pack/lazy.py"}


def test_closure_imports_nothing(project):
    assert project("import pack.leaf\nraise SystemExit\n") == {"pack/__init__.py", "pack/leaf.py"}


def test_text_that_looks_like_an_import_is_none(project):
    assert project('"""import pack.leaf"""\n# import pack.unused\n') == set()


@pytest.mark.parametrize("text", ["from . import leaf\n", "from .leaf import anything\n"])
def test_closure_follows_relative_imports(project, tmp_path, text):
    (tmp_path / "src" / "pack" / "relative.py").write_text(text)
    assert project("import pack.relative\n") == {
        "pack/__init__.py",
        "pack/relative.py",
        "pack/leaf.py",
    }


def test_a_module_without_a_statement_is_left_out(project):
    assert project("import pack.empty\n") == {"pack/__init__.py"}


def test_named_modules_count_as_imported(project):
    assert project("", modules=("pack.middle",)) == {
        "pack/__init__.py",
        "pack/middle.py",
        "pack/leaf.py",
    }


def test_what_is_left_out_is_not_followed_either(project):
    everything = "import pack.middle, pack.sub.deep\n"
    assert project(everything, without=frozenset({"pack.middle", "pack.sub"})) == {
        "pack/__init__.py"
    }
    assert "pack/leaf.py" in project(everything, without=frozenset({"pack.mid", "pack.sub"}))


def test_every_file_is_read_once_in_a_process(project, tmp_path, monkeypatch):
    read = []
    whole = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda self, **kwargs: read.append(self) or whole(self, **kwargs)
    )
    first = project("import pack.middle\n")
    assert project("import pack.middle\n") == first
    assert sorted(read) == sorted({*read})


# Files


def test_write_json_round_trips_makes_folders_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "folder" / "x.json"
    for data in ({"a": [1, 2.5, None, "é"]}, {"b": {}}):
        write_json(path, data)
        assert json.loads(path.read_text(encoding="utf-8")) == data
        assert path.read_text().endswith("}\n")
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


def test_data_that_is_not_json_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"old": 1})
    with pytest.raises(TypeError):
        write_json(path, {"new": object()})
    assert json.loads(path.read_text()) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_crash_in_the_middle_of_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_json(path, {"old": 1})
    whole = Path.write_bytes

    def tear(self, content):
        whole(self, content[: len(content) // 2])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", tear)
    with pytest.raises(OSError, match="disk full"):
        write_json(path, {"new": list(range(1000))})
    monkeypatch.undo()
    assert json.loads(path.read_text()) == {"old": 1}
    write_json(path, {"new": 2})  # the torn leftover is overwritten
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
