"""How mixed adapters were made, and the family tree that follows from it. Parents are pinned for good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage import names
from storage.errors import AlreadyExists, InvalidName
from storage.models import AccountRow, CompositionParentRow, CompositionRow, RepoRow, RevisionRow
from storage.revisions import Revision


@dataclass(frozen=True)
class Parent:
    """One adapter that went into a mix. `full_name` is how it was called then; `revision_id` pins what it was."""

    repo_id: int
    revision_id: int
    commit_id: str
    folder: str
    full_name: str
    weight: float
    weights_sha256: str
    config_sha256: str


@dataclass(frozen=True)
class Composition:
    """`parents` in the order that was written; `recipe` is the content of the file that remakes the result."""

    method: str
    params: Mapping[str, Any]
    recipe: Mapping[str, Any]
    parents: tuple[Parent, ...]


@dataclass(frozen=True)
class Ancestor:
    """`depth` 1 is a parent, 2 a grandparent; `composition` is None where the ancestor was not mixed."""

    depth: int
    parent: Parent
    composition: Composition | None


@dataclass(frozen=True)
class Child:
    """A mix that was made from the adapter, under the name that its repo has now."""

    repo_id: int
    full_name: str
    commit_id: str
    folder: str
    weight: float
    deleted: bool


@dataclass(frozen=True)
class Lineage:
    """Each ancestor once, nearest first; children newest last."""

    ancestors: tuple[Ancestor, ...]
    children: tuple[Child, ...]


def record(session: Session, revision: Revision, composition: Composition, *, folder: str = "") -> None:
    """Note how the adapter in `folder` of `revision` was made. Raises AlreadyExists or InvalidName (no parents)."""
    names.check_folder(folder)
    if not composition.parents:
        raise InvalidName("A composition needs at least one parent.")
    if composition_of(session, revision.id, folder) is not None:
        raise AlreadyExists(f"The composition of {revision.commit_id}/{folder} is recorded already.")
    row = CompositionRow(
        revision_id=revision.id, folder=folder, method=composition.method, params=dict(composition.params),
        recipe=dict(composition.recipe),
    )  # fmt: skip
    session.add(row)
    session.flush()
    for position, parent in enumerate(composition.parents):
        session.add(
            CompositionParentRow(
                composition_id=row.id, position=position, repo_id=parent.repo_id, revision_id=parent.revision_id,
                folder=parent.folder, full_name=parent.full_name, weight=parent.weight,
                weights_sha256=parent.weights_sha256, config_sha256=parent.config_sha256,
            )
        )  # fmt: skip
    session.flush()


def folders_of(session: Session, revision: Revision) -> list[str]:
    """The folders whose adapters were mixed here."""
    return sorted(session.scalars(select(CompositionRow.folder).where(CompositionRow.revision_id == revision.id)))


def composition_of(session: Session, revision_id: int, folder: str = "") -> Composition | None:
    """None: the adapter was not mixed here."""
    row = session.scalar(
        select(CompositionRow).where(CompositionRow.revision_id == revision_id, CompositionRow.folder == folder)
    )
    if row is None:
        return None
    found = session.execute(
        select(CompositionParentRow, RevisionRow.commit_id)
        .join(RevisionRow, RevisionRow.id == CompositionParentRow.revision_id)
        .where(CompositionParentRow.composition_id == row.id)
        .order_by(CompositionParentRow.position)
    )
    return Composition(row.method, row.params, row.recipe, tuple(_parent(pair[0], pair[1]) for pair in found))


def lineage(session: Session, revision: Revision, folder: str = "") -> Lineage:
    """Where the adapter comes from, all the way up, and which mixes were made from it directly."""
    return Lineage(_ancestors(session, revision.id, folder), _children(session, revision.id, folder))


def _ancestors(session: Session, revision_id: int, folder: str) -> tuple[Ancestor, ...]:
    found: dict[tuple[int, str], Ancestor] = {}
    composition = composition_of(session, revision_id, folder)
    level: Sequence[Parent] = composition.parents if composition else ()
    depth = 1
    while level:  # ends: a parent's revision is older than its mix, and each is taken once
        above: list[Parent] = []
        for parent in level:
            place = (parent.revision_id, parent.folder)
            if place in found:
                continue
            made_of = composition_of(session, *place)
            found[place] = Ancestor(depth, parent, made_of)
            above.extend(made_of.parents if made_of else ())
        level, depth = above, depth + 1
    return tuple(found.values())


def _children(session: Session, revision_id: int, folder: str) -> tuple[Child, ...]:
    found = session.execute(
        select(
            AccountRow.name, RepoRow, RevisionRow.commit_id, CompositionRow.folder, CompositionParentRow.weight,
        )
        .join(CompositionRow, CompositionRow.id == CompositionParentRow.composition_id)
        .join(RevisionRow, RevisionRow.id == CompositionRow.revision_id)
        .join(RepoRow, RepoRow.id == RevisionRow.repo_id)
        .join(AccountRow, AccountRow.id == RepoRow.account_id)
        .where(CompositionParentRow.revision_id == revision_id, CompositionParentRow.folder == folder)
        .order_by(CompositionRow.id, CompositionParentRow.position)
    )  # fmt: skip
    return tuple(
        Child(repo.id, f"{account}/{repo.name}", commit_id, in_folder, weight, repo.deleted_at is not None)
        for account, repo, commit_id, in_folder, weight in found
    )


def _parent(row: CompositionParentRow, commit_id: str) -> Parent:
    return Parent(
        row.repo_id, row.revision_id, commit_id, row.folder, row.full_name, row.weight, row.weights_sha256,
        row.config_sha256,
    )  # fmt: skip
