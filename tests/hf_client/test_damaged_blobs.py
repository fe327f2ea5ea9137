"""Blobs that the disk has changed or lost, as clients meet them: never taken for right, and healed by an upload."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy
from huggingface_hub.errors import BadRequestError, HfHubHTTPError
from safetensors.numpy import save

from storage import damage

NAME = "model.safetensors"


@pytest.fixture
def content() -> bytes:
    """Weights of three pieces, other ones in every test."""
    import numpy as np

    return save({"x": np.frombuffer(os.urandom(5 << 19), dtype="float32")})


@pytest.fixture
def repo(ann: Any, content: bytes) -> str:
    name = f"{ann.name}/damaged"
    ann.api.create_repo(name)
    ann.api.upload_file(path_or_fileobj=content, path_in_repo=NAME, repo_id=name)
    return name


def place_of(live: Any, content: bytes) -> Path:
    sha256 = hashlib.sha256(content).hexdigest()
    path: Path = live.home.directory / "blobs" / sha256[:2] / sha256
    return path


def flip(live: Any, content: bytes, at: int = 100) -> None:
    with place_of(live, content).open("r+b") as file:
        file.seek(at)
        file.write(bytes([content[at] ^ 1]))


def shorten(live: Any, content: bytes) -> None:
    os.truncate(place_of(live, content), len(content) - 1)


def lose(live: Any, content: bytes) -> None:
    place_of(live, content).unlink()


harms = pytest.mark.parametrize("harm", [flip, shorten, lose], ids=["flipped", "short", "missing"])
Harm = Callable[[Any, bytes], None]


def url_of(live: Any, repo: str, name: str = NAME) -> str:
    return f"{live.url}/{repo}/resolve/main/{name}"


def is_marked(live: Any, content: bytes) -> bool:
    with live.home.read() as session:
        return hashlib.sha256(content).hexdigest() in damage.unhealed(session)


class TestReads:
    def test_a_flipped_bit_cuts_the_connection_before_the_last_byte(self, live: Any, repo: str, content: bytes) -> None:
        flip(live, content)
        got = b""
        with httpx2.stream("GET", url_of(live, repo)) as answer:
            assert answer.status_code == 200 and int(answer.headers["content-length"]) == len(content)
            with pytest.raises(httpx2.RemoteProtocolError, match="closed"):
                for piece in answer.iter_raw():
                    got += piece
        assert 0 < len(got) < len(content)
        assert is_marked(live, content)

    @harms
    def test_parts_and_what_is_known_are_a_5xx_that_names_the_digest(
        self, harm: Harm, live: Any, repo: str, content: bytes
    ) -> None:
        harm(live, content)
        sha256 = hashlib.sha256(content).hexdigest()
        for asked in ({"range": "bytes=0-9"}, {"range": "bytes=-5"}, {}):
            answer = httpx2.get(url_of(live, repo), headers=asked)
            assert answer.status_code == 500
            assert sha256 in answer.headers["x-error-message"] and NAME in answer.json()["error"]
            assert "mixhub db check --deep --repair" in answer.json()["remedy"]
            assert str(live.home.directory) not in answer.text
        assert is_marked(live, content)

    def test_a_small_file_never_begins(self, live: Any, ann: Any, repo: str) -> None:
        small = os.urandom(20).hex().encode()
        ann.api.upload_file(path_or_fileobj=small, path_in_repo="a.txt", repo_id=repo)
        flip(live, small, 3)
        assert httpx2.get(url_of(live, repo, "a.txt")).status_code == 500

    def test_a_stranger_does_not_learn_the_digest(self, live: Any, ann: Any, repo: str, content: bytes) -> None:
        ann.api.update_repo_settings(repo, visibility="private")
        lose(live, content)
        answer = httpx2.get(url_of(live, repo))
        assert answer.status_code == 401 and hashlib.sha256(content).hexdigest() not in str(
            (answer.headers, answer.text)
        )

    @pytest.mark.parametrize("harm", [flip, lose], ids=["flipped", "missing"])
    def test_the_client_takes_nothing_and_gets_it_right_after_an_upload(
        self, harm: Harm, live: Any, ann: Any, repo: str, content: bytes, tmp_path: Path
    ) -> None:
        harm(live, content)
        with pytest.raises(HfHubHTTPError, match=hashlib.sha256(content).hexdigest()):
            ann.api.hf_hub_download(repo, NAME, local_dir=tmp_path)
        assert not (tmp_path / NAME).exists()
        ann.api.upload_file(path_or_fileobj=content, path_in_repo=NAME, repo_id=repo)
        assert Path(ann.api.hf_hub_download(repo, NAME, local_dir=tmp_path)).read_bytes() == content

    def test_a_download_that_began_wrong_is_not_resumed(self, live: Any, ann: Any, repo: str, content: bytes) -> None:
        """A client that has the beginning asks for the rest, and would have a file of the right size, but wrong."""
        whole = httpx2.get(url_of(live, repo), headers={"range": "bytes=1000000-"})
        assert whole.status_code == 206 and whole.content == content[1_000_000:]
        flip(live, content)
        with pytest.raises(httpx2.RemoteProtocolError):
            httpx2.get(url_of(live, repo))
        ann.api.upload_file(path_or_fileobj=content, path_in_repo=NAME, repo_id=repo)
        resumed = httpx2.get(url_of(live, repo), headers={"range": "bytes=1000000-"})
        assert (resumed.status_code, resumed.headers["accept-ranges"]) == (200, "none")
        assert resumed.content == content
        first = httpx2.get(url_of(live, repo), headers={"range": "bytes=0-9"})
        assert first.status_code == 206 and first.content == content[:10]

    def test_nginx_is_not_told_to_send_it(self, serve_with: Any, content: bytes) -> None:
        live = serve_with(accel_prefix="/blobs")
        user = live.user()
        user.api.create_repo(f"{user.name}/accel")
        user.api.upload_file(path_or_fileobj=content, path_in_repo=NAME, repo_id=f"{user.name}/accel")
        url = url_of(live, f"{user.name}/accel")
        assert "x-accel-redirect" in httpx2.get(url).headers
        flip(live, content)
        answer = httpx2.get(url)
        assert answer.status_code == 500 and "x-accel-redirect" not in answer.headers
        user.api.upload_file(path_or_fileobj=content, path_in_repo=NAME, repo_id=f"{user.name}/accel")
        assert httpx2.get(url).content == content  # from the server itself, which knows that it was wrong once


class TestUploads:
    @harms
    @pytest.mark.usefixtures("mode")
    def test_the_same_upload_again_heals_and_makes_no_commit(
        self, harm: Harm, live: Any, ann: Any, repo: str, content: bytes
    ) -> None:
        head = ann.api.model_info(repo).sha
        harm(live, content)
        assert httpx2.get(url_of(live, repo), headers={"range": "bytes=0-9"}).status_code == 500
        ann.api.upload_file(path_or_fileobj=content, path_in_repo=NAME, repo_id=repo)
        assert httpx2.get(url_of(live, repo)).content == content
        assert ann.api.model_info(repo).sha == head and not is_marked(live, content)

    def test_a_file_inside_the_commit_heals_as_well(self, live: Any, ann: Any, repo: str) -> None:
        card = f"# {os.urandom(20).hex()}\n".encode()
        ann.api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=repo)
        flip(live, card, 5)
        assert httpx2.get(url_of(live, repo, "README.md")).status_code == 500
        ann.api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=repo)
        assert httpx2.get(url_of(live, repo, "README.md")).content == card

    @pytest.mark.parametrize("harm", [shorten, lose], ids=["short", "missing"])
    def test_claims_look_at_the_store_though_nobody_has_read_the_blob(
        self, harm: Harm, live: Any, ann: Any, repo: str, content: bytes
    ) -> None:
        harm(live, content)
        sha256 = hashlib.sha256(content).hexdigest()
        auth = {"authorization": f"Bearer {ann.token}"}
        asked = {"operation": "upload", "objects": [{"oid": sha256, "size": len(content)}]}
        (told,) = httpx2.post(f"{live.url}/{repo}.git/info/lfs/objects/batch", json=asked, headers=auth).json()[
            "objects"
        ]
        assert "upload" in told["actions"]
        files = {"files": [{"path": NAME, "size": len(content)}]}
        (told,) = httpx2.post(f"{live.url}/api/models/{repo}/preupload/main", json=files, headers=auth).json()["files"]
        assert "oid" not in told
        head = ann.api.model_info(repo).sha
        with claimed(content) as add, pytest.raises(BadRequestError, match="damaged here"):
            ann.api.create_commit(repo, [add], commit_message="claim")
        with pytest.raises(HfHubHTTPError, match=sha256):
            ann.api.create_commit(repo, [CommitOperationCopy(NAME, "copy.safetensors")], commit_message="copy")
        assert ann.api.model_info(repo).sha == head

    def test_a_claim_of_changed_bytes_is_refused_and_the_next_one_is_asked_for_them(
        self, live: Any, ann: Any, repo: str, content: bytes
    ) -> None:
        flip(live, content)
        sha256 = hashlib.sha256(content).hexdigest()
        with claimed(content) as add, pytest.raises(HfHubHTTPError, match=sha256):
            ann.api.create_commit(repo, [add], commit_message="claim")
        done = ann.api.upload_file(path_or_fileobj=content, path_in_repo="again.safetensors", repo_id=repo)
        assert ann.api.model_info(repo).sha == done.oid
        assert httpx2.get(url_of(live, repo, "again.safetensors")).content == content

    def test_healing_takes_no_room_of_a_namespace(self, serve_with: Any, content: bytes) -> None:
        live = serve_with(namespace_bytes=len(content) + 1000)
        user = live.user()
        user.api.create_repo(f"{user.name}/full")
        user.api.upload_file(path_or_fileobj=content, path_in_repo=NAME, repo_id=f"{user.name}/full")
        lose(live, content)
        user.api.upload_file(path_or_fileobj=content, path_in_repo=NAME, repo_id=f"{user.name}/full")
        assert httpx2.get(url_of(live, f"{user.name}/full")).content == content


@contextmanager
def claimed(content: bytes) -> Iterator[CommitOperationAdd]:
    """A file that the client believes to be uploaded already, so that only its digest is sent."""
    add = CommitOperationAdd("claimed.safetensors", content)
    add._upload_mode, add._is_uploaded, add._should_ignore, add._remote_oid = "lfs", True, False, None
    yield add
