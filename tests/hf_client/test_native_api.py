"""Finding and mixing adapters over /api/v1, among repos that stock clients have pushed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zlib import crc32

import httpx2
import pytest
import torch
from safetensors.torch import load_file

from compose import load_adapter, merge


@pytest.fixture
def pushed(ann: Any, write_lora: Callable[..., Path], other_base: Callable[..., Path]) -> dict[str, Path]:
    """A base and two adapters of ann's, pushed with the real client; the adapters name the base by its repo."""
    return push(ann, write_lora, other_base)


def push(ann: Any, write_lora: Callable[..., Path], other_base: Callable[..., Path]) -> dict[str, Path]:
    base = f"{ann.name}/tiny-t5"
    seed = crc32(ann.name.encode())  # no other test on this server has the same base or the same adapters
    ann.api.create_repo(base)
    folders = {}
    with TemporaryDirectory() as written:
        ann.api.upload_folder(repo_id=base, folder_path=other_base(Path(written), seed=seed))
    for number, name in enumerate(("a", "b"), start=1):
        folder = write_lora(name, seed=seed + number, base_model_name_or_path=base, card="---\nlicense: mit\n---\n")
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
    assert done.json()["address"] == f"{ann.name}/mix@v1" and done.json()["licences"] == dict.fromkeys(pushed, "mit")
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


def test_all_that_is_known_about_an_adapter_and_nothing_that_is_private(
    serve_with: Callable[..., Any], write_lora: Callable[..., Path], other_base: Callable[..., Path]
) -> None:
    """a is public, b and the base are private, as is one mix of both. On a server where the base has no other name."""
    own = serve_with()
    ann, bob = own.user(), own.user()
    a, b = push(ann, write_lora, other_base)
    ann.api.update_repo_settings(f"{ann.name}/tiny-t5", private=True)
    parts = [{"address": a, "weight": 0.6}, {"address": b, "weight": -0.3}]
    assert call(ann, "POST", "/compositions", {"into": f"{ann.name}/secret", "parts": parts}).status_code == 201
    mix = {"into": f"{ann.name}/open", "parts": parts, "visibility": "public"}
    assert call(ann, "POST", "/compositions", mix).status_code == 201
    mine, theirs = (call(who, "GET", f"/adapters/{a}").json() for who in (ann, bob))
    assert [one["address"] for one in mine["children"]] == [f"{ann.name}/secret", f"{ann.name}/open"]
    assert [one["address"] for one in theirs["children"]] == [f"{ann.name}/open"]
    identity = mine["facts"]["base identity"]
    assert mine["facts"]["base"] == f"{ann.name}/tiny-t5" and len(mine["modules"]) == 2
    assert theirs["facts"]["base"] == identity[:12], "its name is a private repo"
    assert "." not in mine["facts"]["created"]
    shown = call(bob, "GET", f"/adapters/{ann.name}/open").json()
    assert [(one["address"], one["commit_id"] == "") for one in shown["parents"]] == [(a, False), ("(private)", True)]
    assert call(bob, "GET", "/adapters", base=f"{ann.name}/tiny-t5").json() == []
    assert [one["address"] for one in call(bob, "GET", "/adapters", base=identity).json()] == [a, f"{ann.name}/open"]
    assert {one["base"] for one in call(bob, "GET", "/adapters", base=identity).json()} == {identity[:12]}
    assert call(ann, "GET", f"/bases/{identity}").json()["names"][0] == {"name": f"{ann.name}/tiny-t5", "kind": "repo"}
    for guess in (identity, identity[:12], "0" * 64, f"{ann.name}/tiny-t5".replace("/", "%2F")):
        assert call(bob, "GET", f"/bases/{guess}").status_code == 404, guess
    for path in (f"/adapters/{b}", f"/adapters/{b}/export", f"/compositions/{ann.name}/secret", f"/repos/{b}/versions"):
        hidden, missing = call(bob, "GET", path), call(bob, "GET", path.replace(ann.name, "nobody-here"))
        assert hidden.status_code == missing.status_code == 404
        assert hidden.text.replace(ann.name, "nobody-here") == missing.text


