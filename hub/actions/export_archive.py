"""An export as one file, to be sent to whoever asked a server for it."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from hub.actions.export import export
from hub.address import Address
from hub.home import Home
from storage import repos
from storage.errors import CannotStore


def write_archive(
    home: Home, address: Address, into: Path, *, form: str, profile: str, dtype: str, max_rank: int | None
) -> Path:
    """Write the adapter at `address` as plain LoRA to an archive in `into`, and count it as a download.

    `form` is "tar" or "zip". The caller has made sure that whoever asks may read the files.
    """
    name = (address.folder or address.repo).rpartition("/")[2]
    export(home, address, into / "files" / name, profile=profile, dtype=dtype, max_rank=max_rank)
    archive = shutil.make_archive(str(into / name), form, root_dir=into / "files")
    shutil.rmtree(into / "files")
    with suppress(CannotStore), home.write() as session:
        repos.count_download(session, repos.find(session, address.namespace, address.repo))
    return Path(archive)
