"""Asking another hub for public repos, over the Hugging Face protocol. Knows nothing of what is kept here.

Requests carry no token and no cookie, whoever asks. They go to the configured endpoint only, and for the bytes of files
also where it redirects to, if that host is listed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import httpx2

from hub.errors import RevisionNotFound, UpstreamFailed, UsageError
from hub.settings import Settings
from storage import names
from storage.errors import InvalidName
from storage.revisions import File
from storage.upstream import UpstreamRevision

HOP = "x-mixhub-upstream"
"""Marks our requests: a hub that gets one answers with what it has, so two that name each other do not ask for ever."""
MAX_INFO = 32 * 2**20
"""Bytes of an answer about a revision."""
MAX_FILES = 100_000
MAX_REDIRECTS = 5
TIMEOUT = httpx2.Timeout(20, connect=5)
"""Seconds between two pieces of an answer, and to connect."""

_SHOWN = ("tags", "cardData", "pipeline_tag", "library_name", "config", "lastModified", "createdAt", "_id")
_GIT = re.compile(r"[0-9a-f]{40}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


class NotUpstream(LookupError):
    """The upstream has no such repo that is open to everybody."""


class Upstream:
    """Safe to use from many threads. Close it at the end."""

    def __init__(self, settings: Settings) -> None:
        """UsageError for an endpoint that is no plain http(s) URL."""
        self.endpoint = settings.upstream.rstrip("/")
        parts = urlsplit(self.endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise UsageError(
                "MIXHUB_UPSTREAM is not the address of a hub",
                remedy="for example MIXHUB_UPSTREAM=https://huggingface.co",
            )
        self._scheme, self._host = parts.scheme, parts.netloc.lower()
        self._allowed = _listed(settings.upstream_allow)
        self._hosts = _listed(settings.upstream_hosts)
        no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        self._client = httpx2.Client(timeout=TIMEOUT, headers={HOP: "1", "user-agent": "mixhub"}, cookies=no_cookies)

    def close(self) -> None:
        self._client.close()

    def allows(self, full_name: str) -> bool:
        """Whether the operator has listed this repo."""
        namespace, _, name = full_name.partition("/")
        try:
            names.check_name(namespace)
            names.check_name(name)
        except InvalidName:
            return False
        return any(fnmatchcase(full_name.lower(), pattern) for pattern in self._allowed)

    def revision(self, full_name: str, name: str) -> UpstreamRevision:
        """What a branch, tag or commit is now. Raises NotUpstream, RevisionNotFound or UpstreamFailed."""
        url = f"{self.endpoint}/api/models/{full_name}/revision/{quote(name, safe='')}?blobs=true"
        with self._get(url, headers={"accept": "application/json"}, hosts=()) as answer:
            if answer.headers.get("x-error-code") == "RevisionNotFound":
                raise RevisionNotFound(f"{full_name} has no branch, tag or commit {name!r}.")
            if answer.status_code in (400, 401, 403, 404, 410):
                raise NotUpstream(full_name)
            self._require_ok(answer, full_name)
            found = _read_json(answer, full_name)
        if found.get("private") or found.get("gated") or found.get("disabled"):
            raise NotUpstream(full_name)
        if not self.allows(str(found.get("id"))):  # it was renamed to something that is not listed
            raise NotUpstream(full_name)
        return _revision(full_name, found)

    @contextmanager
    def file(self, revision: UpstreamRevision, file: File) -> Iterator[Iterator[bytes]]:
        """The bytes of one file as they arrive, unchecked. Raises UpstreamFailed, also in the middle."""
        url = f"{self.endpoint}/{revision.full_name}/resolve/{revision.commit_id}/{quote(file.path)}"
        with self._get(url, headers={"accept-encoding": "identity"}, hosts=self._hosts) as answer:
            self._require_ok(answer, f"{revision.full_name}/{file.path}")
            yield _pieces(answer)

    @contextmanager
    def _get(self, url: str, *, headers: Mapping[str, str], hosts: tuple[str, ...]) -> Iterator[httpx2.Response]:
        """An answer whose body is not read yet, after redirects on the endpoint's host and to `hosts`."""
        for _ in range(MAX_REDIRECTS):
            try:
                request = self._client.build_request("GET", url, headers=dict(headers))
                answer = self._client.send(request, stream=True, follow_redirects=False)
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                words = f"{self.endpoint} cannot be reached: {error or type(error).__name__}"
                raise UpstreamFailed(words, silent=True) from error
            try:
                if not answer.is_redirect:
                    yield answer
                    return
                url = urljoin(url, answer.headers["location"])
                self._check_redirect(url, hosts)
            finally:
                answer.close()
        raise UpstreamFailed(f"{self.endpoint} redirects too often")

    def _check_redirect(self, url: str, hosts: tuple[str, ...]) -> None:
        parts = urlsplit(url)
        own = (parts.scheme, parts.netloc.lower()) == (self._scheme, self._host)
        listed = any(fnmatchcase(parts.netloc.lower(), pattern) for pattern in hosts)  # as it stands, with any port
        if not (own or (listed and parts.scheme == "https")):
            raise UpstreamFailed(
                f"{self.endpoint} redirects to {parts.scheme}://{parts.netloc}, which is not allowed",
                remedy="list the host in MIXHUB_UPSTREAM_HOSTS if it belongs to the upstream",
            )

    def _require_ok(self, answer: httpx2.Response, what: str) -> None:
        if answer.status_code != 200:
            busy = answer.status_code == 429 or answer.status_code >= 500
            raise UpstreamFailed(f"{self.endpoint} answers {answer.status_code} when asked for {what}", silent=busy)


