"""Publish a folder: bytes first, then one transaction with revision, facts, version and, for a mix, its parents.

A crash before the transaction leaves only unused blobs, which `mixhub db gc` removes; after it everything is there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from compose.examples import Examples
from compose.peft_config import read_config
from compose.training_rows import read_training_rows
from hub.actions.binding import bind, settled
from hub.actions.last_revision import carry_facts, find_or_make, head_of, kept_files
from hub.actions.record_content import record_summary
from hub.address import Address
from hub.base_lookup import FoundBase, find_base, require_base
from hub.card_facts import UsageContract
from hub.errors import BadUpload, UsageError
from hub.home import Home
from hub.inspect_adapter import WEIGHTS, Inspected, inspect_adapter
from hub.local_files import LocalFile, collect_files
from hub.locate import ADAPTER_CONFIG
from hub.summary import card_data
from hub.training_overlap import with_training_rows
from storage import (
    accounts,
    adapters,
    bases,
    blob_records,
    compositions,
    names,
    repos,
    revisions,
    summaries,
    versions,
)  # fmt: skip
from storage.blobs import StoredBlob
from storage.compositions import Composition
from storage.errors import NotFound, VersionTaken
from storage.repos import Repo
from storage.revisions import File, Revision

REGULAR_UP_TO = 10 * 2**20
"""Text files up to this many bytes are `regular` for Hugging Face clients; weights and larger files are `lfs`."""
LFS_SUFFIXES = frozenset({".safetensors", ".gguf", ".npz", ".npy", ".msgpack", ".onnx", ".zip", ".gz", ".model"})


@dataclass(frozen=True)
class PublishOptions:
    """What may be said when publishing, besides where and what."""

    base: str = ""
    """The base model to bind the adapters to; empty: as their config says."""
    version: str = ""
    """Empty: the next one."""
    message: str = ""
    contract: UsageContract | None = None
    replace_all: bool = False
    """Nothing of the last revision stays."""


@dataclass(frozen=True)
class Published:
    address: Address
    """With the version as its revision, or the commit where there is no version."""
    commit_id: str
    version: str
    created: bool
    """False: the content was there already, so no revision was made."""
    versioned: bool
    """A version was given: for a new revision, or for one that had none."""
    adapters: tuple[str, ...]
    """The folders that hold adapters; the empty string is the root."""
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        return {
            "address": str(self.address),
            "commit": self.commit_id,
            "version": self.version,
            "created": self.created,
            "versioned": self.versioned,
            "adapters": list(self.adapters),
            "notes": list(self.notes),
        }


def publish(
    home: Home,
    directory: Path,
    address: Address,
    *,
    base: str | FoundBase | None = "",
    version: str = "",
    message: str = "",
    exclude: Sequence[str] = (),
    contract: UsageContract | None = None,
    composition: Composition | None = None,
    replace_all: bool = False,
    training_data: Examples | None = None,
) -> Published:
    """Publish the files of `directory` as a revision of `address` and move `main`.

    With a folder in the address only that folder of the repo changes; without one, adapters in folders of their own
    stay unless `directory` brings their folder, or `replace_all` is given. `base` binds the adapters to a base model;
    "" leaves it to the name in adapter_config.json, if that is known here; None leaves them unbound. `training_data`
    are the rows that the adapter was trained on; only their digests are published. Errors: malformed adapters, pickles,
    a version that is or was other content; then nothing of the repo has changed.
    """
    check_target(address)
    version_number(version)
    found = collect_files(directory, into=address.folder, exclude=exclude)
    if not brings_something(found, address.folder) and (replace_all or not _keeps_an_adapter(home, address, found)):
        raise nothing_to_publish(address)
    given_base = require_base(home, base) if isinstance(base, str) and base else base
    with tempfile.TemporaryDirectory(prefix="mixhub-") as scratch:
        if training_data is not None:
            found = with_training_rows(found, training_data, into=address.folder, scratch=Path(scratch))
        return publish_files(
            home, directory, found, address,
            base=None if isinstance(given_base, str) else given_base,
            options=PublishOptions(version=version, message=message, contract=contract, replace_all=replace_all),
            look_up=(lambda name: find_base(home, name)) if given_base == "" else None,
            store=lambda file: home.blobs.put_file(file.source),
            composition=composition,
        )  # fmt: skip


def publish_files(
    home: Home,
    directory: Path,
    found: Sequence[LocalFile],
    address: Address,
    *,
    base: FoundBase | None,
    options: PublishOptions,
    look_up: Callable[[str], FoundBase | None] | None,
    store: Callable[[LocalFile], StoredBlob],
    composition: Composition | None = None,
) -> Published:
    """As `publish`, for files of `directory` that somebody else has chosen, and stores in the blobs.

    Where there is no `base`, `look_up` finds the one that an adapter's config names; None leaves adapters unbound.
    """
    number = version_number(options.version)
    names.check_paths(file.path for file in found)
    given = options.contract or UsageContract()
    inspected = _inspect(address, found, base, look_up, given)
    own_base = None if inspected else _own_base(home, directory, address)
    blobs = [store(file) for file in found]
    files = [as_file(local, blob) for local, blob in zip(found, blobs, strict=True)]
    card = None if address.folder else card_data(directory)
    upload = _Upload(
        address, tuple(files), tuple(blobs), inspected, own_base, given, composition, options.replace_all, card
    )
    with home.write() as session:
        return _commit(session, home, upload, number=number, message=options.message)


def check_target(address: Address) -> None:
    """`UsageError` for an address that nothing can be published at."""
    if address.revision:
        raise UsageError(f"'{address}' names a revision; publishing makes one", remedy="see --version")


def brings_something(found: Sequence[LocalFile], folder: str) -> bool:
    """Whether the files hold an adapter in any folder, or what may be a base model at the top, which is `folder`."""
    model = f"{folder}/config.json" if folder else "config.json"
    return any(file.source.name == ADAPTER_CONFIG or file.path == model for file in found)


def nothing_to_publish(address: Address) -> BadUpload:
    """For a folder that makes nothing usable of its repo: more often a wrong folder than a wish."""
    return BadUpload(
        f"what would be published at {address} holds neither an adapter ({ADAPTER_CONFIG} and {WEIGHTS}, at "
        "its top or in folders below) nor a base model (config.json and *.safetensors)",
        remedy="give the folder of an adapter or a base model; anything else goes to a server by hf upload",
    )


def _keeps_an_adapter(home: Home, address: Address, found: Sequence[LocalFile]) -> bool:
    """Whether adapters of the last revision stay beside these files, such as a new card of their repo."""
    with home.read() as session:
        try:
            head = revisions.resolve(session, repos.find(session, address.namespace, address.repo))
        except NotFound:
            return False
        kept = kept_files(session, head, [file.path for file in found], address.folder)
        return any(Path(file.path).name == ADAPTER_CONFIG for file in kept)


@dataclass(frozen=True)
class _Upload:
    """A folder that was checked and whose bytes are stored: what one transaction makes a revision of."""

    address: Address
    files: tuple[File, ...]
    blobs: tuple[StoredBlob, ...]
    inspected: tuple[Inspected, ...]
    own_base: FoundBase | None
    """Set when the folder is a base model itself."""
    given: UsageContract
    """What options said, as against the card."""
    composition: Composition | None
    replace_all: bool
    """Nothing of the last revision stays."""
    card: Mapping[str, Any] | None
    """Front matter of the repo's README.md; None: the folder has none to do with the repo's."""


def _inspect(
    address: Address,
    files: Sequence[LocalFile],
    given_base: FoundBase | None,
    look_up: Callable[[str], FoundBase | None] | None,
    contract: UsageContract,
) -> tuple[Inspected, ...]:
    """Every adapter among the files. Nothing is stored yet."""
    inspected = []
    sources = {file.source for file in files}
    for file in files:
        if Path(file.path).name != ADAPTER_CONFIG:
            continue
        folder = Path(file.path).parent.as_posix()
        place = Address(address.namespace, address.repo, "" if folder == "." else folder)
        directory = file.source.parent
        if (directory / WEIGHTS).is_file() and directory / WEIGHTS not in sources:
            raise BadUpload(
                f"{place} would be an adapter without its {WEIGHTS}", remedy=f"exclude its {ADAPTER_CONFIG} as well"
            )
        base = given_base
        if base is None and look_up and (written := read_config(file.source, owner=str(place)).base_model):
            base = look_up(written)
        read_training_rows(directory, owner=str(place))  # refused now rather than when somebody searches with it
        inspected.append(inspect_adapter(directory, folder=place.folder, name=str(place), base=base, given=contract))
    return tuple(inspected)


def _own_base(home: Home, directory: Path, address: Address) -> FoundBase | None:
    """A base model folder; the repo's address becomes one of its names."""
    if not (directory / "config.json").is_file() or not any(directory.glob("*.safetensors")):
        return None
    return replace(require_base(home, str(directory.resolve())), name=address.adapter_id, kind="repo")


