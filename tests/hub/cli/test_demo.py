"""What `mixhub demo` shows: the notes of the search, the adapters that count, and what it could not check."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub.cli.search_tables import weight_bars
from hub.demo import run as demo_run

Run = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[3]


def test_adapters_of_weight_0_are_counted_and_not_drawn() -> None:
    lines = weight_bars(("a", "much/longer", "c", "d"), (0.5, 0.0, -1.0, 0.0))
    assert [line.split()[0] for line in lines[:2]] == ["c", "a"]
    assert len(lines) == 3 and "2 adapters have weight 0" in lines[2]
    assert "1 adapter has weight 0" in weight_bars(("a", "b"), (0.0, 1.0))[-1]
    assert len(weight_bars(("a",), (1.0,))) == 1
    assert ["3 adapters have weight 0" in line for line in weight_bars(("a", "b", "c"), (0.0, 0.0, 0.0))] == [True]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same demo with a few evaluations over a few adapters, on a few test strings."""
    read, published = demo_run.read_examples, demo_run.publish_content
    monkeypatch.setattr(demo_run, "BUDGET", 8)
    monkeypatch.setattr(demo_run, "publish_content", lambda home, say: published(home, say)[:4])
    monkeypatch.setattr(demo_run, "read_examples", lambda path: type(read(path))(read(path).rows[:4]))


@pytest.mark.usefixtures("quick")
def test_the_demo_shows_the_notes_and_without_peft_everything_but_its_check(
    mixhub: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = mixhub("demo", "--home", tmp_path / "with", "--json")
    whole = json.loads(ran.out)
    assert ran.code == 0 and len(whole["notes"]) >= 1 and whole["peft"]["same_outputs"] == whole["peft"]["rows"] > 0
    monkeypatch.setitem(sys.modules, "peft", None)
    ran = mixhub("demo", "--home", tmp_path / "without")
    assert ran.code == 1 and "Traceback" not in ran.err
    for said in ("exact match", "default search", "│", "exported"):
        assert said in ran.out
    text = " ".join(ran.out.split())
    assert all(" ".join(note.split()) in text for note in whole["notes"])
    assert (tmp_path / "without" / f"exported-{whole['task']}" / "adapter_config.json").is_file()
    assert ran.err.splitlines()[-2].startswith("error: peft is not installed")
    assert "install peft to check" in ran.err.splitlines()[-1]


def test_no_search_of_the_demo_pays_for_the_imports(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys
        from hub.cli import main
        from hub.demo import run

        def searched(*_, **__):
            loaded = ("compose.scoring.loading", "compose.nevergrad_search", "transformers.models.t5.modeling_t5")
            print("missing", [name for name in loaded if name not in sys.modules])
            sys.exit(7)

        run.run = searched
        main.run()
        """
    )
    command = [sys.executable, "-c", program, "demo", "--home", str(tmp_path / "demo")]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stdout) == (7, "missing []\n"), ran.stderr
    assert "loading" in ran.stderr.splitlines()[-1]
