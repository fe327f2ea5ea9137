"""The scorers on a device that stands in for a GPU (`standin.py`): nothing is left on the host, nothing is read back
that need not be, and the losses are the CPU's.

The checks are in `standin_checks.py` and run in one process of their own: torch takes the stand-in for the machine's
accelerator from then on, which is nothing for the other tests. They need torch 2.13, which is pinned: hence the marker.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.standin
def test_scorers_on_the_standin_device() -> None:
    paths = os.pathsep.join([str(HERE), *sys.path])
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "standin_checks.py")],
        cwd=HERE, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
