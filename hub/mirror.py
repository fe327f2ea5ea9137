"""Public repos of an upstream as if they were here: looked up there, kept here by commit, read only.

What was seen once is served also when the upstream is gone: commits for ever, branches as they were last seen. Nothing
of it becomes anybody's: no commit goes into it, and knowing a digest of it gives no right to the bytes.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from hub.download import Download
from hub.errors import RevisionNotFound, TooLarge, UpstreamFailed
from hub.home import Home
from hub.settings import Settings
from hub.upstream import NotUpstream, Upstream
from storage import blob_records, damage, names, upstream
from storage.clock import utc_now
from storage.errors import CannotStore, InvalidName
from storage.revisions import File
from storage.upstream import UpstreamRevision

MAX_AT_ONCE = 8
"""Questions to the upstream, and downloads from it."""
PAUSE = 15
"""Seconds in which an upstream that did not answer is not asked again."""
REMEMBERED = 60
"""Seconds in which what it does not have is not asked for again."""
FIRST_BYTES = 30
"""Seconds to wait for a download to begin."""


@dataclass(frozen=True)
class Kept:
    """A blob with a file of the upstream. One that is not `sound` is to be fetched again."""

    sha256: str
    sound: bool
    ever_damaged: bool


class Mirror:
    """Safe to use from many threads. Close it at the end."""

    def __init__(self, settings: Settings, home: Home, scratch: Path) -> None:
        self._settings, self._home, self._scratch = settings, home, scratch
        self._upstream = Upstream(settings)
        self._asking = threading.BoundedSemaphore(MAX_AT_ONCE)
        self._lock = threading.Lock()
        self._downloads: dict[tuple[str, str], Download] = {}
        self._absent: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._silent_until = 0.0

    def close(self) -> None:
        for download in list(self._downloads.values()):
            download.stop()
        self._upstream.close()

    def allows(self, full_name: str) -> bool:
        return self._upstream.allows(full_name)

    def find(self, full_name: str, name: str) -> UpstreamRevision | None:
        """What `name` (a branch, tag or commit) is. None: no such repo, or not one that is open to everybody.

        Raises RevisionNotFound, or UpstreamFailed where the upstream is needed and does not answer.
        """
        exact = len(name) == 40 and names.looks_like_commit(name)
        if not exact:
            _check_ref(full_name, name)
        with self._home.read() as session:
            if exact:
                known, fresh = upstream.at_commit(session, full_name, name), True
            else:
                seen = upstream.last_seen(session, full_name, name)
                known = seen.revision if seen else None
                limit = timedelta(seconds=self._settings.upstream_fresh_seconds)
                fresh = seen is not None and utc_now() - seen.at < limit
        if known is not None and fresh:
            return known
        try:
            with self._question():
                found = self._ask(full_name, name)
        except UpstreamFailed:
            if known is None:
                raise
            return known
        if found is not None and exact and found.commit_id != name:
            raise UpstreamFailed(f"asked for the commit {name} of {full_name}, the upstream answers {found.commit_id}")
        if found is not None:
            with suppress(CannotStore), self._home.write() as session:
                upstream.record(session, found, name=None if exact else name)
        return found

    def kept(self, revision: UpstreamRevision, file: File) -> Kept | None:
        """What was fetched of this file before."""
        with self._home.read() as session:
            sha256 = upstream.kept(session, revision.full_name, file)
            if sha256 is None:
                return None
            damaged, ever = damage.found(session, [sha256]), damage.ever(session, sha256)
        return Kept(sha256, sound=not damaged and self._home.blobs.has(sha256, file.size), ever_damaged=ever)

    def fetch(self, revision: UpstreamRevision, file: File) -> Download:
        """A download of this file that has begun: one for all who ask. Raises TooLarge or UpstreamFailed."""
        key = (names.key(revision.full_name), upstream.digest_of(file))
        with self._lock:
            self._downloads = {k: d for k, d in self._downloads.items() if d.running}
            download = self._downloads.get(key)
            if download is None:
                self._check_room(file)
                download = self._downloads[key] = self._start(revision, file)
        if not download.began.wait(FIRST_BYTES):
            raise UpstreamFailed(f"the upstream does not begin to send {file.path}")
        if download.error is not None:
            self._note(download.error)
            raise download.error
        return download

    def _start(self, revision: UpstreamRevision, file: File) -> Download:
        if len(self._downloads) >= MAX_AT_ONCE:
            raise UpstreamFailed(f"{MAX_AT_ONCE} files are being fetched from the upstream; try again later")
        if time.monotonic() < self._silent_until:
            raise UpstreamFailed(f"the upstream does not answer, and {file.path} is not kept here")

        def store(pieces: Iterator[bytes]) -> None:
            blob = self._home.blobs.put_stream(
                pieces, expected_sha256=file.sha256 or None, expected_size=file.size
            )  # fmt: skip
            with self._home.write() as session:
                blob_records.require_bytes(session, self._home.blobs, [blob])
                upstream.keep(session, revision.full_name, file, blob)

        return Download(file, self._scratch, lambda: self._upstream.file(revision, file), store)

    def _check_room(self, file: File) -> None:
        limit = self._settings.max_file_bytes
        if file.size > limit:
            raise TooLarge(f"{file.path} has {file.size} bytes; at most {limit} are fetched from the upstream.")
        with self._home.read() as session:
            kept = upstream.kept_bytes(session)
        if kept + file.size > self._settings.upstream_bytes:
            raise TooLarge(
                f"{kept} bytes of the upstream are kept here; {file.size} more do not fit.",
                remedy="Raise MIXHUB_UPSTREAM_BYTES, or empty the cache: mixhub db gc --upstream",
            )

    def _ask(self, full_name: str, name: str) -> UpstreamRevision | None:
        key = (names.key(full_name), name)
        if self._absent.get(key, 0) > time.monotonic():
            return None
        try:
            return self._upstream.revision(full_name, name)
        except NotUpstream:
            with self._lock:
                self._absent[key] = time.monotonic() + REMEMBERED
                while len(self._absent) > 10_000:
                    self._absent.popitem(last=False)
            return None

    @contextmanager
    def _question(self) -> Iterator[None]:
        """A place among those who ask; none while the upstream is silent, so that nobody waits for it in vain."""
        if time.monotonic() < self._silent_until:
            raise UpstreamFailed("the upstream does not answer, and this is not kept here")
        if not self._asking.acquire(timeout=1):
            raise UpstreamFailed("the upstream is slow and too many ask it; try again later")
        try:
            yield
        except UpstreamFailed as error:
            self._note(error)
            raise
        finally:
            self._asking.release()

    def _note(self, error: Exception) -> None:
        if isinstance(error, UpstreamFailed) and error.silent:
            self._silent_until = time.monotonic() + PAUSE


def _check_ref(full_name: str, name: str) -> None:
    try:
        names.check_ref(name.removeprefix("refs/"))
    except InvalidName:
        raise RevisionNotFound(f"{full_name} has no branch, tag or commit {name[:80]!r}.") from None
