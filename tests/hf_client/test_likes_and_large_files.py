"""Likes, and the large files of all commits of a repo, with the real client."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError
from safetensors.numpy import save

from storage.check import check


def with_file(user: Any, name: str, **options: Any) -> str:
    """A repo of the user's with one text file."""
    repo = f"{user.name}/{name}"
    user.api.create_repo(repo, **options)
    user.api.upload_file(path_or_fileobj=b"hello", path_in_repo="a.txt", repo_id=repo)
    return repo


def like(user: Any, repo: str) -> int:
    """Stock clients only take likes back; a page in a browser gives them."""
    url = f"{user.url}/api/models/{repo}/like"
    return httpx2.post(url, headers={"authorization": f"Bearer {user.token}"}).status_code


def test_likes_are_counted_once_each_listed_and_taken_back(live: Any, ann: Any, bob: Any) -> None:
    one, two = with_file(ann, "one"), with_file(ann, "two", private=True)
    assert [like(user, one) for user in (bob, bob, ann)] == [200, 200, 200] and like(ann, two) == 200
    assert ann.api.model_info(one).likes == 2
    assert [who.username for who in ann.api.list_repo_likers(one)] == [bob.name, ann.name]
    assert ann.api.list_liked_repos().models == [two, one]
    assert bob.api.list_liked_repos(ann.name).models == [one]  # the other is private
    assert [m.id for m in ann.api.list_models(author=ann.name, sort="likes")] == [one, two]
    bob.api.unlike(one)
    ann.api.unlike(two)
    bob.api.unlike(one)
    assert [m.id for m in ann.api.list_models(author=ann.name, sort="likes")] == [one, two]
    assert (ann.api.model_info(one).likes, ann.api.model_info(two).likes) == (1, 0)
    assert like(bob, two) == 404 and like(live.token_of(ann.name, role="read"), one) == 403
    with pytest.raises(HfHubHTTPError):
        HfApi(endpoint=live.url, token=False).unlike(one)


def test_large_files_are_listed_over_all_commits(ann: Any, live: Any) -> None:
    repo = f"{ann.name}/large"
    ann.api.create_repo(repo)
    contents = [save({"x": np.full(100, i, dtype="float32")}) for i in range(4)]
    for content in contents:
        ann.api.upload_file(path_or_fileobj=content, path_in_repo="w.safetensors", repo_id=repo)
    ann.api.upload_file(path_or_fileobj=b"words", path_in_repo="a.txt", repo_id=repo)
    listed = list(ann.api.list_lfs_files(repo))  # more than one page
    assert [one.file_oid for one in listed] == [hashlib.sha256(content).hexdigest() for content in reversed(contents)]
    assert {one.filename for one in listed} == {"w.safetensors"} and {one.size for one in listed} == {len(contents[0])}
    assert [one.ref for one in listed] == ["refs/heads/main", None, None, None]


def test_a_large_file_goes_for_good_once_nothing_leads_to_it(ann: Any, bob: Any, live: Any) -> None:
    repo = f"{ann.name}/clean"
    ann.api.create_repo(repo)
    leaked, good = (save({"x": np.full(100, i, dtype="float32")}) for i in (7, 8))
    for content in (leaked, good):
        ann.api.upload_file(path_or_fileobj=content, path_in_repo="w.safetensors", repo_id=repo)
    old = ann.api.list_repo_commits(repo)[1].commit_id
    (wrong,) = [f for f in ann.api.list_lfs_files(repo) if f.file_oid == hashlib.sha256(leaked).hexdigest()]
    with pytest.raises(HfHubHTTPError, match="super_squash_history") as caught:
        ann.api.permanently_delete_lfs_files(repo, [wrong])
    assert caught.value.response.status_code == 409
    ann.api.create_tag(repo, tag="keep", revision=old)
    ann.api.super_squash_history(repo)
    with pytest.raises(HfHubHTTPError):
        ann.api.permanently_delete_lfs_files(repo, [wrong])  # the tag leads to it
    ann.api.delete_tag(repo, tag="keep")
    with pytest.raises(HfHubHTTPError) as caught:
        bob.api.permanently_delete_lfs_files(repo, [wrong])
    assert caught.value.response.status_code == 403
    ann.api.permanently_delete_lfs_files(repo, [wrong])
    assert [f.file_oid for f in ann.api.list_lfs_files(repo)] == [hashlib.sha256(good).hexdigest()]
    assert Path(ann.api.hf_hub_download(repo, "w.safetensors")).read_bytes() == good
    with pytest.raises(RevisionNotFoundError):
        ann.api.model_info(repo, revision=old)
    assert [one for one in check(live.home.engine, live.home.blobs) if repo in str(one)] == []