def as_file(local: LocalFile, blob: StoredBlob) -> File:
    large = blob.size > REGULAR_UP_TO or local.source.suffix.lower() in LFS_SUFFIXES
    return File(local.path, blob.size, blob.sha256, blob.git_sha1, "lfs" if large else "regular")


def _commit(session: Session, home: Home, upload: _Upload, *, number: int | None, message: str) -> Published:
    address = upload.address
    owner = accounts.ensure(session, home.account)
    accounts.ensure(session, address.namespace, kind="org", owner=owner)
    blob_records.require_bytes(session, home.blobs, upload.blobs)
    blob_records.record(session, owner, upload.blobs)
    repo = find_or_make(session, address)
    head = head_of(session, repo)
    kept = [] if upload.replace_all else kept_files(session, head, [file.path for file in upload.files], address.folder)
    title = message.splitlines()[0] if message else f"Publish {address.adapter_id}"
    made = revisions.create_revision(
        session, repo, [*kept, *upload.files], parent=head.commit_id if head else None, author=home.account,
        title=title, message=message,
    )  # fmt: skip
    if upload.own_base is not None:
        base = upload.own_base.record(session)
        bases.add_name(session, base, f"{address.adapter_id}@{made.revision.commit_id}", kind="repo")
    for one in upload.inspected:
        facts = replace(one.facts, base_identity=bind(session, one))
        known = None if made.created else adapters.facts_of(session, made.revision, facts.folder)
        adapters.record_facts(session, made.revision, settled(known, facts, address=address, given=upload.given))
    if made.created:
        carry_facts(session, head, made.revision, {one.facts.folder for one in upload.inspected}, kept)
        if upload.composition is not None:
            compositions.record(session, made.revision, upload.composition, folder=address.folder)
    _summarise(session, head, made.revision, upload)
    had = {v.name for v in versions.every(session, repo)}
    version = _give_version(session, repo, made.revision, number, created=made.created)
    return Published(
        address=address.at(version or made.revision.commit_id),
        commit_id=made.revision.commit_id,
        version=version,
        created=made.created,
        versioned=version not in had,
        adapters=tuple(one.facts.folder for one in upload.inspected),
        notes=(*_nothing_found(upload), *(note for one in upload.inspected for note in one.notes)),
    )


