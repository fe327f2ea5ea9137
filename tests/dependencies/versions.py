"""The versions of what mixhub depends on: the ones that are pinned, the oldest allowed, and those beyond the ranges.

    python tests/dependencies/versions.py pins     # resolve anew, write constraints.txt and print what changed
    python tests/dependencies/versions.py oldest   # the lower bound of every direct dependency, as constraints
    python tests/dependencies/versions.py beyond   # direct dependencies with releases that the ranges leave out

Needs nothing but pip and `packaging`. `make pins`, `make test-oldest` and `make test-newest` call it.
"""

from __future__ import annotations

import difflib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
PYTHON = (3, 11)
"""Pins are made on the oldest Python that is supported: what it can install, newer ones can."""
EXTRAS = "dev,gguf,gpu"
"""All of them: `dev` brings the others."""
PLATFORM_ONLY = re.compile(r"nvidia-|cuda-|triton$|pywin32$")
"""Of one system or one build of torch: torch itself pins those that its build needs."""
HEAD = "# The versions that were tested together. Made by `make pins`; used by every make target and by .ci/run.\n"


def requirements() -> list[Requirement]:
    """Every direct dependency, of the package, its extras and its build; each name once."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    for extra in project["project"]["optional-dependencies"].values():
        listed += extra
    named = {canonicalize_name(one.name): one for one in map(Requirement, listed)}
    named.pop("mixhub", None)
    return list(named.values())


def bound(requirement: Requirement, operator: str) -> Version | None:
    """The version behind `>=` or `<`; None where the requirement has no such bound."""
    return next((Version(one.version) for one in requirement.specifier if one.operator == operator), None)


def pinned() -> dict[str, Version]:
    """Canonical name -> version in constraints.txt."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def resolve() -> Iterator[str]:
    """`name==version` of everything that pip would install on a clean machine, in order of name."""
    report = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"),
            *("--editable", f"{ROOT}[{EXTRAS}]"),
        ],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    found = {
        canonicalize_name(one["metadata"]["name"]): Version(one["metadata"]["version"]).public
        for one in json.loads(report)["install"]
    }
    found.pop("mixhub")
    return (f"{name}=={found[name]}" for name in sorted(found) if not PLATFORM_ONLY.match(name))


def pins() -> None:
    if sys.version_info[:2] != PYTHON:
        sys.exit(f"Pins are made on Python {PYTHON[0]}.{PYTHON[1]}: make pins PYTHON=python{PYTHON[0]}.{PYTHON[1]}")
    before = CONSTRAINTS.read_text(encoding="utf-8") if CONSTRAINTS.exists() else ""
    after = HEAD + "".join(f"{line}\n" for line in resolve())
    CONSTRAINTS.write_text(after, encoding="utf-8")
    changed = difflib.unified_diff(before.splitlines(), after.splitlines(), "before", "after", n=0, lineterm="")
    print("\n".join(changed) or "constraints.txt is as it was")


def oldest() -> None:
    for one in requirements():
        print(f"{one.name}=={bound(one, '>=')}")


def beyond() -> None:
    outdated = subprocess.run(
        [sys.executable, "-m", "pip", "list", "--outdated", "--format", "json"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    newest = {canonicalize_name(one["name"]): one["latest_version"] for one in json.loads(outdated)}
    for one in requirements():
        if latest := newest.get(canonicalize_name(one.name)):
            print(f"{one.name} {latest} is out; the range is {one.specifier}")


if __name__ == "__main__":
    {"pins": pins, "oldest": oldest, "beyond": beyond}[sys.argv[1]]()
