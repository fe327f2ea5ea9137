"""A few kills of a server that is written to lose nothing; and what would be lost is noticed. The full number is for
`bench_kills.py` itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("bench_kills.py")


def test_three_kills_lose_nothing(tmp_path: Path) -> None:
    """Of those that tests/hf_client/test_killed_server.py has not: it kills commits and uploads."""
    command = [sys.executable, str(SCRIPT), "--kills", "3", "--first", "3", "--clients", "2", "--out", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])}
    done = subprocess.run(command, timeout=300, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "kills.json").read_text())
    assert (found["kills"], found["lost"], found["problems"]) == (3, [], [])
    assert {kind.split(",")[0] for kind in found["kills_by_kind"]} == {"promote", "delete", "gc"}
    assert found["acknowledged"] > 10 and found["files_read_over_http"] > 10 and found["deep_checks"] == 4


def test_what_is_lost_or_there_by_half_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    from kills.ledger import Commit, Gone, Held, Ledger, Move, Named, halves, lost

    files = {"f1/a.txt": "aa", "f1/b.txt": "bb"}
    ledger = Ledger(tried={"f1": files})
    for kind, entry in (
        ("commit", Commit("admin/a", "c1", files)),
        ("promote", Move("admin/a", "prod", 1, "c1")),
        ("tag", Named("admin/a", "t", "c1")),
        ("delete", Gone("admin/a", "gone")),
        ("user", "ann"),
    ):
        ledger.acknowledged(kind, entry)  # type: ignore[arg-type]
    names = {("admin/a", "main"): "c1", ("admin/a", "t"): "c1"}
    whole = Held({"admin/a"}, {"c1": files}, names, {("admin/a", "prod", 1): "c1"}, {"ann"})
    assert [*lost(ledger, ledger, whole), *halves(ledger, whole)] == []
    half = Held({"admin/a"}, {"c1": {"f1/a.txt": "aa"}}, {**names, ("admin/a", "gone"): "c1"}, {}, set())
    assert len(list(lost(ledger, ledger, half))) == 5 and len(list(halves(ledger, half))) == 1
    nothing = Held(set(), {}, {}, {}, set())
    assert len(list(lost(ledger, ledger, nothing))) == 5
    ledger.will_delete(Gone("admin/a", ""))
    assert list(lost(ledger, ledger, nothing)) == ["user ann"]
