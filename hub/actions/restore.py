"""A home made from a backup, as it was: blobs first, databases last, each byte checked.

Until all is there a marker in the home's folder keeps every other command and the server out; run again, it goes on.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, make_url

import migrations
from hub import half_home
from hub.actions.backup import Copied, Progress, bring, check_again, losses, room_in
from hub.errors import HubError, UsageError
from hub.settings import Settings
from storage import blob_records
from storage.backups import BackupFolder, Manifest, postgres
from storage.backups.folder import digest
from storage.blobs import BlobStore, open_blobs
from storage.check import check as check_storage
from storage.database import open_database, read
from storage.errors import SchemaOutdated


@dataclass(frozen=True)
class Restored:
    directory: Path
    manifest: Manifest

    def as_dict(self) -> dict[str, object]:
        return {
            "home": str(self.directory),
            "made_at": self.manifest.made_at,
            "schema": self.manifest.schema,
            "databases": [database.name for database in self.manifest.databases],
            "blobs": len(self.manifest.blobs),
            "bytes": self.manifest.blob_bytes,
        }


def restore(settings: Settings, directory: Path, *, on_progress: Progress = lambda *_: None) -> Restored:
    """Make the home of `settings`, which does not exist or is empty, from the backup in `directory`.

    Raises BadBackup for what is no finished backup, BackupFailed for blobs of it that are damaged (the others are
    restored by then, and the home stays closed), UsageError for a home that holds something.
    """
    folder = BackupFolder(directory)
    manifest = folder.read()
    if manifest.schema > migrations.HEAD:
        raise SchemaOutdated(
            f"The backup is at schema {manifest.schema}, this program knows {migrations.HEAD}.",
            remedy="Upgrade mixhub: a newer one has made it.",
        )
    on_progress("databases", 0, 0)
    sources = [folder.database(entry) for entry in manifest.databases]
    with room_in(settings.directory):
        engine = open_database(settings.database)
        try:
            _begin(settings, engine, manifest, directory)
            _restore_blobs(folder, open_blobs(settings.blobs), manifest, on_progress)
            on_progress("databases", 0, 0)
            for entry, source in zip(manifest.databases, sources, strict=True):
                _restore_database(settings, engine, manifest, source, entry.name, entry.sha256)
            _check(engine, open_blobs(settings.blobs), manifest)
        finally:
            engine.dispose()
        half_home.unmark(settings.directory)
    return Restored(settings.directory, manifest)


def _begin(settings: Settings, engine: Engine, manifest: Manifest, backup: Path) -> None:
    """Refuse a home that is one already, and close the new one to everybody else."""
    home = settings.directory
    if engine.dialect.name != manifest.dialect:
        raise UsageError(
            f"The backup holds a database of {manifest.dialect}, this home has one of {engine.dialect.name}",
            remedy="set MIXHUB_DATABASE_URL to one of the same kind",
        )
    if half_home.is_marked(home):
        return
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise UsageError(
            f"{home} is not empty, and a backup is restored into a new home",
            remedy="set MIXHUB_HOME to a folder that does not exist or is empty",
        )
    path = _registry(settings)
    if path is not None and path.exists():
        raise UsageError(f"{path} exists", remedy="restore to another MIXHUB_DATABASE_URL")
    if path is None and not postgres.is_empty(engine):
        raise UsageError(
            "The database of MIXHUB_DATABASE_URL holds tables, and a backup is restored into an empty one",
            remedy="make one: createdb NAME",
        )
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    half_home.mark(home, backup)


def _restore_blobs(folder: BackupFolder, target: BlobStore, manifest: Manifest, on_progress: Progress) -> None:
    copied, done, total = Copied(), 0, manifest.blob_bytes
    for leftover in target.leftovers():
        target.delete_leftover(leftover.name)
    for sha256, size in manifest.blobs.items():
        on_progress("copying", done, total)
        if target.size(sha256) == size:
            copied.there[sha256] = size
        else:
            bring(folder.blobs, target, sha256, size, copied)
        done += size
    check_again(folder.blobs, target, copied, on_progress)
    losses(
        copied.damaged, copied.missing, what="The backup is damaged, and the home is not complete",
        remedy="put right bytes into the backup's blobs/ (their names are their sha256), and run it again",
    )  # fmt: skip


def _restore_database(
    settings: Settings, engine: Engine, manifest: Manifest, source: Path, name: str, sha256: str
) -> None:
    if name == postgres.NAME:
        if postgres.is_empty(engine):
            postgres.load(engine, source)
        return
    registry = name == manifest.databases[-1].name
    target = _registry(settings) if registry else settings.directory / name
    assert target is not None
    target.parent.mkdir(parents=True, exist_ok=True)
    half = target.with_name(f"{target.name}.restoring")
    half.unlink(missing_ok=True)
    half.touch(mode=0o600)
    with source.open("rb") as read_from, half.open("wb") as written:
        shutil.copyfileobj(read_from, written, 1 << 20)
        written.flush()
        os.fsync(written.fileno())
    if digest(half) != sha256:
        raise HubError(f"{half} is not what was read from {source}", remedy="run it again, and see to the disk")
    half.replace(target)
    half_home.sync_folder(target.parent)


def _check(engine: Engine, blobs: BlobStore, manifest: Manifest) -> None:
    """The rows that are there now are those that the blobs were copied for, and all of it fits together."""
    with read(engine) as session:
        recorded = {blob.sha256: held for blob, held in blob_records.every(session)}
    absent = [sha256 for sha256, held in recorded.items() if held and sha256 not in manifest.blobs]
    if absent or not manifest.blobs.keys() <= recorded.keys():
        raise HubError(
            "The restored database is not the one of this backup",
            remedy="empty the database and the home, and restore again",
        )
    if migrations.current(engine) != migrations.HEAD:
        return  # its tables are those of an earlier release, until `mixhub db upgrade`
    problems = [one for one in check_storage(engine, blobs) if one.severity == "problem"]
    if problems:
        listed = "; ".join(f"{one.subject}: {one.message}" for one in problems[:5])
        raise HubError(f"The restored home is not consistent: {listed}", remedy="restore another backup")


def _registry(settings: Settings) -> Path | None:
    """The file of the home's database; None: it is no file."""
    url = make_url(settings.database)
    return Path(url.database or "").absolute() if url.get_backend_name() == "sqlite" else None
