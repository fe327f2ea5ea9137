"""One hub as the upstream of another, both as processes of their own, with the real client; and a hostile upstream."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hub.actions import database
from hub.errors import UpstreamFailed, UsageError
from hub.settings import Settings
from hub.upstream import NotUpstream, Upstream

Start = Callable[..., Any]


@pytest.fixture
def upstream(start_server: Start, adapter: Path) -> tuple[Any, HfApi]:
    """A hub with a public repo of two versions, a private one and a gated one."""
    server = start_server()
    api = HfApi(endpoint=server.url, token=server.token)
    for name in ("open", "secret", "gated", "other"):
        api.create_repo(f"team/{name}")
        api.upload_file(path_or_fileobj=adapter / "labels.json", path_in_repo="labels.json", repo_id=f"team/{name}")
    api.upload_folder(repo_id="team/open", folder_path=adapter)
    api.create_tag("team/open", tag="v1")
    api.upload_file(path_or_fileobj=b"x" * 3_000_000, path_in_repo="model.safetensors.txt", repo_id="team/open")
    api.update_repo_settings("team/secret", visibility="private")
    api.update_repo_settings("team/gated", gated="auto")
    return server, api


def downstream(start_server: Start, upstream: Any, **more: object) -> tuple[Any, HfApi]:
    allow = more.pop("MIXHUB_UPSTREAM_ALLOW", "team/open, TEAM/secret,team/gated,none/*")
    server = start_server(
        MIXHUB_UPSTREAM=upstream.url, MIXHUB_UPSTREAM_ALLOW=allow, MIXHUB_UPSTREAM_FRESH_SECONDS=0, **more
    )  # fmt: skip
    return server, HfApi(endpoint=server.url, token=server.token)


def test_a_hub_passes_on_what_another_has_and_keeps_it(
    upstream: Any, start_server: Start, adapter: Path, tmp_path: Path, read_folder: Any
) -> None:
    there, source = upstream
    here, api = downstream(start_server, there)
    head = source.model_info("team/open").sha
    # the same answers, by name, tag and commit
    assert (
        api.model_info("team/open", files_metadata=True).siblings
        == source.model_info("team/open", files_metadata=True).siblings
    )
    assert api.list_repo_files("team/open") == source.list_repo_files("team/open")
    assert [e.path for e in api.list_repo_tree("team/open", "sub")] == ["sub/deep"]
    (info,) = api.get_paths_info("team/open", ["adapter_model.safetensors", "nothing"])
    assert info.lfs is not None and info.lfs.sha256 == sha256(adapter / "adapter_model.safetensors")
    v1 = Path(api.snapshot_download("team/open", revision="v1", local_dir=tmp_path / "v1"))
    assert read_folder(v1) == read_folder(adapter)
    main = Path(api.snapshot_download("team/open", cache_dir=tmp_path / "cache"))
    assert main.name == head and (main / "model.safetensors.txt").stat().st_size == 3_000_000
    with pytest.raises(RemoteEntryNotFoundError):
        api.hf_hub_download("team/open", "missing.txt")
    with pytest.raises(RevisionNotFoundError):
        api.model_info("team/open", revision="v9")
    # what is not open to everybody there, or not listed here, is missing here
    for name in ("team/secret", "team/gated", "team/other", "none/none"):
        assert not api.repo_exists(name)
    # never written into
    with pytest.raises(RepositoryNotFoundError):
        api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="team/open")
    # a branch is where it is upstream now
    source.upload_file(path_or_fileobj=b"new", path_in_repo="new.txt", repo_id="team/open")
    newer = source.model_info("team/open").sha
    assert api.model_info("team/open").sha == newer
    cached = Path(source.hf_hub_download("team/other", "labels.json", cache_dir=tmp_path / "cache"))
    there.end()

    # the upstream is gone: what was seen is served, also branches, and also after a restart
    here.end()
    here = start_server(
        after=here, MIXHUB_UPSTREAM=there.url, MIXHUB_UPSTREAM_ALLOW="team/*", MIXHUB_UPSTREAM_FRESH_SECONDS=0
    )  # fmt: skip
    assert api.model_info("team/open").sha == newer
    again = Path(api.snapshot_download("team/open", revision=head, local_dir=tmp_path / "again"))
    assert read_folder(again) == {**read_folder(adapter), "model.safetensors.txt": b"x" * 3_000_000}
    assert api.snapshot_download("team/open", revision="v1", local_dir=tmp_path / "v1 again")
    url = f"{here.url}/team/open/resolve/main/adapter_model.safetensors"
    whole = (adapter / "adapter_model.safetensors").read_bytes()
    assert httpx2.get(url, headers={"range": "bytes=8-19"}).content == whole[8:20]
    # what was not seen gives an error that clients take for what it is
    with pytest.raises(LocalEntryNotFoundError):
        api.hf_hub_download("team/other", "README.md")
    assert Path(api.hf_hub_download("team/other", "labels.json", cache_dir=tmp_path / "cache")) == cached
    with pytest.raises(HfHubHTTPError) as caught:
        api.model_info("team/other")
    assert caught.value.response.status_code == 424 and "upstream" in str(caught.value)
    answer = httpx2.get(f"{here.url}/team/open/resolve/main/new.txt")
    assert answer.status_code == 424 and "x-error-code" not in answer.headers

    # the cache is no garbage, and can be emptied
    check(here.home)
    assert database.collect_garbage(settings_of(here.home), hours=0) == 0
    assert httpx2.get(url).content == whole
    assert database.collect_garbage(settings_of(here.home), hours=0, with_upstream=True) > 0
    assert httpx2.get(url).status_code == 424
    check(here.home)


def check(home: Path) -> None:
    report = database.check(settings_of(home), deep=True)
    assert (report.problems, report.notes) == ((), ())


def settings_of(home: Path) -> Settings:
    return Settings(home=home, database_url="", blobs_url="")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


CONTENT = b"content of the upstream " * 1000
GIT = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()
COMMIT = "c" * 40


class Fake:
    """An upstream that answers as a test says, and remembers who asked for what."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.status, self.headers, self.body = 200, {"set-cookie": "session=secret"}, CONTENT
        self.info: dict[str, Any] = {
            "id": "org/base", "sha": COMMIT, "private": False, "gated": False,
            "siblings": [{"rfilename": "a.txt", "size": len(CONTENT), "blobId": GIT}],
        }  # fmt: skip
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake.asked.append((self.path, {key.lower(): value for key, value in self.headers.items()}))
                is_info = self.path.startswith("/api/")
                body = json.dumps(fake.info).encode() if is_info else fake.body
                self.send_response(200 if is_info else fake.status)
                for key, value in fake.headers.items():
                    self.send_header(key, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def settings(self) -> dict[str, Any]:
        return {"upstream": self.url, "upstream_allow": "org/*", "upstream_fresh_seconds": 0}


@pytest.fixture
def fake() -> Iterator[Fake]:
    made = Fake()
    yield made
    made.server.shutdown()
    made.server.server_close()


def fetch(live: Any, path: str = "org/base/resolve/main/a.txt", **headers: str) -> httpx2.Response:
    return httpx2.get(f"{live.url}/{path}", headers=headers, timeout=30)


def test_the_caller_s_token_and_cookies_stay_here(fake: Fake, serve_with: Any) -> None:
    live = serve_with(**fake.settings)
    token = live.user().token
    for _ in range(2):  # the second time with the cookie that the upstream has set, if we kept it
        answer = fetch(live, authorization=f"Bearer {token}", cookie="session=mine", referer="http://inside")
        assert answer.content == CONTENT and "set-cookie" not in answer.headers
    assert len(fake.asked) == 3  # two about main, one for the bytes
    for _, headers in fake.asked:
        assert not {"authorization", "cookie", "referer"} & headers.keys()
        assert token not in str(headers)


def test_what_is_not_listed_never_causes_a_request(fake: Fake, serve_with: Any) -> None:
    live = serve_with(**{**fake.settings, "upstream_allow": "org/base-*,other/model"})
    none_listed = serve_with(**{**fake.settings, "upstream_allow": ""})
    for one in (live, none_listed):
        for path in (
            "org/base",
            "other/modelx",
            "..%2Forg/base-x",
            "org%2Fbase-1/x",
            "org/base-x%2F..",
            "other/%2E%2E",
        ):
            assert fetch(one, f"api/models/{path}").status_code in (401, 404)
            assert fetch(one, f"{path}/resolve/main/a.txt").status_code in (401, 404)
    assert fake.asked == []
    assert fetch(live, "org/base-x/resolve/..%2F..%2Fwhoami/a.txt").status_code == 404
    assert fake.asked == []


def test_a_repo_that_is_here_is_never_looked_up_there_and_a_private_one_shows_nobody_that_it_exists(
    fake: Fake, serve_with: Any
) -> None:
    live = serve_with(**fake.settings)
    ann = live.user("org")
    ann.api.create_repo("org/base", visibility="private")
    assert ann.api.model_info("org/base").sha != COMMIT and fake.asked == []
    strangers = fetch(live, "api/models/org/base").json()  # as if there were none here
    assert strangers["sha"] == COMMIT
    ann.api.update_repo_settings("org/base", visibility="public")
    assert fetch(live, "api/models/org/base").json()["sha"] != COMMIT


@pytest.mark.parametrize("body", [CONTENT[:-1], CONTENT + b"x", CONTENT[:-1] + b"?", b""])
def test_other_bytes_than_the_listed_ones_are_not_kept_and_nobody_gets_them_for_complete(
    fake: Fake, serve_with: Any, body: bytes
) -> None:
    fake.body = body
    live = serve_with(**fake.settings)
    try:
        answer = fetch(live)
    except httpx2.TransportError:
        pass  # it broke off before the last byte
    else:
        assert answer.status_code == 424
    fake.body = CONTENT
    assert fetch(live).content == CONTENT


class TestDamagedCache:
    """What is kept of the upstream, changed or lost on our disk."""

    def spoil(self, live: Any, content: bytes) -> Path:
        sha256 = hashlib.sha256(content).hexdigest()
        path: Path = live.home.directory / "blobs" / sha256[:2] / sha256
        with path.open("r+b") as file:
            file.write(bytes([content[0] ^ 1]))
        return path

    def test_a_small_file_is_fetched_again_at_once(self, fake: Fake, serve_with: Any) -> None:
        live = serve_with(**fake.settings)
        assert fetch(live).content == CONTENT
        path = self.spoil(live, CONTENT)
        assert fetch(live).content == CONTENT and path.read_bytes() == CONTENT
        path.unlink()
        assert fetch(live, range="bytes=1-3").content == CONTENT  # from the beginning: it was wrong once
        assert path.read_bytes() == CONTENT

    def test_a_large_file_breaks_off_and_the_client_that_goes_on_gets_it_right(
        self, fake: Fake, serve_with: Any, tmp_path: Path
    ) -> None:
        fake.body = bytes(range(256)) * 12_000  # three pieces
        sha256 = hashlib.sha256(fake.body).hexdigest()
        entry = {"rfilename": "a.txt", "size": len(fake.body), "blobId": GIT, "lfs": {"sha256": sha256}}
        fake.info |= {"siblings": [entry]}
        live = serve_with(**fake.settings)
        assert fetch(live).content == fake.body
        path = self.spoil(live, fake.body)
        api = HfApi(endpoint=live.url, token=False)
        assert Path(api.hf_hub_download("org/base", "a.txt", local_dir=tmp_path)).read_bytes() == fake.body
        assert path.read_bytes() == fake.body

    def test_db_check_repairs_it_from_the_upstream(self, fake: Fake, serve_with: Any) -> None:
        live = serve_with(**fake.settings)
        assert fetch(live).content == CONTENT
        path = self.spoil(live, CONTENT)
        here = Settings(home=live.home.directory, database_url="", blobs_url="", **fake.settings)
        assert len(database.check(here, deep=True).problems) == 1
        fake.body = CONTENT[:-1] + b"?"
        assert database.check(here, repair=True).repaired == ()
        fake.body = CONTENT
        report = database.check(here, repair=True)
        assert report.repaired == (path.name,) and report.problems == () and path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/latest/meta-data", "http://127.0.0.1:1/x", "file:///etc/passwd"]
)
def test_a_redirect_to_another_host_is_not_followed(fake: Fake, serve_with: Any, target: str) -> None:
    live = serve_with(**fake.settings)
    fake.status, fake.headers = 302, {"location": target}
    answer = fetch(live)
    assert answer.status_code == 424 and "MIXHUB_UPSTREAM_HOSTS" in answer.headers["x-error-message"]


