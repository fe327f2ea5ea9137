"""Every command and every Python block of the README runs as pasted, in order, in the repository's folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def run(words: list[str], *, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like the repository to the commands, so that nothing is written into the real one."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "hub").symlink_to(ROOT / "hub")
    return folder


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MIXHUB_")}
    return {**kept, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def test_the_commands_and_the_python_run_as_pasted(checkout: Path, environment: dict[str, str]) -> None:
    script = "set -euo pipefail\n" + "\n".join(blocks("bash"))
    ran = run(["bash", "-c", script], cwd=checkout, env=environment)
    assert ran.returncode == 0, ran.stderr[-4000:]
    assert "consistent" in ran.stdout
    for block in blocks("python"):
        done = run([sys.executable, "-c", block], cwd=checkout, env=environment)
        assert done.returncode == 0, f"{block}\n{done.stderr[-4000:]}"


def test_make_knows_every_target_that_the_readme_names() -> None:
    targets = set(re.findall(r"\bmake ([a-z-]+)", README))
    assert {"demo", "test"} <= targets
    for target in targets:
        planned = run(["make", "-n", target], cwd=ROOT)
        assert planned.returncode == 0, f"make {target}: {planned.stderr}"


def test_every_command_is_documented() -> None:
    """The README shows each journey; `mixhub --help` shows the rest."""
    for command in (
        "publish",
        "pull",
        "ls",
        "show",
        "compose",
        "search",
        "export",
        "promote",
        "db check",
        "backup",
        "restore",
        "base add",
    ):
        assert f"mixhub {command}" in README, command


def test_linked_pictures_exist() -> None:
    for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (ROOT / target).is_file(), target
