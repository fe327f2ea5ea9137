"""All tables. Importing this package registers every one of them on `Record.metadata`."""

from storage.models.access import AccessRequestRow, MembershipRow, RepoLikeRow, ServerKeyRow, TokenRow
from storage.models.account import AccountRow
from storage.models.adapter import AdapterRow, AdapterTagRow
from storage.models.alias import AliasEventRow, AliasRow
from storage.models.base import BaseNameRow, BaseRow
from storage.models.blob import BlobDamageRow, BlobRow, BlobScrubRow, BlobUseRow
from storage.models.composition import CompositionParentRow, CompositionRow
from storage.models.file import FileRow
from storage.models.pull_request import AliasProtectionRow, PullRequestRow, RepoRedirectRow
from storage.models.ref import RefRow, VersionTombstoneRow
from storage.models.repo import RepoRow
from storage.models.revision import RevisionRow, RevisionTagRow
from storage.models.schema import Record
from storage.models.search import SearchRow, TrialRow
from storage.models.upstream import UpstreamFileRow, UpstreamRefRow, UpstreamRevisionRow

__all__ = [
    "AccessRequestRow", "AccountRow", "AdapterRow", "AdapterTagRow", "AliasEventRow", "AliasProtectionRow", "AliasRow",
    "BaseNameRow", "BaseRow", "BlobDamageRow", "BlobRow", "BlobScrubRow", "BlobUseRow", "CompositionParentRow",
    "CompositionRow", "FileRow", "MembershipRow", "PullRequestRow", "Record", "RefRow", "RepoLikeRow",
    "RepoRedirectRow", "RepoRow", "RevisionRow", "RevisionTagRow", "SearchRow", "ServerKeyRow", "TokenRow", "TrialRow",
    "UpstreamFileRow", "UpstreamRefRow", "UpstreamRevisionRow", "VersionTombstoneRow",
]  # fmt: skip
