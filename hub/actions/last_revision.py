"""What a new revision has of the last one: the repo, the files that stay, and the facts of adapters that stay."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from hub.address import Address
from hub.locate import ADAPTER_CONFIG
from storage import adapters, compositions, repos, revisions
from storage.errors import NotFound
from storage.repos import Repo
from storage.revisions import File, Revision


def find_or_make(session: Session, address: Address) -> Repo:
    """The repo at `address`, made if it is new."""
    try:
        return repos.find(session, address.namespace, address.repo)
    except NotFound:
        # private: without a server that means nothing, and a server must not show what nobody has made public
        return repos.create(session, address.namespace, address.repo, visibility="private")


def head_of(session: Session, repo: Repo) -> Revision | None:
    """Where `main` stands; the repo is locked, so that it stands there until the transaction ends."""
    repos.lock(session, repo)
    try:
        return revisions.resolve(session, repo)
    except NotFound:
        return None


def kept_files(session: Session, head: Revision | None, paths: Sequence[str], folder: str) -> list[File]:
    """What stays of the last revision beside new files at `paths`: all outside `folder`; for the root, the other
    adapters' own folders."""
    if head is None:
        return []
    new = set(paths)
    old = [file for file in revisions.files_of(session, head) if file.path not in new]
    if folder:
        return [file for file in old if not file.path.startswith(f"{folder}/")]
    brought = {path.rpartition("/")[0] for path in new}
    others = [other for other in adapters.folders_of(session, head) if other and other not in brought]
    return [file for file in old if any(file.path.startswith(f"{other}/") for other in others)]


def carry_facts(
    session: Session, head: Revision | None, new: Revision, inspected: set[str], kept: Sequence[File]
) -> None:
    """Facts and lineage of the adapters whose folders were kept are those of the new revision too."""
    if head is None:
        return
    paths = {file.path for file in kept}
    for folder in adapters.folders_of(session, head):
        if folder in inspected or (f"{folder}/{ADAPTER_CONFIG}" if folder else ADAPTER_CONFIG) not in paths:
            continue
        facts = adapters.facts_of(session, head, folder)
        if facts is not None:
            adapters.record_facts(session, new, facts)
        made_of = compositions.composition_of(session, head.id, folder)
        if made_of is not None:
            compositions.record(session, new, made_of, folder=folder)
