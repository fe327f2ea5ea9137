"""From a name or path to a base model: which identity it is, and where its files are on this machine.

A name is looked up as a base repo in this home, a local path, a name that this home knows already, and the Hugging Face
cache, in that order. Nothing is downloaded.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from compose.base_model import fingerprint, tensors_digest
from compose.errors import ComposeError
from hub.address import parse_address
from hub.errors import UnknownBase, UsageError
from hub.home import Home
from hub.locate import locate
from storage import bases
from storage.bases import Base, BaseFacts
from storage.errors import Conflict, NotFound

READ_WHOLE_UP_TO = 512 * 2**20
"""Bytes of weights that are read whole to tell bases apart; of larger ones SAMPLE bytes of each tensor are."""
SAMPLE = 64 * 2**10


@dataclass(frozen=True)
class FoundBase:
    """A base by its identity. `directory` is None where only the identity is known here, not the files."""

    name: str
    kind: str
    facts: BaseFacts
    directory: Path | None

    def files(self) -> Path:
        """The folder; `UnknownBase` where the files are not here."""
        if self.directory is None:
            raise UnknownBase(
                f"the files of the base model {self.name} are not on this machine", remedy="--base FOLDER"
            )
        return self.directory

    def record(self, session: Session) -> Base:
        """The base's row, with this name among its names."""
        row = bases.ensure_base(session, self.facts, name=self.name)
        return bases.add_name(session, row, self.name, kind=self.kind)

    def identity(self, home: Home) -> str | None:
        """The identity under which it is recorded in this home; None: it is not."""
        with home.read() as session:
            known = bases.match(session, self.facts, name=self.name)
        return None if known is None else known.identity


def find_base(home: Home, name: str) -> FoundBase | None:
    """The base that `name` means here; None when nothing is found. Errors: a folder that is not a readable base."""
    in_home = base_repo(home, name)
    if in_home is not None:
        return _from_folder(in_home, name, "repo")
    path = Path(name).expanduser()
    if (path / "config.json").is_file():
        return _from_folder(path, str(path.resolve()), "path")
    with home.read() as session:
        known = bases.find_base(session, name)
    if known is not None:
        return _known(home, known, name)
    cached = _in_hugging_face_cache(name)
    return None if cached is None else _from_folder(cached, name, "hub")


def require_base(home: Home, name: str) -> FoundBase:
    """As `find_base`; `UnknownBase` says where it was looked for."""
    found = find_base(home, name)
    if found is None:
        raise UnknownBase(
            f"the base model '{name}' is not a repo of this home, a folder, a known name, or in the Hugging Face cache",
            remedy="give the folder with its config.json and *.safetensors, or publish it: mixhub publish DIR ns/base",
        )
    return found


def _from_folder(folder: Path, name: str, kind: str) -> FoundBase:
    return FoundBase(name, kind, facts_of(folder), folder)


def facts_of(folder: Path) -> BaseFacts:
    """What identifies the base model in `folder`. Errors: `ComposeError` where it is not a readable one."""
    headers = fingerprint(folder)
    large = sum(f.stat().st_size for f in folder.glob("*.safetensors")) > READ_WHOLE_UP_TO
    values = tensors_digest(folder, per_tensor=SAMPLE if large else None)
    return BaseFacts(headers.digest, headers.architecture, headers.shapes, headers.parameter_count, values)


def base_repo(home: Home, name: str) -> Path | None:
    """The folder of a base model that is published in this home under `name`."""
    try:
        address = parse_address(name)
        with home.read() as session:
            pinned = locate(session, address)
    except (UsageError, NotFound, Conflict):
        return None
    is_base = pinned.file("config.json") and any(f.path.endswith(".safetensors") for f in pinned.own_files)
    return pinned.directory(home) if is_base else None


def _known(home: Home, known: Base, name: str) -> FoundBase:
    """A recorded base, with a folder if one of its names leads to files that still are that base."""
    for other in known.names:
        folder = {
            "repo": lambda n: base_repo(home, n),
            "path": lambda n: Path(n) if (Path(n) / "config.json").is_file() else None,
            "hub": _in_hugging_face_cache,
        }.get(other.kind, lambda _: None)(other.name)
        if folder is not None and _holds(folder, known):
            return FoundBase(name, "hub", known.facts, folder)
    return FoundBase(name, "hub", known.facts, None)


def _holds(folder: Path, known: Base) -> bool:
    """The folder's files are still this base, not another model that was saved there since."""
    try:
        return same_model(_from_folder(folder, "", "path").facts, known.facts)
    except ComposeError:
        return False


def same_model(one: BaseFacts, other: BaseFacts) -> bool:
    """Equal architecture and shapes, and equal values where both were read."""
    values = {one.tensors_digest, other.tensors_digest} - {None}
    return one.digest == other.digest and len(values) < 2


def _in_hugging_face_cache(name: str) -> Path | None:
    if name.count("/") > 1 or name.startswith((".", "/", os.sep)):
        return None
    from huggingface_hub import snapshot_download  # slow to import, and only needed when nothing else was found
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError, OSError, ValueError):
        return None
    return folder if (folder / "config.json").is_file() else None
