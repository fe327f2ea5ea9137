"""constraints.txt and the ranges in pyproject.toml say the same: what was tested is what a newcomer gets."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("versions", Path(__file__).with_name("versions.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


versions = _script()
DIRECT = versions.requirements()
INSTALLED_BY_PIP = [one for one in DIRECT if one.name != "hatchling"]  # which pip brings for the build only


def ids(requirement: Requirement) -> str:
    return requirement.name


@pytest.mark.parametrize("one", DIRECT, ids=ids)
def test_every_direct_dependency_has_both_bounds(one: Requirement) -> None:
    assert versions.bound(one, ">=") is not None and versions.bound(one, "<") is not None


@pytest.mark.parametrize("one", INSTALLED_BY_PIP, ids=ids)
def test_the_pin_is_in_its_range_and_the_range_ends_behind_what_was_run(one: Requirement) -> None:
    """Of a version X.Y.Z that was run, the cap is at most X.(Y+1): no minor release comes that nobody tried."""
    pin = versions.pinned()[canonicalize_name(one.name)]
    assert pin in one.specifier
    assert versions.bound(one, "<") <= Version(f"{pin.major}.{pin.minor + 1}")


def test_pins_are_plain_versions_that_hold_on_every_machine() -> None:
    text = versions.CONSTRAINTS.read_text(encoding="utf-8")
    for line in text.splitlines()[1:]:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line), line
    names = [line.partition("==")[0] for line in text.splitlines()[1:]]
    assert names == sorted(set(names)) and not any(versions.PLATFORM_ONLY.match(name) for name in names)


@pytest.mark.parametrize("target", ["install", "demo", "test", "check", "conformance"])
def test_make_installs_the_pins(target: str) -> None:
    planned = subprocess.run(["make", "-nB", target], cwd=versions.ROOT, capture_output=True, text=True, check=True)
    [installs] = [line for line in planned.stdout.splitlines() if "pip install" in line and "-e" in line]
    assert "-c constraints.txt" in installs
