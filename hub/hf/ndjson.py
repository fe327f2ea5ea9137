"""A commit as it comes over the wire: one JSON object per line, files in base64. Read piece by piece."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterator
from typing import Any

from hub.actions.changes import Add, AddStored, Change, Copy, DeleteFile, DeleteFolder
from hub.actions.commit import Words
from hub.errors import BadUpload, TooLarge, UsageError
from storage.blobs import StoredBlob
from storage.names import check_path

MAX_CHANGES = 100_000
MAX_WORDS = 64 * 1024


def read_commit(
    pieces: Iterator[bytes], *, store: Callable[[bytes], StoredBlob], max_line: int
) -> tuple[Words, list[Change]]:
    """Title and changes, in their order. Each file's content goes to `store` at once. Raises UsageError, TooLarge."""
    words: Words | None = None
    changes: list[Change] = []
    for line in lines(pieces, max_line=max_line):
        key, value = _entry(line)
        if key == "header":
            words = _words(value)
            continue
        if words is None:
            raise UsageError("The first line of a commit must be its header")
        changes.append(_change(key, value, store))
        if len(changes) > MAX_CHANGES:
            raise TooLarge(f"A commit may change {MAX_CHANGES} files at most.")
    if words is None:
        raise UsageError("The commit has no header")
    return words, changes


def read_change(line: bytes, *, store: Callable[[bytes], StoredBlob]) -> Change:
    """One line after the header."""
    return _change(*_entry(line), store)


def lines(pieces: Iterator[bytes], *, max_line: int) -> Iterator[bytes]:
    """The lines that are not empty. Raises TooLarge before a line grows beyond `max_line` bytes."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        *ended, rest = piece.split(b"\n")
        for part in ended:
            _check_line(size + len(part), max_line)
            if line := b"".join([*waiting, part]).strip():
                yield line
            waiting, size = [], 0
        waiting.append(rest)
        size += len(rest)
        _check_line(size, max_line)
    if line := b"".join(waiting).strip():
        yield line


def _check_line(size: int, max_line: int) -> None:
    if size > max_line:
        raise TooLarge(f"A line of the commit has more than {max_line} bytes; upload the file as LFS.")


def _entry(line: bytes) -> tuple[str, dict[str, Any]]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"A line of the commit is not JSON: {line[:80]!r}") from error
    if not isinstance(entry, dict) or not isinstance(entry.get("value"), dict):
        raise UsageError(f"A line of the commit has no key and value: {line[:80]!r}")
    return str(entry.get("key")), entry["value"]


def _words(value: dict[str, Any]) -> Words:
    title, description, parent = (value.get(key) or "" for key in ("summary", "description", "parentCommit"))
    if not all(isinstance(text, str) for text in (title, description, parent)):
        raise UsageError("summary, description and parentCommit of a commit are texts")
    if len(title) + len(description) > MAX_WORDS:
        raise TooLarge(f"The message of a commit may have {MAX_WORDS} characters.")
    if parent and not (5 <= len(parent) <= 40 and set(parent) <= set("0123456789abcdef")):
        raise UsageError(f"parentCommit {parent[:80]!r} is not a commit id of 5 to 40 hex digits")
    return Words(title or "Upload", description, parent)


def _change(key: str, value: dict[str, Any], store: Callable[[bytes], StoredBlob]) -> Change:
    path = value.get("path")
    if not isinstance(path, str):
        raise UsageError(f"A {key} of the commit has no path")
    if key == "deletedFolder":
        return DeleteFolder(check_path(path.strip("/")))
    check_path(path)
    if key == "file":
        return Add(path, store(_content(path, value)))
    if key == "deletedFile":
        return DeleteFile(path)
    if key == "lfsFile":
        oid, size = value.get("oid"), value.get("size")
        if value.get("algo", "sha256") != "sha256" or not isinstance(oid, str) or len(oid) != 64:
            raise UsageError(f"{path}: an lfsFile has a sha256 as its oid")
        return AddStored(path, oid, size if isinstance(size, int) else None)
    if key == "copyFile":
        source, revision = value.get("srcPath"), value.get("srcRevision") or ""
        if not isinstance(source, str) or not isinstance(revision, str):
            raise UsageError(f"{path}: a copyFile has a srcPath")
        return Copy(path, source, revision)
    raise UsageError(f"A commit has no {key[:40]!r}")


def _content(path: str, value: dict[str, Any]) -> bytes:
    content, encoding = value.get("content"), value.get("encoding", "base64")
    if not isinstance(content, str):
        raise UsageError(f"{path}: has no content")
    if encoding == "utf-8":
        return content.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadUpload(f"{path}: the content is not base64") from error
