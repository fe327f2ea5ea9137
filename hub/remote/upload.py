"""Publishing a folder on a server: large files by huggingface_hub, then one request that makes a version of them."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compose.description import describe
from compose.examples import Examples
from hub.actions.publish import (
    Published,
    PublishOptions,
    brings_something,
    check_target,
    nothing_to_publish,
    version_number,
)
from hub.actions.uploads import upload_mode
from hub.address import Address
from hub.errors import HubError, UsageError
from hub.inspect_adapter import CONFIG, WEIGHTS
from hub.local_files import LocalFile, collect_files
from hub.remote import answers
from hub.remote.connection import Connection, path_of
from hub.training_overlap import with_training_rows
from storage import names
from storage.errors import StorageError

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd

SAMPLE = 512
"""Bytes that tell text from binary, as huggingface_hub sends them."""


def publish(
    server: Connection,
    directory: Path,
    address: Address,
    options: PublishOptions,
    *,
    exclude: Sequence[str] = (),
    training_data: Examples | None = None,
) -> Published:
    """Publish the files of `directory`. A new repo is private, and is taken away again where its first publication is
    refused. What can be seen to be wrong here is refused before anything is sent."""
    check_target(address)
    version_number(options.version)
    if options.base and (Path(options.base).expanduser() / "config.json").is_file():
        raise UsageError(
            f"{server.url} cannot see the folder {options.base}",
            remedy=f"publish the base model there first: mixhub publish {options.base} ns/base, then --base ns/base",
        )
    with tempfile.TemporaryDirectory(prefix="mixhub-") as scratch:
        files = collect_files(directory, into=address.folder, exclude=exclude)
        if training_data is not None:
            files = with_training_rows(files, training_data, into=address.folder, scratch=Path(scratch))
        return _publish(server, address, files, options)


def _publish(server: Connection, address: Address, files: Sequence[LocalFile], options: PublishOptions) -> Published:
    names.check_paths(file.path for file in files)
    _refuse_unreadable(address, files)
    with server.hugging_face() as api:
        is_new = not api.repo_exists(address.repo_id)
        if is_new and not brings_something(files, address.folder):
            raise nothing_to_publish(address)
        if is_new:
            api.create_repo(address.repo_id, private=True, exist_ok=True)
    try:
        return _send(server, address, files, options)
    except (HubError, StorageError, ValueError):
        if is_new:
            with suppress(HubError, StorageError), server.hugging_face() as api:
                api.delete_repo(address.repo_id)  # it holds nothing
        raise


def _refuse_unreadable(address: Address, files: Sequence[LocalFile]) -> None:
    sources = {file.source for file in files}
    for file in files:
        if file.source.name == CONFIG and file.source.with_name(WEIGHTS) in sources:
            folder = Path(file.path).parent.as_posix()
            describe(file.source.parent, name=address.repo_id if folder == "." else f"{address.repo_id}/{folder}")


def _send(server: Connection, address: Address, files: Sequence[LocalFile], options: PublishOptions) -> Published:
    from huggingface_hub import CommitOperationAdd

    inside = [file for file in files if file.size == 0 or _mode(file) == "regular"]
    large = [CommitOperationAdd(file.path, file.source) for file in files if file not in inside]
    if large:
        with server.hugging_face() as api:
            api.preupload_lfs_files(address.repo_id, large, free_memory=False)
    answer = server.ask(
        "POST", path_of("repos", address, "publish"), content=_lines(_head(address, options), inside, large)
    )
    return answers.published(answer)


def _mode(file: LocalFile) -> str:
    with file.source.open("rb") as opened:
        return upload_mode(file.path, size=file.size, sample=opened.read(SAMPLE))


def _head(address: Address, options: PublishOptions) -> dict[str, Any]:
    return {
        "folder": address.folder,
        "base": options.base,
        "version": options.version,
        "message": options.message,
        "contract": asdict(options.contract) if options.contract else {},
        "replace": options.replace_all,
    }


def _lines(head: dict[str, Any], inside: Sequence[LocalFile], large: Sequence[CommitOperationAdd]) -> Iterator[bytes]:
    yield json.dumps(head).encode() + b"\n"
    for file in inside:
        content = base64.b64encode(file.source.read_bytes()).decode()
        yield _line("file", {"path": file.path, "content": content, "encoding": "base64"})
    for add in large:
        info = add.upload_info
        yield _line(
            "lfsFile", {"path": add.path_in_repo, "algo": "sha256", "oid": info.sha256.hex(), "size": info.size}
        )


def _line(key: str, value: dict[str, Any]) -> bytes:
    return json.dumps({"key": key, "value": value}).encode() + b"\n"
