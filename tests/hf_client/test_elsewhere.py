"""Bytes that others send: signed addresses of an S3 store, and nginx."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from typing import Any

import httpx2
import obstore
import pytest
from obstore.store import S3Store


@pytest.fixture
def bucket(s3_environment: None, s3_endpoint: str) -> str:
    name = f"served-{uuid.uuid4().hex[:12]}"
    httpx2.put(f"{s3_endpoint}/{name}").raise_for_status()
    assert list(obstore.list(S3Store(name, client_options={"allow_http": True}))) == []
    return name


@pytest.mark.parametrize("redirected", [True, False])
def test_uploads_and_downloads_with_blobs_in_s3(
    mode: str, redirected: bool, bucket: str, s3_endpoint: str, serve_with: Any, adapter: Path, tmp_path: Path,
    read_folder: Any,
) -> None:  # fmt: skip
    live = serve_with(blobs_url=f"s3://{bucket}/blobs", redirect_downloads=redirected)
    user = live.user()
    repo = f"{user.name}/s3"
    user.api.create_repo(repo)
    user.api.upload_folder(repo_id=repo, folder_path=adapter)
    back = user.api.snapshot_download(repo, local_dir=tmp_path / "back")
    assert read_folder(Path(back)) == read_folder(adapter)
    answer = httpx2.get(f"{live.url}/{repo}/resolve/main/adapter_model.safetensors", follow_redirects=False)
    if redirected:
        assert answer.status_code == 302 and answer.headers["location"].startswith(s3_endpoint)
        part = httpx2.get(answer.headers["location"], headers={"range": "bytes=0-7"})
        assert part.content == (adapter / "adapter_model.safetensors").read_bytes()[:8]
    else:
        assert answer.status_code == 200


@pytest.mark.parametrize("redirected", [True, False])
def test_damage_in_s3_is_refused_and_the_same_upload_heals_it(redirected: bool, bucket: str, serve_with: Any) -> None:
    live = serve_with(blobs_url=f"s3://{bucket}/blobs", redirect_downloads=redirected)
    user, content = live.user(), uuid.uuid4().hex.encode() * 40_000
    repo = f"{user.name}/s3"
    user.api.create_repo(repo)
    sha256 = hashlib.sha256(content).hexdigest()
    user.api.upload_file(path_or_fileobj=content, path_in_repo="a.bin.txt", repo_id=repo)
    key, store = f"blobs/{sha256[:2]}/{sha256}", S3Store(bucket, client_options={"allow_http": True})
    for wrong in (content[:-1] + b"?", content[:-1]):
        obstore.put(store, key, wrong)
        answer = httpx2.get(f"{live.url}/{repo}/resolve/main/a.bin.txt", headers={"range": "bytes=0-9"})
        assert answer.status_code == 500 and sha256 in answer.headers["x-error-message"]
        user.api.upload_file(path_or_fileobj=content, path_in_repo="a.bin.txt", repo_id=repo)
        answer = httpx2.get(f"{live.url}/{repo}/resolve/main/a.bin.txt", follow_redirects=True)
        assert answer.content == content


def test_nginx_is_told_which_blob_to_send(serve_with: Any) -> None:
    live = serve_with(accel_prefix="/blobs")
    user = live.user()
    user.api.create_repo(f"{user.name}/accel")
    user.api.upload_file(path_or_fileobj=b"hello", path_in_repo="a.txt", repo_id=f"{user.name}/accel")
    answer = httpx2.get(f"{live.url}/{user.name}/accel/resolve/main/a.txt")
    assert answer.content == b"" and answer.headers["x-repo-commit"]
    inside = answer.headers["x-accel-redirect"].removeprefix("/blobs/")
    assert (live.home.directory / "blobs" / inside).read_bytes() == b"hello"
