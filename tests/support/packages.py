"""Packages that are there, or not, for one test."""

from __future__ import annotations

import importlib.util


def pretend_installed(monkeypatch, package: str, installed: bool) -> None:
    find = importlib.util.find_spec

    def pretend(name, *arguments):
        if name == package:
            return object() if installed else None
        return find(name, *arguments)

    monkeypatch.setattr(importlib.util, "find_spec", pretend)
