"""A backup of a home into a folder, while it is used: a snapshot of its databases, then the blobs that it needs.

Blobs are copied after the snapshot was taken, so what was deleted since, and swept, may be gone: then another snapshot
is taken, which does not need it any more. A blob that two snapshots need and that is not there is lost. What the
folder has already is not copied again. The snapshot becomes the backup when all was read back and is right.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import Engine, make_url
from sqlalchemy.orm import Session

import migrations
from hub.errors import BackupFailed, HubError, UsageError
from hub.home import opened_database
from hub.settings import Settings
from storage import blob_records
from storage.backups import BackupFolder, Manifest, StoredDatabase, postgres, sqlite
from storage.backups.folder import entry_of
from storage.blobs import BlobStore, StoredBlob, open_blobs
from storage.cannot_store import meaning_of
from storage.clock import utc_now
from storage.database import read
from storage.errors import CannotStore, DamagedBlob, StorageError

REGISTRY = "mixhub.sqlite"
SNAPSHOTS = 5
"""At most, in one backup."""

Progress = Callable[[str, int, int], None]
"""What is being done, and how many bytes of how many."""


@dataclass(frozen=True)
class BackedUp:
    directory: Path
    manifest: Manifest
    copied: int
    """Blobs that were not there yet."""
    copied_bytes: int
    removed: int
    """Blobs of the backup before that the home does not have any more."""
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        return {
            "directory": str(self.directory),
            "made_at": self.manifest.made_at,
            "schema": self.manifest.schema,
            "databases": [database.name for database in self.manifest.databases],
            "blobs": len(self.manifest.blobs),
            "bytes": self.manifest.blob_bytes,
            "copied": self.copied,
            "copied_bytes": self.copied_bytes,
            "removed": self.removed,
            "notes": list(self.notes),
        }


@dataclass
class Copied:
    """What came of the blobs of one snapshot: sha256 -> size of what is in the folder, and why others are not."""

    there: dict[str, int] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    damaged: dict[str, str] = field(default_factory=dict)
    new: dict[str, int] = field(default_factory=dict)


def back_up(settings: Settings, directory: Path, *, on_progress: Progress = lambda *_: None) -> BackedUp:
    """Bring the backup in `directory` to what the home of `settings` holds now.

    Raises BackupFailed for blobs that the home has lost or damaged; all others are copied by then, and the backup that
    was there before still holds. BadBackup for a folder of something else, Conflict for one that is being written.
    """
    _refuse_directory(settings, directory)
    folder, source = BackupFolder(directory), open_blobs(settings.blobs)
    with opened_database(settings) as engine:
        schema = migrations.current(engine)
        if schema is None:
            raise HubError(f"{settings.directory} is empty: there is nothing to back up")
        with room_in(directory), folder.locked():
            databases, needed, copied = _settled_copy(settings, engine, source, folder, on_progress)
            check_again(source, folder.blobs, copied, on_progress)
            losses(
                {sha256: why for sha256, why in copied.damaged.items() if sha256 in needed},
                copied.missing & needed,
                what="Not all of the home could be backed up, what could be was copied",
                remedy="mixhub db check --deep",
            )
            manifest = Manifest(
                utc_now().isoformat(timespec="seconds"), version("mixhub"), engine.dialect.name, schema, databases,
                copied.there,
            )  # fmt: skip
            folder.finish(manifest)
            removed = folder.prune(manifest)
    notes = [f"left out the blob {one}, which no revision holds: {why}" for one, why in copied.damaged.items()]
    return BackedUp(directory, manifest, len(copied.new), sum(copied.new.values()), removed, tuple(notes))


def _settled_copy(
    settings: Settings, engine: Engine, source: BlobStore, folder: BackupFolder, on_progress: Progress
) -> tuple[tuple[StoredDatabase, ...], set[str], Copied]:
    """A snapshot and its blobs: the databases, which blobs revisions hold, and what came of copying all of them."""
    missing_before: set[str] = set()
    new: dict[str, int] = {}
    for _ in range(SNAPSHOTS):
        on_progress("database", 0, 0)
        databases, recorded = _snapshot(settings, engine, folder)
        needed = {blob.sha256 for blob, held in recorded if held}
        copied = _copy(source, folder, recorded, on_progress)
        new |= copied.new
        missing = copied.missing & needed
        if not missing or missing & missing_before:
            break
        missing_before = missing
    copied.new |= new
    return databases, needed, copied


def _refuse_directory(settings: Settings, directory: Path) -> None:
    target, home = directory.absolute().resolve(), settings.directory.resolve()
    if target == home or target.is_relative_to(home) or home.is_relative_to(target):
        raise UsageError(f"{directory} and the home {home} are in each other", remedy="back up to a folder elsewhere")
    url = make_url(settings.database)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise HubError(f"{settings.directory} holds no home", remedy="set MIXHUB_HOME to the home to back up")


@contextmanager
def room_in(place: Path) -> Iterator[None]:
    """A disk without room, said of the one that is written."""
    try:
        yield
    except (CannotStore, OSError, sqlite3.Error) as error:
        if not isinstance(error, CannotStore) and meaning_of(error) is None:
            raise
        raise HubError(
            f"The disk of {place} takes no more: it is full, or mounted read-only.",
            remedy="Make room, and run the command again: it goes on where it was.",
        ) from error


def _snapshot(
    settings: Settings, engine: Engine, folder: BackupFolder
) -> tuple[tuple[StoredDatabase, ...], list[tuple[StoredBlob, bool]]]:
    """Copies of all databases, and the blobs that the registry's copy records, each with whether a revision holds it.

    The registry comes last: what the others name of it is in it.
    """
    databases = []
    registry = Path(engine.url.database or "") if engine.dialect.name == "sqlite" else None
    for path in sorted(settings.directory.glob("*.sqlite")):
        if registry is None or path.resolve() != registry.resolve():
            other = sqlite.plain_engine(path)
            databases.append(_sqlite_copy(other, folder.incoming(path.name)))
            other.dispose()
    if registry is None:
        target = folder.incoming(postgres.NAME)
        with read(engine) as session:
            postgres.dump(session.connection(), target)
            recorded = blob_records.every(session)
        postgres.check(engine, target)
        return (*databases, entry_of(target)), recorded
    target = folder.incoming(REGISTRY)
    databases.append(_sqlite_copy(engine, target))
    with Session(sqlite.frozen_engine(target)) as session:
        return tuple(databases), blob_records.every(session)


def _sqlite_copy(engine: Engine, target: Path) -> StoredDatabase:
    sqlite.copy(engine, target)
    return entry_of(target)


def _copy(
    source: BlobStore, folder: BackupFolder, recorded: list[tuple[StoredBlob, bool]], on_progress: Progress
) -> Copied:
    """Bring every blob that is recorded and not there yet. Those of the right size count as there, for now."""
    copied, done, total = Copied(), 0, sum(blob.size for blob, _ in recorded)
    for blob, _ in recorded:
        on_progress("copying", done, total)
        if folder.blobs.size(blob.sha256) == blob.size:
            copied.there[blob.sha256] = blob.size
        else:
            bring(source, folder.blobs, blob.sha256, blob.size, copied)
        done += blob.size
    on_progress("copying", done, total)
    return copied


def bring(source: BlobStore, target: BlobStore, sha256: str, size: int, copied: Copied) -> None:
    """Copy one blob, whose digest is checked on the way; `copied` says what came of it."""
    try:
        target.put_stream(source.iterate(sha256), expected_sha256=sha256, expected_size=size)
    except DamagedBlob as error:
        if source.size(sha256) is None:
            copied.missing.add(sha256)
        else:
            copied.damaged[sha256] = error.reason
    except CannotStore:
        raise
    except StorageError as error:
        copied.damaged[sha256] = error.message
    except OSError as error:
        if meaning_of(error) is not None:
            raise
        copied.damaged[sha256] = f"it cannot be read: {error.strerror}"
    else:
        copied.there[sha256] = copied.new[sha256] = size


def check_again(source: BlobStore, target: BlobStore, copied: Copied, on_progress: Progress) -> None:
    """Read back all that is there. What is wrong, as an old blob of a disk that fails, is copied once more."""
    done, total = 0, sum(copied.there.values())
    for sha256, size in list(copied.there.items()):
        on_progress("verifying", done, total)
        if not is_right(target, sha256):
            del copied.there[sha256]
            target.delete(sha256)
            bring(source, target, sha256, size, copied)
            if sha256 in copied.there and not is_right(target, sha256):
                del copied.there[sha256]
                copied.damaged[sha256] = "its copy is not what was written: the disk of the copy fails"
        done += size
    on_progress("verifying", done, total)


def is_right(blobs: BlobStore, sha256: str) -> bool:
    """Whether the stored bytes have their digest."""
    found = hashlib.sha256()
    try:
        for piece in blobs.iterate(sha256):
            found.update(piece)
    except (StorageError, OSError):
        return False
    return found.hexdigest() == sha256


def losses(damaged: Mapping[str, str], missing: Iterable[str], *, what: str, remedy: str) -> None:
    """Raises BackupFailed where there is one."""
    found = {**damaged, **dict.fromkeys(missing, "its bytes are missing")}
    if found:
        listed = "; ".join(f"blob {sha256}: {why}" for sha256, why in sorted(found.items())[:5])
        more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
        raise BackupFailed(f"{what}: {listed}{more}", damaged=found, remedy=remedy)
