"""`import compose` is light, and its public names stay functions whatever is imported first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_importing_the_package_and_its_errors_loads_nothing_heavy() -> None:
    run(
        "import sys, compose, compose.errors, compose.card;"
        "heavy = {'torch', 'numpy', 'transformers', 'nevergrad', 'peft'} & set(sys.modules); assert not heavy, heavy"
    )


def test_the_whole_package_needs_no_web_or_database_package_and_no_peft() -> None:
    run(
        "import sys, compose;"
        "[getattr(compose, name) for name in compose.__all__];"
        "found = {'fastapi', 'sqlalchemy', 'alembic', 'peft', 'hub', 'storage'} & set(sys.modules);"
        "assert not found, found"
    )


@pytest.mark.parametrize("name", ["merge", "fuse", "remake", "search", "verify"])
def test_a_function_is_not_hidden_by_its_file(name: str) -> None:
    run(f"from compose.{name} import {name} as one; from compose import {name} as two; assert one is two")


def test_an_unknown_name_is_an_attribute_error() -> None:
    import compose

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = compose.nothing
