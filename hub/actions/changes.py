"""The changes of a commit, applied to the files of a revision: plain data in, plain data out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from hub.errors import EntryNotFound, UsageError
from storage import names
from storage.blobs import StoredBlob
from storage.revisions import File


@dataclass(frozen=True)
class Add:
    """Content that came with the commit and is stored by now."""

    path: str
    blob: StoredBlob


@dataclass(frozen=True)
class AddStored:
    """Content that was uploaded before, or lies in a repo that the caller reads. `size` None: not said."""

    path: str
    sha256: str
    size: int | None = None


@dataclass(frozen=True)
class DeleteFile:
    path: str


@dataclass(frozen=True)
class DeleteFolder:
    path: str


@dataclass(frozen=True)
class Copy:
    """A file of any revision of the same repo; `revision` empty: of the one that is changed."""

    path: str
    source: str
    revision: str = ""


Change = Add | AddStored | DeleteFile | DeleteFolder | Copy


def apply(
    files: Iterable[File],
    changes: Iterable[Change],
    *,
    stored: Mapping[str, StoredBlob],
    file_at: Callable[[str, str], File],
) -> dict[str, File]:
    """path -> file after all changes, in their order. `stored`: the blobs that are here for the caller to use.

    `file_at(revision, path)` finds what a Copy names. Raises EntryNotFound, UsageError or InvalidName.
    """
    tree = {file.path: file for file in files}
    for change in changes:
        if isinstance(change, DeleteFolder):
            _delete_folder(tree, change.path.strip("/"))
        elif isinstance(change, DeleteFile):
            if tree.pop(change.path, None) is None:
                raise EntryNotFound(f"A file with this name doesn't exist: {change.path}")
        else:
            names.check_path(change.path)
            tree[change.path] = _new_file(change, stored, file_at)
    names.check_paths(tree)
    return tree


def _delete_folder(tree: dict[str, File], folder: str) -> None:
    inside = [path for path in tree if path.startswith(f"{folder}/")]
    if not inside:
        raise EntryNotFound(f"A folder with this name doesn't exist: {folder}")
    for path in inside:
        del tree[path]


def _new_file(
    change: Add | AddStored | Copy, stored: Mapping[str, StoredBlob], file_at: Callable[[str, str], File]
) -> File:
    if isinstance(change, Copy):
        source = file_at(change.revision, change.source)
        return File(change.path, source.size, source.sha256, source.git_sha1, source.upload_mode)
    if isinstance(change, Add):
        return File(change.path, change.blob.size, change.blob.sha256, change.blob.git_sha1, "regular")
    blob = stored.get(change.sha256)
    if blob is None:
        raise UsageError(
            f"The content of {change.path} (sha256 {change.sha256}) was not uploaded by you, or is damaged here",
            remedy="upload the file again",
        )
    if change.size not in (None, blob.size):
        raise UsageError(f"{change.path} is said to have {change.size} bytes, its content has {blob.size}")
    return File(change.path, blob.size, blob.sha256, blob.git_sha1, "lfs")
