"""A home of this machine's own that holds what was needed from one server so far, by commit.

Whatever works on the tensors of adapters (searching, exporting) works on it as on any home; what is here already is not
fetched again. It is a cache, but for the searches and their trials, which are kept in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from compose.description import describe
from hub.actions.publish import as_file
from hub.actions.show import Shown
from hub.address import Address, parse_address
from hub.base_lookup import FoundBase
from hub.card_facts import UsageContract
from hub.checkout import path_of as path_of_blob
from hub.errors import UsageError
from hub.home import Home
from hub.inspect_adapter import Inspected, inspect_adapter
from hub.local_files import LocalFile
from hub.locate import ADAPTER_CONFIG, locate
from hub.remote import answers
from hub.remote.connection import Connection, path_of
from hub.remote.download import fetched, paths_of
from hub.settings import Settings
from storage import accounts, adapters, bases, blob_records, mirrored, repos, revisions
from storage.adapters import AdapterFacts
from storage.bases import BaseFacts, BaseName
from storage.errors import DamagedBlob, NotFound
from storage.mirrored import Origin

BASE = "a base model"
"""What the facts of an address say that it holds."""


def mirror_settings(settings: Settings) -> Settings:
    """The home beside the ordinary one that is the mirror of the server."""
    parts = urlsplit(settings.url.rstrip("/"))
    name = f"{parts.hostname}-{hashlib.sha256(parts.geturl().encode()).hexdigest()[:12]}"
    return settings.model_copy(
        update={"home": settings.directory / "remotes" / name, "database_url": "", "blobs_url": "", "url": ""}
    )


class Mirror:
    """`home` is an opened home with the settings of `mirror_settings`."""

    def __init__(self, server: Connection, home: Home) -> None:
        self._server, self.home = server, home

    def bring(self, addresses: Sequence[Address]) -> list[Address]:
        """The same adapters under their commits, each with its files and facts here."""
        return [self._bring_adapter(address) for address in addresses]

    def bring_base_of(self, pinned: Sequence[Address], given: str) -> None:
        """The files of the base model: the `given` one, where that is an address there, or the one that the adapters
        are bound to, where the server has it. Others are found, or missed, as in any home."""
        if given:
            self._bring_base(given)
            return
        facts = [self._facts(address) for address in pinned]
        for identity in sorted({one.base_identity for one in facts if one is not None and one.base_identity}):
            with self.home.read() as session:
                base = bases.find_base(session, identity)
            there = [name.name for name in base.names if name.kind == "repo"] if base else []
            # a name with its commit means this base for ever
            any(self._bring_base(name) for name in sorted(there, key=lambda name: "@" not in name))

    def needs_base(self, pinned: Address) -> bool:
        """Whether an adapter that was brought cannot be read, or not in full, without its base."""
        facts = describe(self.directory_of(pinned), name=str(pinned))
        return bool(facts.needs_base or facts.extras)

    def _revision(self, address: Address) -> revisions.Revision:
        with self.home.read() as session:
            repo = repos.find(session, address.namespace, address.repo)
            return revisions.resolve(session, repo, address.revision)

    def _show(self, address: Address) -> Shown:
        where = path_of("adapters", address)
        return answers.shown(self._server.ask("GET", where, revision=address.revision, folder=address.folder))

    def _bring_adapter(self, address: Address) -> Address:
        shown = self._show(address)
        if "holds" in shown.facts:
            where = f"; its adapters are in: {shown.facts['adapters']}" if shown.facts.get("adapters") else ""
            raise NotFound(f"{address} holds no adapter ({ADAPTER_CONFIG}){where}", remedy=f"mixhub show {address}")
        pinned = address.at(shown.commit_id)
        known = self._facts(pinned) if self._is_sound(pinned) else None
        identity = str(shown.facts.get("base identity") or "")
        if known is not None and (known.base_identity or "") == identity:
            return pinned
        base, names = self._base_facts(identity)
        if known is not None:  # it was bound since, or its base has come to be ours to know
            inspected = _inspect(self.directory_of(pinned), address, shown, base)
            self._store(pinned, self.home.directory, [], shown, inspected=inspected, base_names=names)
            return pinned
        paths = paths_of(self._server, pinned, shown.commit_id, recursive=False)
        with fetched(self._server, pinned, shown.commit_id, paths, beside=self.home.directory) as folder:
            inspected = _inspect(folder / pinned.folder, address, shown, base)
            self._store(pinned, folder, paths, shown, inspected=inspected, base_names=names)
        return pinned

    def _facts(self, pinned: Address) -> AdapterFacts | None:
        """None: it was not brought yet."""
        try:
            revision = self._revision(pinned)
        except NotFound:
            return None
        with self.home.read() as session:
            return adapters.facts_of(session, revision, pinned.folder)

    def _is_sound(self, pinned: Address) -> bool:
        """Whether what was brought can be read. What cannot is brought again, and replaced by that."""
        try:
            self.directory_of(pinned)
        except (NotFound, DamagedBlob):
            return False
        return True

    def directory_of(self, pinned: Address) -> Path:
        """Where the files of what was brought lie."""
        with self.home.read() as session:
            found = locate(session, pinned)
        return found.directory(self.home)

    def _base_facts(self, identity: str) -> tuple[FoundBase | None, list[BaseName]]:
        """What the server tells of a base; nothing where it is none of ours to know."""
        if not identity:
            return None, []
        try:
            told = self._server.ask("GET", f"/bases/{identity}")
        except NotFound:
            return None, []
        facts = BaseFacts(
            told["digest"], told["architecture"], {name: tuple(sizes) for name, sizes in told["shapes"].items()},
            told["parameter_count"], told["tensors_digest"],
        )  # fmt: skip
        names = [BaseName(one["name"], one["kind"]) for one in told["names"]]
        first = names[0] if names else BaseName(identity, "hub")
        return FoundBase(first.name, first.kind, facts, None), names

    def _bring_base(self, name: str) -> bool:
        """Fetch the base model at an address of the server. False for other names, which this machine knows or not."""
        if (Path(name).expanduser() / "config.json").is_file():
            return False
        try:
            address = parse_address(name)
            shown = self._show(address)
        except (UsageError, LookupError):
            return False
        if shown.facts.get("holds") != BASE:
            return False
        pinned = address.at(shown.commit_id)
        paths = paths_of(self._server, pinned, shown.commit_id, recursive=False)
        try:
            revision = self._revision(pinned)
            with self.home.read() as session:
                there = revisions.files_of(session, revision)
            missing = set(paths) - {file.path for file in there if self._is_right(file)}
        except NotFound:
            missing = set(paths)
        with fetched(self._server, pinned, shown.commit_id, sorted(missing), beside=self.home.directory) as folder:
            self._store(pinned, folder, sorted(missing), shown, is_main=not address.revision)
        return True

    def _is_right(self, file: revisions.File) -> bool:
        try:
            path_of_blob(self.home, file)
        except DamagedBlob:
            return False
        return True

    def _store(
        self, pinned: Address, folder: Path, paths: Sequence[str], shown: Shown, *,
        inspected: Inspected | None = None, base_names: Sequence[BaseName] = (), is_main: bool = False,
    ) -> None:  # fmt: skip
        """Bytes first, then one transaction."""
        blobs = [self.home.blobs.put_file(folder / path) for path in paths]
        files = [
            as_file(LocalFile(path, folder / path, blob.size), blob) for path, blob in zip(paths, blobs, strict=True)
        ]
        state, _, reason = str(shown.facts.get("state") or "ok").partition(": ")
        origin = Origin(pinned.revision, str(shown.facts.get("message") or ""), state, reason or None)
        with self.home.write() as session:
            owner = accounts.ensure(session, self.home.account)
            accounts.ensure(session, pinned.namespace, kind="org", owner=owner)
            blob_records.require_bytes(session, self.home.blobs, blobs)
            blob_records.record(session, owner, blobs)
            try:
                repo = repos.find(session, pinned.namespace, pinned.repo)
            except NotFound:
                repo = repos.create(session, pinned.namespace, pinned.repo, visibility="private")
            revision = mirrored.add(session, repo, origin, files)
            if is_main:
                mirrored.point_main(session, repo, revision)
            if inspected is not None:
                identity = None
                if inspected.base is not None:
                    row = inspected.base.record(session)
                    identity = row.identity
                    for name in base_names:
                        if name.kind == "repo" or bases.find_base(session, name.name) is None:
                            bases.add_name(session, row, name.name, kind=name.kind)
                adapters.record_facts(session, revision, replace(inspected.facts, base_identity=identity))


def _inspect(directory: Path, address: Address, shown: Shown, base: FoundBase | None) -> Inspected:
    if shown.facts.get("state"):  # broken, the server says; there may be nothing to read
        refusal = str(shown.facts["state"])
        return Inspected(AdapterFacts(folder=address.folder, usable=False, refusal=refusal), None, ())
    return inspect_adapter(directory, folder=address.folder, name=str(address), base=base, given=UsageContract())
