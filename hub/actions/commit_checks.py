"""Looks at what a commit brings before it is stored, outside of any transaction.

The rules are in `hub.revision_content`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from compose.errors import ComposeError
from hub.access import Caller
from hub.actions.changes import Change
from hub.base_lookup import FoundBase, facts_of
from hub.home import Home
from hub.inspect_adapter import CONFIG, WEIGHTS
from hub.revision_content import (
    Content,
    FolderKey,
    adapter_folders,
    base_name_of,
    folder_key,
    inspect_folder,
    is_base_model,
    on_disk,
    refuse_bad_files,
)
from hub.seen_bases import base_named
from hub.summary import CARD, card_data
from storage import adapters, revisions
from storage.repos import Repo
from storage.revisions import File, Revision


@dataclass
class Seen:
    """What is known of the content that the changes lead to; grows when the branch has moved."""

    files: set[str] = field(default_factory=set)
    """sha256 of files that may be stored."""
    folders: dict[FolderKey, Content] = field(default_factory=dict)
    cards: dict[str, dict[str, object]] = field(default_factory=dict)
    """sha256 of a README.md -> its front matter."""
    base: dict[str, FoundBase] = field(default_factory=dict)
    """tree digest -> the base model that the tree is."""


def look(
    home: Home, caller: Caller, repo: Repo, tree: Mapping[str, File], head: Revision, changes: Sequence[Change],
    seen: Seen,
) -> None:  # fmt: skip
    """Look at everything in `tree` that is new since `head` and that nobody looked at yet. Raises what refuses it."""
    with home.read() as session:
        old = {file.path: file for file in revisions.files_of(session, head)}
        known = _known_folders(session, head, old)
    new = [f for path, f in tree.items() if (path not in old or old[path].sha256 != f.sha256)]
    refuse_bad_files(home, [file for file in new if file.sha256 not in seen.files])
    seen.files.update(file.sha256 for file in tree.values())
    brought = {getattr(change, "path", "") for change in changes}
    for folder in adapter_folders(tree):
        key = folder_key(tree, folder)
        if key in seen.folders or key in known:
            continue
        pair = {f"{folder}/{name}" if folder else name for name in (CONFIG, WEIGHTS)}
        owner = f"{repo.full_name}/{folder}" if folder else repo.full_name
        written = base_name_of(home, tree, folder)
        base = base_named(home, caller, written) if written else None
        seen.folders[key] = inspect_folder(
            home, tree, folder, owner=owner, base=base, brought_both=pair <= brought and pair <= tree.keys()
        )
    card = tree.get(CARD)
    if card is not None and card.sha256 not in seen.cards:
        with on_disk(home, [card], names={CARD: CARD}) as folder_of_card:
            seen.cards[card.sha256] = card_data(folder_of_card)
    _look_at_base(home, repo, tree, head, seen)


def _look_at_base(home: Home, repo: Repo, tree: Mapping[str, File], head: Revision, seen: Seen) -> None:
    """A base model of its own; not a readable one is no error: people push weights before the config, or shards."""
    digest = revisions.tree_digest(tree.values())
    if not is_base_model(tree) or digest in (head.tree_digest, *seen.base):
        return
    needed = [f for f in tree.values() if "/" not in f.path and f.path.endswith((".safetensors", ".json"))]
    with on_disk(home, needed, names={file.path: file.path for file in needed}) as folder:
        try:
            facts = facts_of(folder)
        except ComposeError:
            return
    seen.base[digest] = FoundBase(repo.full_name, "repo", facts, None)


def _known_folders(session: Session, head: Revision, old: Mapping[str, File]) -> set[FolderKey]:
    """The adapters of the head whose facts the new revision takes over."""
    return {folder_key(old, folder) for folder in adapters.usable_folders_of(session, head)}


def all_seen(session: Session, tree: Mapping[str, File], head: Revision, seen: Seen) -> bool:
    old = {file.path: file for file in revisions.files_of(session, head)}
    known = _known_folders(session, head, old)
    held = {file.sha256 for file in old.values()}
    card = tree.get(CARD)
    return (
        all(file.sha256 in seen.files or file.sha256 in held for file in tree.values())
        and all(key in seen.folders or key in known for key in (folder_key(tree, f) for f in adapter_folders(tree)))
        and (card is None or card.sha256 in seen.cards)
    )
