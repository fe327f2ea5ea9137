"""Repos: publishing uploaded files as the next version, versions, deleting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hub.actions import commit as commit_action
from hub.actions import uploads
from hub.actions.changes import Add, AddStored
from hub.actions.delete import Deleted
from hub.actions.delete import delete as delete_action
from hub.actions.publish import PublishOptions
from hub.actions.publish_uploaded import publish_uploaded
from hub.actions.show import ShownVersion
from hub.actions.show import show as show_adapter
from hub.address import Address
from hub.api.words import address_of
from hub.body import with_body
from hub.card_facts import UsageContract
from hub.errors import TooLarge, UsageError
from hub.hf.commit import MAX_COMMIT
from hub.hf.ndjson import MAX_CHANGES, lines, read_change
from hub.server import CallerDep, Server, ServerDep
from storage.blobs import StoredBlob
from storage.names import version_number

router = APIRouter(prefix="/api/v1/repos/{ns:quoted}/{name:quoted}", tags=["repos"])


class Contract(BaseModel):
    """How the adapter wants to be used; what is left out is taken from the card."""

    prompt_template: str | None = Field(default=None, examples=["Question: {input}"])
    chat_template: str | None = None
    label_texts: dict[str, str] | None = None
    stop_strings: list[str] | None = None
    suggested_weight: float | None = Field(default=None, allow_inf_nan=False)


class PublishHead(BaseModel):
    """The first line of a publication."""

    model_config = ConfigDict(extra="forbid")

    folder: str = Field(default="", max_length=512, description="of the repo; only this folder changes then")
    base: str = Field(default="", max_length=512, description="a base model that this server knows")
    version: str = Field(default="", max_length=32, description="empty: the next one")
    message: str = Field(default="", max_length=64 * 1024)
    contract: Contract = Field(default_factory=Contract)
    replace: bool = Field(default=False, description="drop all that these files do not bring")


class PublishedAs(BaseModel):
    address: str = Field(examples=["team/sql@v2"])
    commit: str
    version: str
    created: bool = Field(description="false: the content was there already")
    versioned: bool = Field(description="a version was given")
    adapters: list[str] = Field(description="the folders that hold adapters")
    notes: list[str]


_BODY = {
    "required": True,
    "content": {
        "application/x-ndjson": {
            "schema": {"type": "string", "description": "PublishHead, then lines as in a Hugging Face commit"},
            "example": '{"message": "better"}\n'
            '{"key": "file", "value": {"path": "README.md", "content": "aGk=", "encoding": "base64"}}\n'
            '{"key": "lfsFile", "value": {"path": "adapter_model.safetensors", "algo": "sha256", "size": 412, '
            '"oid": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}}\n',
        }
    },
}


@router.post("/publish", status_code=201, openapi_extra={"requestBody": _BODY})
async def publish(ns: str, name: str, request: Request, server: ServerDep, caller: CallerDep) -> PublishedAs:
    """Make uploaded files the next version, in one step: the files of the adapter or of the base model, and what may
    be said about it. The repo exists, and large files were uploaded to it, by LFS or Xet, before."""
    address = address_of(server, caller, ns, name)

    def work(pieces: Iterator[bytes]) -> PublishedAs:
        tenant = _tenant(server, caller, address)
        blobs: list[StoredBlob] = []

        def store(content: bytes) -> StoredBlob:
            blobs.append(server.home.blobs.put_stream([content], expected_size=len(content)))
            return blobs[-1]

        every = lines(pieces, max_line=server.settings.max_line_bytes)
        head = _head(next(every, b""))
        files = [_file(line, number, store) for number, line in enumerate(every, 1)]
        with server.home.read() as session:
            uploads.check_room(session, server.settings, tenant, coming=sum(blob.size for blob in blobs))
        uploads.record(server.home, tenant, blobs)
        options = PublishOptions(head.base, head.version, head.message, _contract(head.contract), head.replace)
        target = Address(address.namespace, address.repo, head.folder)
        return PublishedAs.model_validate(
            publish_uploaded(server.home, caller, target, files, options).as_dict()
        )  # fmt: skip

    return await with_body(request, server, work, limit=MAX_COMMIT)


@router.get("/versions")
def versions(ns: str, name: str, server: ServerDep, caller: CallerDep) -> list[ShownVersion]:
    """Lowest first, with the aliases that name them."""
    return list(show_adapter(server.home, address_of(server, caller, ns, name), caller=caller).versions)


@router.delete("/versions/{version:quoted}")
def delete_version(ns: str, name: str, version: str, server: ServerDep, caller: CallerDep) -> Deleted:
    """Its name is never given to other content. What an alias or a mix pins is refused."""
    if version_number(version) is None:
        raise UsageError(f"'{version[:80]}' is not a version", remedy="versions are v1, v2, v3 ...")
    return delete_action(server.home, Address(ns, name, "", version), caller=caller)


@router.delete("")
def delete(
    ns: str, name: str, server: ServerDep, caller: CallerDep,
    force: bool = Query(default=False, description="also a repo that aliases name"),
) -> Deleted:  # fmt: skip
    """Mixes that it is part of keep what they need of it."""
    return delete_action(server.home, Address(ns, name), force=force, caller=caller)


def _tenant(server: Server, caller: CallerDep, address: Address) -> int:
    """Whose bytes an upload is; raises NotAllowed or SignInFirst before any is read."""
    with server.home.read() as session:
        repo = commit_action.writable_repo(session, caller, address.namespace, address.repo)
    return commit_action.tenant_of(caller, repo)


def _head(line: bytes) -> PublishHead:
    try:
        return PublishHead.model_validate_json(line)
    except ValidationError as error:
        what = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise UsageError(f"The first line of the publication is malformed: {what}") from None


def _file(line: bytes, number: int, store: Any) -> Add | AddStored:
    if number > MAX_CHANGES:
        raise TooLarge(f"A publication may have {MAX_CHANGES} files at most.")
    change = read_change(line, store=store)
    if not isinstance(change, Add | AddStored):
        raise UsageError(f"Line {number + 1} of the publication brings no file")
    return change


def _contract(given: Contract) -> UsageContract:
    stops = None if given.stop_strings is None else tuple(given.stop_strings)
    return UsageContract(**{**given.model_dump(), "stop_strings": stops})
