"""What was acknowledged is on the disk: counted at the kernel, because a setting proves nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

COUNT = Path(__file__).with_name("count_syncs.py")
TWENTY_COMMANDS = """
import sys
from hub.cli.main import run
from hub.home import open_home
from hub.settings import Settings

with open_home(Settings()):  # as a server has it open: else the last command of all would sync when it closes
    for number in range(20):
        sys.argv = ["mixhub", "user", "create", f"user{number}"]
        try:
            run()
        except SystemExit as end:
            assert not end.code
"""


def test_every_row_that_a_command_wrote_is_synced(home_folder: Path, tmp_path: Path) -> None:
    """`mixhub user create`, twenty times: without synchronous=FULL it makes two syncs in all."""
    report = tmp_path / "syncs.json"
    ran = subprocess.run(
        [sys.executable, COUNT, report, sys.executable, "-c", TWENTY_COMMANDS],
        env={**os.environ, "MIXHUB_HOME": str(home_folder)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == [word for number in range(20) for word in ("made", f"user{number}")]
    counted = json.loads(report.read_text())
    assert counted[f"{home_folder / 'mixhub.sqlite-wal'}"] >= 20, counted
