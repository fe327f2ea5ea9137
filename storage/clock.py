"""The time, in UTC, as the database keeps it (microseconds). Every function that records a time takes `now` as well."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    return datetime.now(UTC)