def _summarise(session: Session, head: Revision | None, made: Revision, upload: _Upload) -> None:
    """What listings show: the new card, or for a folder of the repo the card that the repo has."""
    card = upload.card
    if card is None:
        card = summaries.card_of(session, head.id) if head is not None else None
    record_summary(session, made, card=card or {})


def _nothing_found(upload: _Upload) -> list[str]:
    if upload.inspected or upload.own_base is not None:
        return []
    return [f"{upload.address} holds neither an adapter ({ADAPTER_CONFIG}) nor a base model; it cannot be mixed"]


def _give_version(session: Session, repo: Repo, revision: Revision, number: int | None, *, created: bool) -> str:
    """The version of this revision: the one it has, the one asked for, or the next one."""
    have = [] if created else [v for v in versions.every(session, repo) if v.commit_id == revision.commit_id]
    if have and number in (None, *(v.number for v in have)):
        return have[-1].name if number is None else f"v{number}"
    if have:
        raise UsageError(
            f"this content is {repo.full_name}@{have[-1].name} already; unchanged content gets no second version",
            remedy=f"leave out --version, or name it otherwise: mixhub promote {repo.full_name}@{have[-1].name} ALIAS",
        )
    try:
        return versions.give(session, repo, revision, number=number).name
    except VersionTaken as error:
        error.remedy = error.remedy or "leave out --version to get the next one"
        raise


def version_number(version: str) -> int | None:
    """The number of `v7`, or None where none is asked for. Raises UsageError."""
    if not version:
        return None
    number = names.version_number(version if version.startswith("v") else f"v{version}")
    if number is None:
        raise UsageError(f"'{version}' is not a version", remedy="versions are v1, v2, v3 ...")
    return number
