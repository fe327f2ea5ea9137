"""Finding and mixing adapters over /api/v1, among repos that stock clients have pushed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from safetensors.torch import load_file

from compose import load_adapter, merge


@pytest.fixture
def pushed(ann: Any, write_lora: Callable[..., Path], tiny_t5: Path) -> dict[str, Path]:
    """A base and two adapters of ann's, pushed with the real client; the adapters name the base by its repo."""
    base = f"{ann.name}/tiny-t5"
    ann.api.create_repo(base)
    ann.api.upload_folder(repo_id=base, folder_path=tiny_t5)
    folders = {}
    for seed, name in enumerate(("a", "b")):
        folder = write_lora(name, seed=seed, base_model_name_or_path=base, card="---\nlicense: mit\n---\n")
        ann.api.create_repo(f"{ann.name}/{name}", private=name == "b")
        ann.api.upload_folder(repo_id=f"{ann.name}/{name}", folder_path=folder)
        folders[f"{ann.name}/{name}"] = folder
    return folders


def call(user: Any, method: str, path: str, body: Any = None, **params: Any) -> httpx2.Response:
    headers = {"authorization": f"Bearer {user.token}"}
    return httpx2.request(method, f"{user.url}/api/v1{path}", json=body, params=params, headers=headers, timeout=60)


def test_adapters_are_found_by_facts_and_only_by_those_who_may(ann: Any, bob: Any, pushed: dict[str, Path]) -> None:
    mine = call(ann, "GET", "/adapters", namespace=ann.name).json()
    assert [one["address"] for one in mine] == list(pushed)
    assert len({one["base_identity"] for one in mine}) == 1 and mine[0]["base_identity"]
    assert [one["address"] for one in call(bob, "GET", "/adapters", namespace=ann.name).json()] == [f"{ann.name}/a"]
    assert len(call(ann, "GET", "/adapters", base=f"{ann.name}/tiny-t5").json()) == 2
    assert call(ann, "GET", "/adapters", namespace=ann.name, rank=9).json() == []
    assert call(ann, "GET", "/adapters", limit=0).status_code == 400


def test_a_mix_over_the_wire_is_the_mix_of_the_files(
    ann: Any, bob: Any, pushed: dict[str, Path], tmp_path: Path
) -> None:
    weights = [0.6, -0.3]
    parts = [{"address": name, "weight": weight} for name, weight in zip(pushed, weights, strict=True)]
    done = call(ann, "POST", "/compositions", {"into": f"{ann.name}/mix", "parts": parts})
    assert done.status_code == 201, done.text
    assert done.json()["address"] == f"{ann.name}/mix@v1" and done.json()["licences"] == ["mit"]
    back = Path(ann.api.snapshot_download(f"{ann.name}/mix", revision="v1", local_dir=tmp_path / "mix"))
    wanted = merge([load_adapter(folder) for folder in pushed.values()], weights, method="lorahub").adapter
    found = load_adapter(back)
    for path, factors in wanted.modules.items():
        delta = factors.scaling * factors.B @ factors.A
        ours = found.modules[path]
        assert torch.allclose(ours.scaling * ours.B @ ours.A, delta, atol=1e-6)
    assert load_file(back / "adapter_model.safetensors")
    stolen = call(bob, "POST", "/compositions", {"into": f"{bob.name}/mix", "parts": parts})
    assert stolen.status_code == 404 and stolen.headers["x-error-code"] == "RepoNotFound"
    assert not bob.api.repo_exists(f"{bob.name}/mix")
    foreign = call(bob, "POST", "/compositions", {"into": f"{ann.name}/a", "parts": parts[:1]})
    assert foreign.status_code == 403


def test_bad_plans_are_refused_in_words(ann: Any, pushed: dict[str, Path]) -> None:
    part = {"address": next(iter(pushed)), "weight": 1.0}
    for plan in (
        {"into": "x", "parts": [part]}, {"into": f"{ann.name}/m", "parts": []},
        {"into": f"{ann.name}/m", "parts": [part], "method": "magic"},
        {"into": f"{ann.name}/m", "parts": [part, part]},
        {"into": f"{ann.name}/m", "parts": [part], "params": {"nonsense": 1}},
    ):  # fmt: skip
        answer = call(ann, "POST", "/compositions", plan)
        assert answer.status_code == 400 and answer.headers["x-error-message"], answer.text
    assert not ann.api.repo_exists(f"{ann.name}/m")