def test_another_commit_than_the_one_asked_for_is_not_passed_on(fake: Fake, serve_with: Any) -> None:
    live = serve_with(**fake.settings)
    assert fetch(live, f"api/models/org/base/revision/{'d' * 40}").status_code == 424
    assert fetch(live, f"api/models/org/base/revision/{COMMIT}").json()["sha"] == COMMIT


def test_redirects_on_the_upstream_itself_end(fake: Fake, serve_with: Any) -> None:
    live = serve_with(**fake.settings)
    fake.status, fake.headers = 302, {"location": "/org/base/resolve/main/a.txt"}
    answer = fetch(live)
    assert answer.status_code == 424 and "redirects too often" in answer.headers["x-error-message"]
    assert len(fake.asked) <= 7


@pytest.mark.parametrize(
    "change",
    [
        {"sha": "main"}, {"sha": None}, {"siblings": None}, {"siblings": ["x"]},
        {"siblings": [{"rfilename": "../x", "size": 1, "blobId": GIT}]},
        {"siblings": [{"rfilename": "x", "size": -1, "blobId": GIT}]}, {"siblings": [{"rfilename": "x"}]},
        {"siblings": [{"rfilename": "x", "size": 1, "blobId": GIT, "lfs": {"sha256": "../../x"}}]},
    ],
)  # fmt: skip
def test_malformed_answers_are_not_passed_on(fake: Fake, change: dict[str, Any]) -> None:
    fake.info |= change
    upstream = Upstream(Settings(**fake.settings))
    with pytest.raises(UpstreamFailed):
        upstream.revision("org/base", "main")
    upstream.close()


