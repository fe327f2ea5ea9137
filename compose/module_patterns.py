"""The keys of rank_pattern and alpha_pattern: regular expressions from anybody's config, matched in bounded time.

PEFT 0.21 (utils/other.py, get_pattern_key) takes the first key for which `re.match(rf"(.*\\.)?({key})$", path)` holds.
Python's own matcher can take exponential time on such keys, and stops the whole process meanwhile. So only keys of
letters, digits, dots and the like go to it; all others go to RE2, which matches in time linear in key and path, and
which knows no look-ahead and no back-reference.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Any

import re2

from .errors import MalformedAdapter

MAX_LENGTH = 1000
MAX_KEYS = 5000
MAX_PLAIN = 5_000_000
"""Plain keys times modules; a pair takes about half a microsecond."""
MAX_STEPS = 1_000_000_000
"""States of the other keys times characters of the paths; a step takes up to 4 nanoseconds."""

_PLAIN = re.compile(r"(?:[\w.^$-]|\\\.)*", re.ASCII)
_REMEDY = "use full module paths as keys"


def check_keys(keys: Collection[str], where: str) -> None:
    """MalformedAdapter for keys that are no regular expressions or that could be costly; `where` begins the message."""
    if len(keys) > MAX_KEYS:
        raise MalformedAdapter(f"{where} has {len(keys)} keys, at most {MAX_KEYS} are read", remedy=_REMEDY)
    for key in keys:
        if len(key) > MAX_LENGTH:
            raise MalformedAdapter(
                f"{where} has the key {key[:200]!r}, which is too costly to match: {len(key)} characters",
                remedy=_REMEDY,
            )
        try:
            re.compile(_whole(key))
        except (re.error, OverflowError, RecursionError) as error:
            raise MalformedAdapter(f"{where} has the key {key!r}, which is no regular expression: {error}") from error
        try:
            _compiled(key)
        except re2.error as error:
            raise MalformedAdapter(
                f"{where} has the key {key[:200]!r}, which is too costly to match: {_words(error)}", remedy=_REMEDY
            ) from error


def check_work(keys: Iterable[str], paths: Collection[str], where: str) -> None:
    """MalformedAdapter where trying every key on every path would take more than a few seconds."""
    steps = [None if _PLAIN.fullmatch(key) else _compiled(key).programsize for key in keys]
    plain = sum(step is None for step in steps) * len(paths)
    other = sum(step or 0 for step in steps) * sum(map(len, paths))
    if plain > MAX_PLAIN or other > MAX_STEPS:
        raise MalformedAdapter(
            f"{where}: its {len(steps)} keys are too costly to match with {len(paths)} modules",
            remedy="use fewer keys, or full module paths",
        )


def first_match(keys: Iterable[str], path: str) -> str | None:
    """The key that holds for the module at `path`."""
    return next((key for key in keys if _compiled(key).fullmatch(path)), None)


def _whole(key: str) -> str:
    return rf"(?:.*\.)?(?:{key})"


@lru_cache(maxsize=2 * MAX_KEYS)
def _compiled(key: str) -> Any:
    """Either engine's pattern; both have `fullmatch`, and RE2's has `programsize`."""
    if _PLAIN.fullmatch(key):
        return re.compile(_whole(key))
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = 1 << 18  # of one key: counted repetitions multiply its states
    return re2.compile(_whole(key), options)


def _words(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
