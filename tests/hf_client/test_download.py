"""Downloads, listings and file facts with the real client."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)  # fmt: skip
from huggingface_hub.hf_api import RepoFile, RepoFolder


@pytest.fixture
def repo(mode: str, ann: Any, adapter: Path) -> str:
    name = f"{ann.name}/sql"
    ann.api.create_repo(name)
    ann.api.upload_folder(repo_id=name, folder_path=adapter)
    return name


@pytest.mark.case(13, 15)
def test_names_that_are_not_there_are_told_apart(ann: Any, repo: str) -> None:
    with pytest.raises(RevisionNotFoundError):
        ann.api.snapshot_download(repo, revision="nowhere")
    with pytest.raises(RepositoryNotFoundError):
        ann.api.snapshot_download(f"{ann.name}/nothing")
    with pytest.raises(RemoteEntryNotFoundError):
        ann.api.hf_hub_download(repo, "nothing.json")
    noted = list(Path(constants.HF_HUB_CACHE).rglob(".no_exist/*/nothing.json"))
    assert [path.parent.name for path in noted] == [ann.api.model_info(repo).sha]


@pytest.mark.case(14)
def test_patterns_and_the_cache_save_requests(ann: Any, repo: str, tmp_path: Path, sent: list[httpx2.Request]) -> None:
    folder = Path(ann.api.snapshot_download(repo, allow_patterns=["*.json"], local_dir=tmp_path / "json"))
    assert sorted(path.name for path in folder.glob("*") if path.is_file()) == ["adapter_config.json", "labels.json"]
    first = ann.api.snapshot_download(repo)
    sent.clear()
    assert ann.api.snapshot_download(repo) == first
    assert [one.url.path for one in sent] == [f"/api/models/{repo}/revision/main"]
    assert {one.filename for one in ann.api.snapshot_download(repo, dry_run=True)} == set(ann.api.list_repo_files(repo))


def test_a_head_says_everything_without_the_bytes(ann: Any, repo: str, adapter: Path) -> None:
    content = (adapter / "adapter_model.safetensors").read_bytes()
    sha = ann.api.model_info(repo).sha
    answer = httpx2.head(f"{ann.url}/{repo}/resolve/main/adapter_model.safetensors")
    digest = hashlib.sha256(content).hexdigest()
    assert answer.status_code == 200 and answer.content == b""
    assert answer.headers["x-repo-commit"] == sha and answer.headers["etag"] == f'"{digest}"'
    assert answer.headers["content-length"] == answer.headers["x-linked-size"] == str(len(content))
    config = (adapter / "adapter_config.json").read_bytes()
    regular = httpx2.head(f"{ann.url}/{repo}/resolve/{sha}/adapter_config.json")
    git_id = hashlib.sha1(b"blob %d\0" % len(config) + config).hexdigest()
    assert regular.headers["etag"] == f'"{git_id}"'
    assert "immutable" in regular.headers["cache-control"] and "x-linked-etag" not in regular.headers
    assert "x-xet-hash" not in answer.headers


@pytest.mark.case(30)
@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("bytes=0-", 0, None), ("bytes=5-9", 5, 10), ("bytes=-7", -7, None), ("bytes=3-999999999", 3, None)],
)
def test_a_range_is_that_part(ann: Any, repo: str, adapter: Path, asked: str, start: int, end: int | None) -> None:
    content = (adapter / "adapter_model.safetensors").read_bytes()
    url = f"{ann.url}/{repo}/resolve/main/adapter_model.safetensors"
    answer = httpx2.get(url, headers={"range": asked})
    assert answer.status_code == 206 and answer.content == content[start:end]
    first = len(content) + start if start < 0 else start
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(answer.content) - 1}/{len(content)}"


@pytest.mark.case(30)
def test_a_range_beyond_the_end_cannot_be_satisfied(ann: Any, repo: str, adapter: Path) -> None:
    size = (adapter / "adapter_model.safetensors").stat().st_size
    url = f"{ann.url}/{repo}/resolve/main/adapter_model.safetensors"
    answer = httpx2.get(url, headers={"range": f"bytes={size}-"})
    assert answer.status_code == 416 and answer.headers["content-range"] == f"bytes */{size}"


@pytest.mark.case(30)
def test_the_header_of_weights_is_read_by_range(ann: Any, repo: str) -> None:
    metadata = ann.api.parse_safetensors_file_metadata(repo, "adapter_model.safetensors")
    assert metadata.tensors and all("lora_" in name for name in metadata.tensors)


@pytest.mark.case(17)
def test_the_tree_by_folder_and_recursively_in_pages(ann: Any, repo: str) -> None:
    top = list(ann.api.list_repo_tree(repo))
    assert {entry.path for entry in top if isinstance(entry, RepoFolder)} == {"sub"}
    everything = list(ann.api.list_repo_tree(repo, recursive=True))  # more than one page: a page has three
    assert {e.path for e in everything if isinstance(e, RepoFile)} == set(ann.api.list_repo_files(repo))
    assert [e.path for e in ann.api.list_repo_tree(repo, "sub/deep")] == ["sub/deep/a b#é.txt"]
    with pytest.raises(EntryNotFoundError):
        list(ann.api.list_repo_tree(repo, "nowhere"))
    expanded = list(ann.api.list_repo_tree(repo, expand=True))
    assert all(e.last_commit is not None for e in expanded)


def test_the_last_commit_of_a_file_is_the_one_that_changed_it(ann: Any, repo: str) -> None:
    ann.api.upload_file(path_or_fileobj=b"{}", path_in_repo="labels.json", repo_id=repo, commit_message="labels")
    found = {
        e.path: e.last_commit.title for e in ann.api.get_paths_info(repo, ["labels.json", "README.md"], expand=True)
    }
    assert found["labels.json"] == "labels" and found["README.md"] != "labels"


@pytest.mark.case(18)
def test_facts_of_paths_leave_out_what_is_not_there(ann: Any, repo: str) -> None:
    found = ann.api.get_paths_info(repo, ["README.md", "sub", "nothing"])
    assert {entry.path: type(entry) for entry in found} == {"README.md": RepoFile, "sub": RepoFolder}


@pytest.mark.case(19)
def test_a_listing_filters_sorts_and_pages(mode: str, ann: Any, live: Any, write_lora: Callable[..., Path]) -> None:
    org = live.user().name  # a namespace with nothing else in it
    author = live.token_of(org)
    for i in range(7):
        name = f"{org}/lora-{i}"
        author.api.create_repo(name, private=i == 6)
        author.api.upload_folder(repo_id=name, folder_path=write_lora(f"{org}-{i}", seed=i, r=2 + i % 2))
    assert [m.id for m in ann.api.list_models(author=org)] == [f"{org}/lora-{i}" for i in range(6)]
    assert len(list(author.api.list_models(author=org))) == 7
    assert [m.id for m in ann.api.list_models(author=org, search="LORA-3")] == [f"{org}/lora-3"]
    rank3 = [m.id for m in ann.api.list_models(author=org, filter=["rank:3", "base_model:adapter:org/tiny-t5"])]
    assert rank3 == [f"{org}/lora-{i}" for i in (1, 3, 5)]
    newest = [m.id for m in ann.api.list_models(author=org, sort="last_modified", limit=2)]
    assert newest == [f"{org}/lora-5", f"{org}/lora-4"]
    (full,) = ann.api.list_models(author=org, search="lora-0", full=True)
    assert {s.rfilename for s in full.siblings} == {"adapter_config.json", "adapter_model.safetensors"}
    assert list(ann.api.list_models(author=org, filter="no-such-tag")) == []


@pytest.mark.case(21)
def test_facts_come_from_the_adapter_where_the_card_is_silent(ann: Any, repo: str) -> None:
    info = ann.api.model_info(repo, files_metadata=True)
    assert {"peft", "lora", "license:mit", "sql", "base_model:adapter:org/tiny-t5", "rank:2"} <= set(info.tags)
    assert info.library_name == "peft" and info.pipeline_tag == "text2text-generation"
    assert info.card_data.license == "mit"
    files = {s.rfilename: s for s in info.siblings}
    assert files["adapter_model.safetensors"].lfs.sha256 and files["adapter_config.json"].size
    assert files["empty.txt"].size == 0


@pytest.mark.case(21)
def test_unknown_expansions_do_no_harm(ann: Any, repo: str) -> None:
    ann.api.model_info(repo, expand=["downloads", "tags"])
    answer = httpx2.get(f"{ann.url}/api/models/{repo}", params={"expand": ["xetEnabled", "whatever"]})
    assert answer.status_code == 200 and answer.json()["sha"]


def test_downloads_of_weights_are_counted_once_each(ann: Any, repo: str) -> None:
    import time

    before = ann.api.model_info(repo).downloads
    ann.api.hf_hub_download(repo, "adapter_model.safetensors", force_download=True)
    ann.api.hf_hub_download(repo, "adapter_config.json", force_download=True)
    deadline = time.monotonic() + 60
    while ann.api.model_info(repo).downloads != before + 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ann.api.model_info(repo).downloads == before + 1


@pytest.mark.case(35)
def test_digests_agree_with_what_the_client_computes(ann: Any, repo: str) -> None:
    ann.api.snapshot_download(repo)
    checked = ann.api.verify_repo_checksums(repo)
    assert not checked.mismatches and checked.checked_count == len(ann.api.list_repo_files(repo))


@pytest.mark.case(34)
def test_a_base_that_is_not_here_does_not_look_like_a_missing_repo(mode: str, live: Any, ann: Any) -> None:
    foreign = httpx2.head(f"{live.url}/meta/base/resolve/main/config.json")
    assert foreign.status_code == 404 and "x-error-code" not in foreign.headers
    single = httpx2.head(f"{live.url}/gpt2/resolve/main/config.json")
    assert single.status_code == 404 and "x-error-code" not in single.headers
    api = httpx2.get(f"{live.url}/api/models/gpt2/revision/main", headers={"authorization": f"Bearer {ann.token}"})
    assert (api.status_code, api.headers["x-error-code"]) == (404, "RepoNotFound")
    assert not ann.api.repo_exists("meta/base") and not ann.api.repo_exists("gpt2")
    with pytest.raises(RepositoryNotFoundError, match="gpt2"):
        ann.api.model_info("gpt2")
    with pytest.raises(LocalEntryNotFoundError):
        ann.api.hf_hub_download("gpt2", "config.json")
    known = httpx2.head(f"{live.url}/{ann.name}/none/resolve/main/x", headers={"authorization": f"Bearer {ann.token}"})
    assert known.headers["x-error-code"] == "RepoNotFound"


def test_every_answer_has_a_request_id_and_every_error_the_same_shape(live: Any) -> None:
    for method, path, body in (
        ("GET", "/healthz", None), ("GET", "/nowhere", None), ("GET", "/api/models/x/y", None),
        ("PATCH", "/api/models", None), ("POST", "/api/repos/create", {"name": 3}),
        ("POST", "/_cas/abc/v2/shards", None), ("GET", "/_cas/abc/v1/chunks/default/00", None),
        ("POST", "/_cas/abc/v1/xorb-grants/default/00", None), ("GET", "/api/datasets/a/b", None),
        ("GET", "/api/models/a/b/xet-read-token/main", None), ("POST", "/v1/telemetry", {}),
    ):  # fmt: skip
        answer = httpx2.request(method, live.url + path, json=body)
        assert len(answer.headers["x-request-id"]) == 32, path
        if answer.status_code != 200:
            assert answer.json()["error"] and answer.headers["x-error-message"], path
        assert answer.status_code in (200, 400, 401, 404), (path, answer.status_code)


@pytest.mark.case(37)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_addresses_in_answers_have_the_host_that_was_asked(mode: str, live: Any, ann: Any, host: str) -> None:
    api = HfApi(endpoint=f"http://{host}:{live.port}", token=ann.token)
    url = api.create_repo(f"{ann.name}/at-{host}")
    assert str(url) == f"http://{host}:{live.port}/{ann.name}/at-{host}"
    done = api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=f"{ann.name}/at-{host}")
    assert done.commit_url.startswith(f"http://{host}:{live.port}/")


@pytest.mark.case(37)
def test_a_path_prefix_works_from_end_to_end(
    serve_with: Any, mode: str, adapter: Path, tmp_path: Path, read_folder: Callable[[Path], dict[str, bytes]]
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/some/hub"
    user = replace(serve_with(port=port, public_url=url).user(), url=url)
    repo = f"{user.name}/prefixed"
    assert str(user.api.create_repo(repo)) == f"{url}/{repo}"
    user.api.upload_folder(repo_id=repo, folder_path=adapter)
    assert len(list(user.api.list_repo_tree(repo, recursive=True))) > 5
    assert read_folder(Path(user.api.snapshot_download(repo, local_dir=tmp_path / "b"))) == read_folder(adapter)


@pytest.mark.case(37)
def test_proxy_headers_are_believed_from_trusted_peers_only(mode: str, serve_with: Any) -> None:
    headers = {"x-forwarded-proto": "https", "x-forwarded-host": "hub.example"}
    for trusted, expected in (("127.0.0.1", "https://hub.example/"), ("10.0.0.1", "http://127.0.0.1")):
        live = serve_with(trusted_proxies=trusted)
        user = live.user()
        made = httpx2.post(
            f"{live.url}/api/repos/create", json={"name": "a"},
            headers={**headers, "authorization": f"Bearer {user.token}"},
        )  # fmt: skip
        assert made.json()["url"].startswith(expected)


@pytest.mark.case(35)
def test_the_file_system_reads_lists_and_writes(mode: str, ann: Any, repo: str, adapter: Path) -> None:
    from huggingface_hub import HfFileSystem

    files = HfFileSystem(endpoint=ann.url, token=ann.token, skip_instance_cache=True)
    assert {Path(one["name"]).name for one in files.ls(repo)} >= {"adapter_config.json", "sub"}
    assert files.glob(f"{repo}/**/*.txt")
    content = (adapter / "adapter_model.safetensors").read_bytes()
    with files.open(f"{repo}/adapter_model.safetensors", "rb") as file:
        file.seek(10)
        assert file.read(20) == content[10:30]
    with files.open(f"{repo}/written.txt", "w") as file:
        file.write("hello")
    assert files.info(f"{repo}/written.txt")["size"] == 5
    assert files.read_text(f"{repo}/written.txt") == "hello"


def test_a_malformed_body_is_refused_in_the_same_shape(ann: Any, repo: str) -> None:
    answer = httpx2.put(
        f"{ann.url}/api/models/{repo}/settings", json={"gated": "sometimes"},
        headers={"authorization": f"Bearer {ann.token}"},
    )  # fmt: skip
    assert answer.status_code == 400 and "malformed" in answer.headers["x-error-message"]