def _listed(words: str) -> tuple[str, ...]:
    return tuple(word.strip().lower() for word in words.split(",") if word.strip())


def _pieces(answer: httpx2.Response) -> Iterator[bytes]:
    try:
        yield from answer.iter_bytes()
    except httpx2.HTTPError as error:
        raise UpstreamFailed(f"the upstream broke off: {error or type(error).__name__}") from error


def _read_json(answer: httpx2.Response, what: str) -> dict[str, Any]:
    body = bytearray()
    for piece in _pieces(answer):
        body += piece
        if len(body) > MAX_INFO:
            raise UpstreamFailed(f"the upstream's answer about {what} is larger than {MAX_INFO} bytes")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UpstreamFailed(f"the upstream's answer about {what} is not JSON") from error
    if not isinstance(found, dict):
        raise UpstreamFailed(f"the upstream's answer about {what} is no object")
    return found


def _revision(asked: str, found: Mapping[str, Any]) -> UpstreamRevision:
    """Raises UpstreamFailed for anything that is not as the protocol says: it comes from outside."""
    commit_id, siblings = found.get("sha"), found.get("siblings")
    if not isinstance(commit_id, str) or not _GIT.fullmatch(commit_id) or not isinstance(siblings, list):
        raise UpstreamFailed(f"the upstream's answer about {asked} names no commit or no files")
    if len(siblings) > MAX_FILES:
        raise UpstreamFailed(f"{asked} has {len(siblings)} files upstream, at most {MAX_FILES} are taken")
    try:
        files = tuple(_file(one) for one in siblings)
        names.check_paths(file.path for file in files)
    except (InvalidName, KeyError, TypeError, ValueError) as error:
        raise UpstreamFailed(f"the upstream's list of the files of {asked} is malformed: {error}") from error
    return UpstreamRevision(asked, commit_id, files, {key: found[key] for key in _SHOWN if key in found})


def _file(one: Mapping[str, Any]) -> File:
    path, size, lfs = one["rfilename"], one["size"], one.get("lfs")
    digest = lfs["sha256"] if lfs else one["blobId"]
    form = _SHA256 if lfs else _GIT
    if not isinstance(path, str) or type(size) is not int or size < 0 or not form.fullmatch(digest):
        raise ValueError(f"the entry of {path!r}")
    return File(path, size, digest if lfs else "", "" if lfs else digest, "lfs" if lfs else "regular")
