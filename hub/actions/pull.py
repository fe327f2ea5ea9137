"""Copy the files of a revision to a folder, byte for byte."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hub.address import Address
from hub.checkout import write_file
from hub.errors import WouldOverwrite
from hub.home import Home
from hub.locate import Pinned, locate
from storage import repos
from storage.errors import CannotStore


@dataclass(frozen=True)
class Pulled:
    directory: Path
    address: Address
    commit_id: str
    files: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        return {
            "directory": str(self.directory),
            "address": str(self.address),
            "commit": self.commit_id,
            "files": list(self.files),
        }


def pull(home: Home, address: Address, to: Path | None = None, *, force: bool = False) -> Pulled:
    """Write the addressed files to `to`, or to the current folder's `name/`.

    `WouldOverwrite` when one of them is there already and `force` is not given; then nothing has been written. Other
    files in the folder are never touched.
    """
    with home.read() as session:
        pinned = locate(session, address)
    directory = to or Path((address.folder or address.repo).rpartition("/")[2])
    targets = {_relative(pinned, file.path): file for file in pinned.own_files}
    refuse_overwriting(directory, list(targets), force=force)
    for path, file in targets.items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        write_file(home, file, target)
    with suppress(CannotStore), home.write() as session:
        repos.count_download(session, pinned.repo)
    return Pulled(directory, address, pinned.revision.commit_id, tuple(targets))


def _relative(pinned: Pinned, path: str) -> str:
    return path.removeprefix(f"{pinned.folder}/") if pinned.folder else path


def refuse_overwriting(directory: Path, paths: list[str], *, force: bool) -> None:
    """With `force` files may be overwritten, but a folder never by a file, nor a file by a folder."""
    if directory.exists() and not directory.is_dir():
        raise WouldOverwrite(f"'{directory}' is a file", remedy="give another folder")
    folder = next((path for path in paths if (directory / path).is_dir()), None)
    if folder is not None:
        raise WouldOverwrite(f"'{directory / folder}' is a folder, expected a file", remedy="give another folder")
    if force:
        return
    there = [path for path in paths if (directory / path).exists() or (directory / path).is_symlink()]
    if there:
        raise WouldOverwrite(
            f"'{directory}' already has {there[0]}" + (f" and {len(there) - 1} more" if len(there) > 1 else ""),
            remedy="give another folder, or --force to overwrite these files",
        )
