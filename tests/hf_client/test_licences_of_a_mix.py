"""Licences over the native API: a mix lists those of its parts, and names conflicts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2


def test_a_mix_over_the_wire_names_licences_that_cannot_all_hold(
    ann: Any, write_lora: Callable[..., Path], tiny_t5: Path
) -> None:
    base = f"{ann.name}/tiny-t5"
    folders = {base: tiny_t5}
    for seed, licence in enumerate(("mit", "cc-by-nd-4.0")):
        card = f"---\nlicense: {licence}\n---\n"
        name = f"{ann.name}/{licence}"
        folders[name] = write_lora(licence, seed=seed, base_model_name_or_path=base, card=card)
    for name, folder in folders.items():
        ann.api.create_repo(name)
        ann.api.upload_folder(repo_id=name, folder_path=folder)
    plan = {
        "into": f"{ann.name}/mix",
        "parts": [{"address": f"{ann.name}/{licence}", "weight": 0.5} for licence in ("mit", "cc-by-nd-4.0")],
    }
    headers = {"authorization": f"Bearer {ann.token}"}
    done = httpx2.post(f"{ann.url}/api/v1/compositions", json=plan, headers=headers, timeout=60).json()
    assert done["licences"] == {f"{ann.name}/{one}": one for one in ("mit", "cc-by-nd-4.0")}
    (conflict,) = (note for note in done["notes"] if note.startswith("licence conflict"))
    assert f"cc-by-nd-4.0 ({ann.name}/cc-by-nd-4.0)" in conflict
