"""Digests in batches: databases limit the number of parameters of a query."""

from __future__ import annotations

from collections.abc import Iterable

BATCH = 500
"""Digests per query."""


def batches(sha256s: Iterable[str]) -> Iterable[list[str]]:
    """Each once, sorted."""
    listed = sorted(set(sha256s))
    return (listed[start : start + BATCH] for start in range(0, len(listed), BATCH))
