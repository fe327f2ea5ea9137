"""Which names are allowed. Pure functions: each returns its argument or raises `InvalidName` with the rule it breaks.

Accounts and repos follow the rule that Hugging Face clients check before they send; paths must be safe to write on any
file system; refs follow `git check-ref-format`; an alias may not be mistaken for anything else that follows an `@`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from storage.errors import InvalidName

MAX_NAME = 96
MAX_PATH = 1024
MAX_SEGMENT = 255
MAX_REF = 200
MAX_ALIAS = 64

_NAME = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_VERSION = re.compile(r"v([1-9][0-9]{0,8})", re.ASCII)
_VERSION_LIKE = re.compile(r"v[0-9]+", re.ASCII | re.IGNORECASE)
_COMMIT_LIKE = re.compile(r"[0-9a-f]{7,40}", re.ASCII)
_ALIAS = re.compile(r"[a-z0-9][a-z0-9._-]*", re.ASCII)
_REF_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]")


def check_name(name: str, *, what: str = "repo") -> str:
    """The name of an account or repo, one part of `ns/name`."""
    for broken, rule in (
        (not name or len(name) > MAX_NAME, f"it must have 1 to {MAX_NAME} characters"),
        (_NAME.fullmatch(name) is None, "only the letters a-z and A-Z, digits, '_', '-' and '.' are allowed"),
        ("--" in name or ".." in name, "'--' and '..' are not allowed"),
        (name[:1] in "-." or name[-1:] in "-.", "it may not start or end with '-' or '.'"),
        (name.lower().endswith(".git"), "it may not end with '.git'"),
    ):
        if broken:
            raise InvalidName(f"{name!r} cannot be the name of {_article(what)}: {rule}.")
    return name


def check_path(path: str) -> str:
    """The path of a file inside a revision: relative, with '/' between segments."""
    segments = path.split("/")
    for broken, rule in (
        (not path or _bytes(path) > MAX_PATH, f"it must have 1 to {MAX_PATH} bytes"),
        (any(ord(c) < 32 or ord(c) == 127 for c in path), "control characters are not allowed"),
        (any(0xD800 <= ord(c) <= 0xDFFF for c in path), "it is not valid Unicode"),
        ("\\" in path, "a backslash is not allowed"),
        (path.startswith("/"), "it must be relative"),
        (re.match(r"[A-Za-z]:", path) is not None, "a drive letter is not allowed"),
        ("" in segments, "empty segments are not allowed"),
        (any(s in (".", "..") for s in segments), "'.' and '..' are not allowed"),
        (any(s.lower() == ".git" for s in segments), "'.git' is not allowed"),
        (max(map(_bytes, segments)) > MAX_SEGMENT, f"a segment may have {MAX_SEGMENT} bytes at most"),
    ):
        if broken:
            raise InvalidName(f"{path!r} cannot be the path of a file: {rule}.")
    return path


def check_folder(folder: str) -> str:
    """The folder of an adapter inside a revision; the empty string is the root."""
    return check_path(folder) if folder else folder


def check_paths(paths: Iterable[str]) -> None:
    """All paths of one revision: each valid, none twice, none both a file and a folder."""
    seen: set[str] = set()
    for path in paths:
        check_path(path)
        if path in seen:
            raise InvalidName(f"{path!r} is listed twice in one revision.")
        seen.add(path)
    for path in seen:
        segments = path.split("/")
        for depth in range(1, len(segments)):
            if (folder := "/".join(segments[:depth])) in seen:
                raise InvalidName(f"{folder!r} is both a file and the folder of {path!r}.")


def check_ref(name: str) -> str:
    """The name of a branch or tag."""
    segments = name.split("/")
    for broken, rule in (
        (not name or len(name) > MAX_REF, f"it must have 1 to {MAX_REF} characters"),
        (_REF_FORBIDDEN.search(name) is not None, "spaces, control characters and any of ~^:?*[\\ are not allowed"),
        (any(0xD800 <= ord(c) <= 0xDFFF for c in name), "it is not valid Unicode"),
        ("" in segments, "it may not start or end with '/', nor contain '//'"),
        (".." in name or "@{" in name or name == "@", "'..', '@{' and a lone '@' are not allowed"),
        (name.startswith("-") or name.endswith("."), "it may not start with '-' or end with '.'"),
        (any(s.startswith(".") or s.endswith(".lock") for s in segments), "no part may start with '.' or end in .lock"),
        (_COMMIT_LIKE.fullmatch(name) is not None, "it looks like a commit id"),
    ):
        if broken:
            raise InvalidName(f"{name!r} cannot be the name of a branch or tag: {rule}.")
    return name


def check_alias(name: str) -> str:
    """The name of an alias such as `prod`."""
    for broken, rule in (
        (not name or len(name) > MAX_ALIAS, f"it must have 1 to {MAX_ALIAS} characters"),
        (_ALIAS.fullmatch(name) is None, "only a-z, digits, '.', '_' and '-' are allowed, a letter or digit first"),
        (name == "main", "it is the name of the main branch"),
        (_VERSION_LIKE.fullmatch(name) is not None, "it looks like a version"),
        (_COMMIT_LIKE.fullmatch(name) is not None, "it looks like a commit id"),
    ):
        if broken:
            raise InvalidName(f"{name!r} cannot be the name of an alias: {rule}.")
    return name


def check_text(text: str, *, what: str) -> str:
    """Free text that every database can keep: valid Unicode without NUL."""
    if "\0" in text or any(0xD800 <= ord(c) <= 0xDFFF for c in text):
        raise InvalidName(f"The {what} contains a NUL or invalid Unicode: {text[:80]!r}.")
    return text


def version_number(tag: str) -> int | None:
    """The number in a version tag: 3 for 'v3', None for any other tag ('v03', 'v0', 'release')."""
    match = _VERSION.fullmatch(tag)
    return int(match.group(1)) if match else None


def looks_like_commit(name: str) -> bool:
    """7 to 40 lower-case hex digits."""
    return _COMMIT_LIKE.fullmatch(name) is not None


def key(name: str) -> str:
    """What two names have in common when they differ in case only."""
    return name.lower()


def _bytes(text: str) -> int:
    """Length in UTF-8: what file systems and database indexes limit."""
    return len(text.encode("utf-8", "surrogatepass"))


def _article(what: str) -> str:
    return f"an {what}" if what[0] in "aeiou" else f"a {what}"
