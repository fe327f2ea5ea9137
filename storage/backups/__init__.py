"""Backups: a folder in the shape of a home, `mixhub.sqlite` and `blobs/ab/<sha256>`, and `backup.json`, which says so.

The manifest is written last. Where it is not there, or a file is not the one that it names, the folder is no backup.
"""

from __future__ import annotations

from storage.backups.folder import BLOBS, BackupFolder
from storage.backups.manifest import Manifest, StoredDatabase

__all__ = ["BLOBS", "BackupFolder", "Manifest", "StoredDatabase"]
