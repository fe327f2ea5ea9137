"""Uploading with the real client: folders, single files, deletions, parents, conflicts."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete
from huggingface_hub.errors import BadRequestError, EntryNotFoundError, HfHubHTTPError
from safetensors.numpy import save

Read = Callable[[Path], dict[str, bytes]]


def weights(seed: int = 0, *, size: int = 64) -> bytes:
    """Safetensors of no adapter in particular."""
    import numpy as np

    return save({"x": np.random.default_rng(seed).random(size, dtype="float32")})


@pytest.mark.case(4)
def test_a_folder_comes_back_byte_for_byte(
    mode: str, ann: Any, adapter: Path, read_folder: Read, tmp_path: Path
) -> None:
    repo = f"{ann.name}/sql"
    ann.api.create_repo(repo)
    done = ann.api.upload_folder(repo_id=repo, folder_path=adapter, commit_message="first")
    assert len(done.oid) == 40 and ann.api.model_info(repo).sha == done.oid
    folder = ann.api.snapshot_download(repo, local_dir=tmp_path / "back")
    assert read_folder(Path(folder)) == read_folder(adapter)


@pytest.mark.case(5)
@pytest.mark.parametrize("source", ["bytes", "path", "file"])
def test_one_weights_file_from_any_source(mode: str, source: str, ann: Any, tmp_path: Path) -> None:
    repo, content = f"{ann.name}/one", weights(3, size=40_000)
    ann.api.create_repo(repo)
    (tmp_path / "w.safetensors").write_bytes(content)
    sent: Any = {"bytes": content, "path": str(tmp_path / "w.safetensors"), "file": io.BytesIO(content)}[source]
    ann.api.upload_file(path_or_fileobj=sent, path_in_repo="w.safetensors", repo_id=repo)
    assert Path(ann.api.hf_hub_download(repo, "w.safetensors")).read_bytes() == content
    (info,) = ann.api.get_paths_info(repo, ["w.safetensors"])
    assert info.lfs.sha256 == hashlib.sha256(content).hexdigest() and info.size == len(content)


@pytest.mark.case(6)
def test_uploading_the_same_again_makes_no_commit(mode: str, ann: Any, adapter: Path) -> None:
    repo = f"{ann.name}/same"
    ann.api.create_repo(repo)
    first = ann.api.upload_folder(repo_id=repo, folder_path=adapter)
    again = ann.api.upload_folder(repo_id=repo, folder_path=adapter)
    assert again.oid == first.oid
    assert len(ann.api.list_repo_commits(repo)) == 2  # with the first, empty one


def test_what_the_gitignore_of_the_folder_leaves_out_is_not_uploaded(mode: str, ann: Any, tmp_path: Path) -> None:
    for path in ("docs/a.txt", "docs/deep/b.txt", "x/foo", "run/log", "keep.txt"):
        (tmp_path / path).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / path).write_text(path)
    (tmp_path / ".gitignore").write_text("docs/*.txt\n**/foo\nrun/\n")
    repo = f"{ann.name}/ignoring"
    ann.api.create_repo(repo)
    ann.api.upload_folder(repo_id=repo, folder_path=tmp_path)
    assert {".gitignore", "docs/deep/b.txt", "keep.txt"} <= set(ann.api.list_repo_files(repo)) <= {
        ".gitignore", ".gitattributes", "docs/deep/b.txt", "keep.txt"
    }  # fmt: skip
    (tmp_path / ".gitignore").write_text("".join(f"folder{i}/part*/file{i}.txt\n" for i in range(10_000)))
    with pytest.raises(BadRequestError, match="more or longer patterns"):
        ann.api.upload_folder(repo_id=repo, folder_path=tmp_path)


@pytest.mark.case(7)
def test_more_files_than_one_commit_takes(mode: str, ann: Any, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(270):
        (folder / f"f{i}.txt").write_text(str(i), encoding="utf-8")
    repo = f"{ann.name}/many"
    ann.api.create_repo(repo)
    ann.api.upload_folder(repo_id=repo, folder_path=folder)
    assert len(ann.api.list_repo_files(repo)) == 270
    titles = [one.title for one in ann.api.list_repo_commits(repo)]
    assert len(titles) == (3 if mode == "xet" else 2)  # without Xet the client sends one commit
    assert titles[0].endswith("(part 2)") == (mode == "xet")


@pytest.mark.case(7)
def test_larger_files_in_one_upload(mode: str, ann: Any, tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    for i in range(3):
        (folder / f"w{i}.safetensors").write_bytes(weights(i, size=15_000_000))  # 60 MB each
    repo = f"{ann.name}/large"
    ann.api.create_repo(repo)
    ann.api.upload_folder(repo_id=repo, folder_path=folder)
    back = Path(ann.api.snapshot_download(repo))
    for path in folder.iterdir():
        assert hashlib.sha256((back / path.name).read_bytes()).digest() == hashlib.sha256(path.read_bytes()).digest()


@pytest.mark.case(9)
def test_lfs_in_parts(mode: str, serve_with: Any, sent: list[Any]) -> None:
    """A file object goes by LFS in both modes."""
    live = serve_with(multipart_bytes=50_000)
    user, content = live.user(), weights(1, size=40_000)
    user.api.create_repo(f"{user.name}/parts")
    user.api.upload_file(
        path_or_fileobj=io.BytesIO(content), path_in_repo="w.safetensors", repo_id=f"{user.name}/parts"
    )
    parts = [one for one in sent if "/_lfs/part/" in one.url.path]
    assert len(parts) == -(-len(content) // 50_000) == 4
    assert Path(user.api.hf_hub_download(f"{user.name}/parts", "w.safetensors")).read_bytes() == content
    assert not list((live.home.directory / "uploads").rglob("1"))


@pytest.mark.case(8)
def test_the_same_chunks_again_after_a_restart_and_without_the_sessions_of_old(mode: str, serve_with: Any) -> None:
    import shutil

    live, content = serve_with(), weights(9, size=50_000)
    user = live.user()
    for name in ("first", "second"):  # the client's own cache of chunks would name xorbs that are gone
        user.api.create_repo(f"{user.name}/{name}")
        user.api.upload_file(path_or_fileobj=content, path_in_repo="w.safetensors", repo_id=f"{user.name}/{name}")
        serve_with.again(live)
        shutil.rmtree(live.home.directory / "uploads", ignore_errors=True)
    for name in ("first", "second"):
        assert Path(user.api.hf_hub_download(f"{user.name}/{name}", "w.safetensors")).read_bytes() == content


def test_a_client_that_refreshes_its_xet_token_stays_in_its_session(serve_with: Any) -> None:
    live = serve_with(upload_seconds=25)  # clients refresh 30 s before the end: before every call
    user = live.user()
    user.api.create_repo(f"{user.name}/refresh")
    content = weights(5, size=60_000)
    user.api.upload_file(path_or_fileobj=content, path_in_repo="w.safetensors", repo_id=f"{user.name}/refresh")
    assert Path(user.api.hf_hub_download(f"{user.name}/refresh", "w.safetensors")).read_bytes() == content


@pytest.mark.case(25)
def test_deleting_and_copying_in_one_commit(mode: str, ann: Any) -> None:
    repo = f"{ann.name}/ops"
    ann.api.create_repo(repo)
    content = weights(4)
    first = [
        CommitOperationAdd("d/a.txt", b"a"), CommitOperationAdd("d/b.txt", b"b"), CommitOperationAdd("keep.txt", b"k"),
        CommitOperationAdd("w.safetensors", content),
    ]  # fmt: skip
    ann.api.create_commit(repo, first, commit_message="first")
    second = [
        CommitOperationDelete("d/"), CommitOperationAdd("d/c.txt", b"c"), CommitOperationDelete("keep.txt"),
        CommitOperationCopy("w.safetensors", "sub/w.safetensors"), CommitOperationCopy("d/a.txt", "a.txt"),
    ]  # fmt: skip
    ann.api.create_commit(repo, second, commit_message="second")
    assert ann.api.list_repo_files(repo) == ["a.txt", "d/c.txt", "sub/w.safetensors", "w.safetensors"]
    assert Path(ann.api.hf_hub_download(repo, "sub/w.safetensors")).read_bytes() == content
    with pytest.raises(EntryNotFoundError):
        ann.api.delete_file("not-there.txt", repo)


@pytest.mark.case(25)
def test_deleting_by_pattern(mode: str, ann: Any, tmp_path: Path) -> None:
    repo = f"{ann.name}/patterns"
    ann.api.create_repo(repo)
    ann.api.create_commit(repo, [CommitOperationAdd(f"logs/{i}.txt", b"x") for i in range(3)], commit_message="logs")
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "new.md").write_text("new", encoding="utf-8")
    ann.api.upload_folder(repo_id=repo, folder_path=tmp_path / "up", delete_patterns="logs/*")
    assert ann.api.list_repo_files(repo) == ["new.md"]
    ann.api.create_commit(repo, [CommitOperationAdd(f"d/{i}.bak", b"x") for i in range(3)], commit_message="more")
    ann.api.delete_files(repo, ["*.bak"])
    assert ann.api.list_repo_files(repo) == ["new.md"]


@pytest.mark.case(23)
def test_a_commit_on_an_old_parent_is_refused(mode: str, ann: Any) -> None:
    repo = f"{ann.name}/parent"
    ann.api.create_repo(repo)
    first = ann.api.upload_file(path_or_fileobj=b"1", path_in_repo="a.txt", repo_id=repo)
    ann.api.upload_file(path_or_fileobj=b"2", path_in_repo="a.txt", repo_id=repo, parent_commit=first.oid)
    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as caught:
        ann.api.upload_file(path_or_fileobj=b"3", path_in_repo="a.txt", repo_id=repo, parent_commit=first.oid)
    assert caught.value.response.status_code == 412
    assert Path(ann.api.hf_hub_download(repo, "a.txt")).read_bytes() == b"2"


@pytest.mark.case(23)
def test_commits_that_arrive_at_once_all_land(mode: str, ann: Any) -> None:
    repo = f"{ann.name}/parallel"
    ann.api.create_repo(repo)

    def push(i: int) -> None:
        ann.api.upload_file(path_or_fileobj=f"{i}".encode(), path_in_repo=f"{i}.txt", repo_id=repo)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(push, range(8)))
    assert sorted(ann.api.list_repo_files(repo)) == sorted(f"{i}.txt" for i in range(8))
    log = ann.api.list_repo_commits(repo)
    assert len(log) == 9 and len({one.commit_id for one in log}) == 9


@pytest.mark.case(26)
def test_a_card_with_broken_yaml_is_refused_before_the_upload(mode: str, ann: Any) -> None:
    repo = f"{ann.name}/yaml"
    ann.api.create_repo(repo)
    with pytest.raises(ValueError, match="Invalid metadata"):
        ann.api.upload_file(path_or_fileobj=b"---\nlicense: [mit\n---\n", path_in_repo="README.md", repo_id=repo)


def test_an_unreadable_adapter_is_refused_with_words_that_the_client_shows(
    mode: str, ann: Any, write_lora: Callable[..., Path]
) -> None:
    import torch

    repo = f"{ann.name}/bad"
    ann.api.create_repo(repo)
    folder = write_lora("bad", tensors={"base_model.model.x.lora_A.weight": torch.full((2, 16), float("nan"))})
    with pytest.raises(BadRequestError, match="lora_A"):
        ann.api.upload_folder(repo_id=repo, folder_path=folder)
    assert ann.api.list_repo_files(repo) == []


def test_malformed_weights_and_pickles_are_refused(mode: str, ann: Any) -> None:
    import pickle

    repo = f"{ann.name}/refused"
    ann.api.create_repo(repo)
    for name, content, words in (
        ("model.safetensors", weights()[:-9], "cut short"),
        ("adapter_model.bin", b"anything", "pickle"),
        ("notes.txt", pickle.dumps({"a": 1}, protocol=4), "pickle"),
    ):
        with pytest.raises(BadRequestError, match=words):
            ann.api.upload_file(path_or_fileobj=content, path_in_repo=name, repo_id=repo)
    assert ann.api.list_repo_files(repo) == []


def test_a_pair_that_no_longer_fits_is_kept_as_broken_and_gets_no_version(
    mode: str, ann: Any, write_lora: Callable[..., Path]
) -> None:
    repo = f"{ann.name}/broken"
    ann.api.create_repo(repo)
    folder = write_lora("good")
    (folder / "README.md").write_text("words", encoding="utf-8")
    ann.api.upload_file(
        path_or_fileobj=folder / "adapter_config.json", path_in_repo="adapter_config.json", repo_id=repo
    )
    assert _state(ann, repo) == "incomplete"
    ann.api.upload_folder(repo_id=repo, folder_path=folder)
    assert _state(ann, repo) is None
    bad = {**json.loads((folder / "adapter_config.json").read_text()), "r": "many"}
    ann.api.upload_file(
        path_or_fileobj=json.dumps(bad).encode(), path_in_repo="adapter_config.json", repo_id=repo
    )  # fmt: skip
    assert _state(ann, repo) == "broken"
    with pytest.raises(HfHubHTTPError, match="broken"):
        ann.api.create_tag(repo, tag="v1")
    ann.api.upload_folder(repo_id=repo, folder_path=folder)
    ann.api.create_tag(repo, tag="v1")


def _state(user: Any, repo: str) -> str | None:
    import httpx2

    answer = httpx2.get(f"{user.url}/api/models/{repo}", headers={"authorization": f"Bearer {user.token}"})
    found: str | None = answer.json().get("mixhub", {}).get("state")
    return found