@pytest.mark.parametrize("change", [{"private": True}, {"gated": "manual"}, {"disabled": True}, {"id": "secret/base"}])
def test_what_is_not_open_to_everybody_upstream_is_not_there(fake: Fake, change: dict[str, Any]) -> None:
    fake.info |= change
    upstream = Upstream(Settings(**fake.settings))
    with pytest.raises(NotUpstream):
        upstream.revision("org/base", "main")
    upstream.close()


def test_files_beyond_the_limits_are_refused_before_a_byte_is_fetched(fake: Fake, serve_with: Any) -> None:
    for limit in ({"upstream_bytes": 1000}, {"max_file_bytes": 1000}):
        live = serve_with(**fake.settings, **limit)
        assert fetch(live).status_code == 413
    assert all(path.startswith("/api/") for path, _ in fake.asked)


def test_two_hubs_that_name_each_other_do_not_ask_for_ever(serve_with: Any, fake: Fake) -> None:
    first = serve_with(**{**fake.settings, "upstream": "http://127.0.0.1:9"})
    second = serve_with(**{**fake.settings, "upstream": first.url})
    first_again = serve_with(**{**fake.settings, "upstream": second.url})
    assert fetch(first_again, "api/models/org/base").status_code in (401, 404)


@pytest.mark.parametrize("url", ["huggingface.co", "ftp://a", "https://user:secret@a", "http://", "https://a?token=x"])
def test_an_upstream_that_is_no_plain_address_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(UsageError, match="MIXHUB_UPSTREAM") as caught:
        Upstream(Settings(upstream=url))
    assert "secret" not in str(caught.value)
