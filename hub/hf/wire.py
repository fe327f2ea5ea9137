"""JSON shapes of the protocol, built from plain data. Knows no database and no request."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from hub.summary import library_name, pipeline_tag
from storage.adapters import AdapterFacts
from storage.repos import Repo
from storage.revisions import File, Revision

Json = dict[str, Any]


def date(time: datetime) -> str:
    """Clients accept no other time zone than `Z`."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def model_info(
    repo: Repo, *, commit_id: str, modified: datetime, card: Mapping[str, Any] | None, tags: Sequence[str],
    adapters: Sequence[AdapterFacts], used_storage: int | None = None,
) -> Json:  # fmt: skip
    """A repo at one revision, without its files."""
    data = dict(card or {})
    found: Json = {
        "_id": repo.uuid[:24],
        "id": repo.full_name,
        "modelId": repo.full_name,
        "author": repo.account,
        "sha": commit_id,
        "lastModified": date(modified),
        "createdAt": date(repo.created_at),
        "private": repo.visibility == "private",
        "gated": repo.gated or False,
        "disabled": False,
        "downloads": repo.downloads,
        "likes": repo.likes,
        "tags": list(tags),
        "cardData": data or None,
    }
    for key, value in (("pipeline_tag", pipeline_tag(data, adapters)), ("library_name", library_name(data, adapters))):
        if value is not None:
            found[key] = value
    root = next((a for a in adapters if a.folder == ""), None)
    if root is not None:
        found["config"] = {
            "peft": {
                "base_model_name_or_path": root.base_model_name, "task_type": root.task_type,
                "peft_type": root.peft_type, "r": max(root.ranks.values(), default=None),
            }
        }  # fmt: skip
    if used_storage is not None:
        found["usedStorage"] = used_storage
    return found


def siblings(files: Iterable[File], *, blobs: bool) -> list[Json]:
    """The files of a model info. The digest of an lfs file is called `sha256` here and `oid` in a tree."""
    found = []
    for file in files:
        one: Json = {"rfilename": file.path}
        if blobs:
            one |= {"size": file.size, "blobId": file.oid}
            if file.upload_mode == "lfs":
                one["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": pointer_size(file)}
        found.append(one)
    return found


def file_entry(file: File) -> Json:
    entry: Json = {"type": "file", "path": file.path, "size": file.size, "oid": file.oid}
    if file.upload_mode == "lfs":
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": pointer_size(file)}
    return entry


def folder_entry(folder: str, inside: Iterable[File]) -> Json:
    """`oid` changes with anything below the folder."""
    listed = "\n".join(sorted(f"{file.path}\0{file.oid}" for file in inside))
    oid = hashlib.sha1(listed.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()
    return {"type": "directory", "path": folder, "oid": oid, "size": 0}


def pointer_size(file: File) -> int:
    """Bytes of the git-LFS pointer: everything in it but the size has a fixed length."""
    return 126 + len(str(file.size))


def commit_entry(revision: Revision) -> Json:
    return {
        "id": revision.commit_id,
        "title": revision.title,
        "message": revision.message,
        "date": date(revision.created_at),
        "authors": [{"user": revision.author}],
    }
