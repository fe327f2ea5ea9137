"""What a finished backup holds: its databases and its blobs with their digests, and what made it when."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from storage.errors import BadBackup

FORMAT = 1


@dataclass(frozen=True)
class StoredDatabase:
    """A file of the folder: a copy of an SQLite database, or what pg_dump wrote."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    made_at: str
    """UTC, ISO 8601."""
    made_by: str
    """The release of mixhub."""
    dialect: str
    """Of the registry: "sqlite" or "postgresql"."""
    schema: str
    """The migration that it is at."""
    databases: tuple[StoredDatabase, ...]
    """The registry is the last one."""
    blobs: Mapping[str, int]
    """sha256 -> size in bytes."""

    @property
    def blob_bytes(self) -> int:
        return sum(self.blobs.values())

    def as_text(self) -> str:
        return json.dumps(
            {
                "format": FORMAT,
                "made_at": self.made_at,
                "made_by": self.made_by,
                "dialect": self.dialect,
                "schema": self.schema,
                "databases": [vars(database) for database in self.databases],
                "counts": {"blobs": len(self.blobs), "bytes": self.blob_bytes},
                "blobs": dict(sorted(self.blobs.items())),
            },
            indent=1,
        )


def read_manifest(text: str, *, where: str) -> Manifest:
    """Raises BadBackup for what is none, or one of a later release."""
    try:
        found: Any = json.loads(text)
        if found["format"] != FORMAT:
            raise BadBackup(
                f"{where} was made by mixhub {found.get('made_by')}, in a form that this release does not know.",
                remedy="Use that release, or a later one.",
            )
        manifest = Manifest(
            str(found["made_at"]), str(found["made_by"]), str(found["dialect"]), str(found["schema"]),
            tuple(StoredDatabase(str(d["name"]), int(d["size"]), str(d["sha256"])) for d in found["databases"]),
            {str(sha256): int(size) for sha256, size in found["blobs"].items()},
        )  # fmt: skip
        counts = (len(manifest.blobs), manifest.blob_bytes)
        if not manifest.databases or counts != (found["counts"]["blobs"], found["counts"]["bytes"]):
            raise ValueError("it names other blobs than it counts")
        if any("/" in database.name or database.name.startswith(".") for database in manifest.databases):
            raise ValueError("a database has a path for a name")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadBackup(f"{where} is damaged: {error}", remedy="Make the backup again, or use another one.") from error
    return manifest
