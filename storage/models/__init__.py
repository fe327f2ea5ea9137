"""All tables. Importing this package registers every one of them on `Record.metadata`."""

from storage.models.account import AccountRow
from storage.models.adapter import AdapterRow, AdapterTagRow
from storage.models.alias import AliasEventRow, AliasRow
from storage.models.base import BaseNameRow, BaseRow
from storage.models.blob import BlobRow, BlobUseRow
from storage.models.composition import CompositionParentRow, CompositionRow
from storage.models.file import FileRow
from storage.models.ref import RefRow, VersionTombstoneRow
from storage.models.repo import RepoRow
from storage.models.revision import RevisionRow
from storage.models.schema import Record
from storage.models.search import SearchRow, TrialRow

__all__ = [
    "AccountRow", "AdapterRow", "AdapterTagRow", "AliasEventRow", "AliasRow", "BaseNameRow", "BaseRow", "BlobRow",
    "BlobUseRow", "CompositionParentRow", "CompositionRow", "FileRow", "Record", "RefRow", "RepoRow", "RevisionRow",
    "SearchRow", "TrialRow", "VersionTombstoneRow",
]  # fmt: skip
