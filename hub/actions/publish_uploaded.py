"""Publish files that a caller of a server has uploaded: the same rules, facts and version as for a folder here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hub.access import Caller
from hub.actions import changes as change_rules
from hub.actions import uploads
from hub.actions.changes import Add, AddStored
from hub.actions.commit import usable, writable_repo
from hub.actions.publish import Published, PublishOptions, check_target, publish_files
from hub.address import Address
from hub.base_lookup import FoundBase
from hub.errors import UnknownBase, UsageError
from hub.home import Home
from hub.local_files import LocalFile
from hub.revision_content import on_disk, refuse_bad_files
from hub.seen_bases import base_named
from storage.blobs import StoredBlob
from storage.revisions import File


def publish_uploaded(
    home: Home, caller: Caller, address: Address, files: Sequence[Add | AddStored], options: PublishOptions
) -> Published:
    """Publish `files`, whose paths are those in the repo, at an `address` whose repo exists; see `publish`.

    `options.base` is a base model that this server knows and the caller may see. Raises RepoNotFound, NotAllowed, and
    what `publish` raises.
    """
    check_target(address)
    if not files:
        raise UsageError("there are no files to publish")
    with home.read() as session:
        repo = writable_repo(session, caller, address.namespace, address.repo)
        stored = usable(session, caller, repo, [file.sha256 for file in files if isinstance(file, AddStored)])
    stored = uploads.at_hand(home, stored)
    address = replace(address, namespace=repo.account, repo=repo.name)
    outside = next((f.path for f in files if address.folder and not f.path.startswith(f"{address.folder}/")), None)
    if outside is not None:
        raise UsageError(f"{outside} is not in the folder {address.folder} that is published")
    tree = change_rules.apply([], files, stored=stored, file_at=_no_file)
    refuse_bad_files(home, tree.values())
    base = _base(home, caller, options.base)
    inside = {path: path.removeprefix(f"{address.folder}/") for path in tree}
    blobs = {path: StoredBlob(file.sha256, file.size, file.git_sha1) for path, file in tree.items()}
    with on_disk(home, tree.values(), names=inside) as folder:
        return publish_files(
            replace(home, account=caller.name),
            folder,
            [LocalFile(path, folder / inside[path], tree[path].size) for path in sorted(tree)],
            address,
            base=base,
            options=options,
            look_up=lambda name: base_named(home, caller, name),
            store=lambda file: blobs[file.path],
        )


def _base(home: Home, caller: Caller, name: str) -> FoundBase | None:
    """None: as adapter_config.json says."""
    found = base_named(home, caller, name) if name else None
    if name and found is None:
        raise UnknownBase(
            f"this server knows no base model '{name}'", remedy="publish it first: mixhub publish DIR ns/base"
        )
    return found


def _no_file(_revision: str, path: str) -> File:  # there are no copies among uploaded files
    raise AssertionError(path)
