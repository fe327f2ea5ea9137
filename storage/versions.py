"""Versions: tags v1, v2 ... that never move, and whose names never come to mean other content.

A version may be deleted unless an alias or a mix pins its revision; the deletion is recorded (`tombstones`), and only
the same content may have that version again, also after the repo was deleted and made again under its name.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from storage import names, pins, refs, repos, revisions, tombstones
from storage.errors import Conflict, InvalidName, NotFound, PinnedRevision, VersionTaken
from storage.repos import Repo
from storage.revisions import Revision


@dataclass(frozen=True)
class Version:
    number: int
    revision_id: int
    commit_id: str
    given_at: datetime

    @property
    def name(self) -> str:
        return f"v{self.number}"


def every(session: Session, repo: Repo) -> list[Version]:
    """The live versions, lowest first."""
    found = [
        Version(number, ref.revision_id, ref.commit_id, ref.updated_at)
        for ref in refs.every(session, repo, kind="tag")
        if (number := names.version_number(ref.name)) is not None
    ]
    return sorted(found, key=lambda version: version.number)


def of_revisions(session: Session, revision_ids: Collection[int]) -> dict[int, list[Version]]:
    """Revision id -> the live versions that it is, lowest first; many revisions in one query."""
    found: dict[int, list[Version]] = {}
    for ref in refs.tags_on(session, revision_ids):
        if (number := names.version_number(ref.name)) is not None:
            version = Version(number, ref.revision_id, ref.commit_id, ref.updated_at)
            found.setdefault(ref.revision_id, []).append(version)
    return {head: sorted(given, key=lambda version: version.number) for head, given in found.items()}


def next_version(session: Session, repo: Repo) -> int:
    """One more than the highest version that ever was under this name."""
    live = [version.number for version in every(session, repo)]
    gone = [t.number for t in tombstones.of(session, account_id=repo.account_id, repo_name=repo.name)]
    return max([0, *live, *gone]) + 1


def give(
    session: Session, repo: Repo, revision: Revision, *, number: int | None = None, message: str | None = None,
    now: datetime | None = None,
) -> Version:  # fmt: skip
    """Make `revision` version `number`, or the next one. Giving it again to the same content changes nothing.

    Raises VersionTaken if the version is, or once was, other content; Conflict for a broken revision.
    """
    repos.lock(session, repo)
    if revision.state == "broken":
        raise Conflict(
            f"{repo.full_name}@{revision.commit_id[:7]} cannot be a version, it is broken: {revision.reason}",
            remedy="Repair it with another commit.",
        )
    number = next_version(session, repo) if number is None else number
    name = f"v{number}"
    if names.version_number(name) is None:
        raise InvalidName(f"{name!r} cannot be a version: v1, v2, v3 ... are.")
    if (there := refs.find(session, repo, name)) is not None:
        held = revisions.by_id(session, there.revision_id)
        if held.tree_digest != revision.tree_digest:
            raise VersionTaken(
                f"{repo.full_name}@{name} is {held.commit_id} already; a version never moves.",
                expected=held.tree_digest,
                found=revision.tree_digest,
                remedy="Use the next free version (leave out --version).",
            )
        return Version(number, there.revision_id, there.commit_id, there.updated_at)
    tombstones.check_version(session, repo, number=number, tree_digest=revision.tree_digest)
    ref = refs.add(session, repo, "tag", name, revision_id=revision.id, message=message, now=now)
    return Version(number, ref.revision_id, ref.commit_id, ref.updated_at)


def delete(session: Session, repo: Repo, number: int, *, actor: str, now: datetime | None = None) -> None:
    """Take the version away and record that. Raises NotFound, or PinnedRevision naming the aliases and mixes."""
    repos.lock(session, repo)
    name = f"v{number}"
    ref = refs.find(session, repo, name)
    if ref is None or ref.kind != "tag":
        raise NotFound(
            f"{repo.full_name} has no version {name}.", remedy=f"`mixhub show {repo.full_name}` lists its versions."
        )
    if pinned_by := pins.of(session, ref.revision_id):
        raise PinnedRevision(
            f"{repo.full_name}@{name} cannot be deleted: {', '.join(pinned_by)} needs it.",
            pins=pinned_by,
            remedy="Promote another version to the alias first; a mix pins its parents for good.",
        )
    digest = revisions.by_id(session, ref.revision_id).tree_digest
    refs.remove(session, repo, "tag", name)
    tombstones.bury(
        session, repo, number=number, tree_digest=digest, cause="version deleted", actor=actor, now=now
    )  # fmt: skip
