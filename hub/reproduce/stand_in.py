"""Small material for a dry run: the shipped demo model, its adapters, and its tasks in LoRAHub's layout. The table that
comes out means nothing; that it comes out shows that everything works before hours are spent."""

from __future__ import annotations

import json
from pathlib import Path

from compose.examples import read_examples
from hub.demo.run import CONTENT, index
from hub.reproduce.lorahub_bbh import Material

TASKS = ("upper-rotl-given-upper", "cap-dash")


def stand_in(folder: Path) -> Material:
    """Tasks are written below `folder`; base and adapters are those of the package."""
    for task in TASKS:
        (folder / task).mkdir(parents=True)
        for name, source in (("example", "few"), ("zero_shot", "test")):
            rows = read_examples(CONTENT / "tasks" / f"{task}.{source}.jsonl")
            lines = (json.dumps({"context": row.input, "completion": row.output}) + "\n" for row in rows)
            (folder / task / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    modules = tuple(str(adapter["name"]) for adapter in index()["adapters"])
    return Material(CONTENT / "base", modules, lambda name: CONTENT / "adapters" / name, folder)