def test_a_recipe_pins_nothing_that_its_sender_may_not_read(ann: Any, bob: Any, pushed: dict[str, Path]) -> None:
    a, b = pushed
    parts = [{"address": a, "weight": 0.6}, {"address": b, "weight": -0.3}]
    call(ann, "POST", "/compositions", {"into": f"{ann.name}/mix", "parts": parts})
    made = call(ann, "GET", f"/compositions/{ann.name}/mix", revision="v1").json()
    assert made["method"] == "lorahub" and [p["address"] for p in made["recipe"]["parents"]] == [a, b]
    remade = call(ann, "POST", "/compositions", {"into": f"{ann.name}/again", "recipe": made["recipe"]})
    assert remade.status_code == 201, remade.text
    assert call(ann, "GET", f"/compositions/{ann.name}/again").json()["recipe"] == made["recipe"]
    both = {"into": f"{bob.name}/mine", "recipe": made["recipe"]}
    assert call(bob, "POST", "/compositions", both).status_code == 404
    disguised = [{**parent, "address": a} for parent in made["recipe"]["parents"]]
    stolen = call(bob, "POST", "/compositions", {**both, "recipe": {**made["recipe"], "parents": disguised}})
    assert stolen.status_code == 404 and stolen.json()["kind"] == "RepoNotFound"
    assert not bob.api.repo_exists(f"{bob.name}/mine")
    pinned = [{"address": f"{p['address']}@{p['commit']}", "weight": 1.0} for p in disguised]
    plan = {"into": f"{bob.name}/mine", "parts": pinned, "pinned": True}
    assert call(bob, "POST", "/compositions", plan).json()["kind"] == "RepoNotFound"
    for base in ("/etc", "../base", str(pushed[a])):
        plan = {"into": f"{ann.name}/m", "parts": parts, "base": base}
        assert call(ann, "POST", "/compositions", plan).status_code == 400, base


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_an_export_is_one_archive_that_every_loader_reads(
    ann: Any, bob: Any, pushed: dict[str, Path], tmp_path: Path, form: str
) -> None:
    a, _ = pushed
    got = call(bob, "GET", f"/adapters/{a}/export", format=form, dtype="float16")
    assert got.status_code == 200 and f'filename="a.{form}"' in got.headers["content-disposition"]
    archive = tmp_path / f"a.{form}"
    archive.write_bytes(got.content)
    shutil.unpack_archive(archive, tmp_path / "out", filter="data" if form == "tar" else None)
    assert load_adapter(tmp_path / "out" / "a").modules.keys() == load_adapter(pushed[a]).modules.keys()
    assert {t.dtype for t in load_file(tmp_path / "out" / "a" / "adapter_model.safetensors").values()} == {
        torch.float16
    }
    assert call(bob, "GET", f"/adapters/{a}/export", profile="nonsense").status_code == 400
    ann.api.update_repo_settings(a, gated="manual")
    assert call(bob, "GET", f"/adapters/{a}/export").headers["x-error-code"] == "GatedRepo"
    assert call(bob, "GET", f"/adapters/{a}").status_code == 200, "its facts are shown, its files are not"


def test_a_publication_is_for_those_who_may_write_and_of_their_own_bytes(
    ann: Any, bob: Any, pushed: dict[str, Path]
) -> None:
    a, b = pushed
    stolen = hashlib.sha256((pushed[b] / "adapter_model.safetensors").read_bytes()).hexdigest()
    theirs = {"key": "lfsFile", "value": {"path": "adapter_model.safetensors", "oid": stolen}}
    ours = {"key": "file", "value": {"path": "a.txt", "content": "aGk=", "encoding": "base64"}}
    bob.api.create_repo(f"{bob.name}/own")

    def publish(who: Any, repo: str, *lines: Any) -> httpx2.Response:
        body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        headers = {"authorization": f"Bearer {who.token}"}
        return httpx2.post(f"{who.url}/api/v1/repos/{repo}/publish", content=body, headers=headers, timeout=60)

    assert publish(bob, a, {}, ours).status_code == 403
    assert publish(bob, b, {}, ours).json()["kind"] == "RepoNotFound"
    assert publish(bob, f"{bob.name}/own", {}, theirs).status_code == 400
    for head in ({"base": "/etc"}, {"base": str(pushed[a])}, {"folder": "x"}, {"nonsense": 1}, [], {"version": "one"}):
        assert publish(bob, f"{bob.name}/own", head, ours).status_code in (400, 404), head
    assert publish(bob, f"{bob.name}/own", {}).status_code == 400
    assert publish(bob, f"{bob.name}/own", {}, {"key": "deletedFile", "value": {"path": "a"}}).status_code == 400
    assert bob.api.list_repo_commits(f"{bob.name}/own")[0].title == "initial commit", "nothing has changed"
    done = publish(bob, f"{bob.name}/own", {"message": "hello"}, ours)
    assert done.status_code == 201 and done.json()["version"] == "v1"
    again = publish(bob, f"{bob.name}/own", {}, ours).json()
    assert (again["created"], again["versioned"]) == (False, False)


def test_versions_and_repos_are_deleted_by_those_who_may(
    ann: Any, bob: Any, live: Any, pushed: dict[str, Path]
) -> None:
    a, b = pushed
    ann.api.create_tag(a, tag="v1")
    call(ann, "POST", f"/repos/{a}/aliases/prod/promote", {"revision": "v1"})
    (version,) = call(bob, "GET", f"/repos/{a}/versions").json()
    assert (version["name"], version["aliases"]) == ("v1", "prod")
    assert call(bob, "DELETE", f"/repos/{a}/versions/v1").status_code == 403
    assert call(bob, "DELETE", f"/repos/{a}").status_code == 403
    assert call(bob, "DELETE", f"/repos/{b}").status_code == 404
    reader = live.token_of(ann.name, role="read")
    assert call(reader, "DELETE", f"/repos/{a}").status_code == 403
    assert call(ann, "DELETE", f"/repos/{a}/versions/v1").status_code == 409
    assert call(ann, "DELETE", f"/repos/{a}/versions/main").status_code == 400
    assert call(ann, "DELETE", f"/repos/{a}").status_code == 409
    assert ann.api.repo_exists(a)
    assert call(ann, "DELETE", f"/repos/{a}", force=True).json()["address"] == a
    assert not ann.api.repo_exists(a)
