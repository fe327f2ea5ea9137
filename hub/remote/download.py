"""Files of a revision from a server, by huggingface_hub, into a folder of this machine."""

from __future__ import annotations

import glob
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hub.actions.pull import Pulled, refuse_overwriting
from hub.address import Address
from hub.remote import answers
from hub.remote.connection import Connection, path_of


def pull(server: Connection, address: Address, to: Path | None, *, force: bool) -> Pulled:
    """As the action of the same name: nothing is written where a file is there already and `force` is not given."""
    shown = answers.shown(
        server.ask("GET", path_of("adapters", address), revision=address.revision, folder=address.folder)
    )
    directory = to or Path((address.folder or address.repo).rpartition("/")[2])
    paths = paths_of(server, address, shown.commit_id, recursive=True)
    inside = {path: path.removeprefix(f"{address.folder}/") if address.folder else path for path in paths}
    refuse_overwriting(directory, list(inside.values()), force=force)
    directory.mkdir(parents=True, exist_ok=True)
    with fetched(server, address, shown.commit_id, paths, beside=directory) as folder:
        for path, relative in inside.items():
            target = directory / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            (folder / path).chmod(0o644)
            (folder / path).replace(target)
    return Pulled(directory, address, shown.commit_id, tuple(inside.values()))


def paths_of(server: Connection, address: Address, commit_id: str, *, recursive: bool) -> list[str]:
    """The paths in the repo of the files in the addressed folder, sorted; `recursive`: and below."""
    from huggingface_hub import RepoFile

    with server.hugging_face() as api:
        found = api.list_repo_tree(
            address.repo_id, address.folder or None, revision=commit_id, recursive=recursive
        )  # fmt: skip
        return sorted(entry.path for entry in found if isinstance(entry, RepoFile))


@contextmanager
def fetched(
    server: Connection, address: Address, commit_id: str, paths: list[str], *, beside: Path
) -> Iterator[Path]:  # fmt: skip
    """A folder with these files of the revision, on the disk of `beside`, until the end of the block."""
    scratch = Path(tempfile.mkdtemp(prefix=".mixhub-", dir=beside))
    try:
        if paths:
            with server.hugging_face() as api:
                api.snapshot_download(
                    address.repo_id, revision=commit_id, local_dir=scratch, allow_patterns=[*map(glob.escape, paths)]
                )
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
