"""Adapters: finding them, all that is known about one, and its files in another layout."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from hub.actions.export_archive import write_archive
from hub.actions.find import Listed
from hub.actions.find import find as find_adapters
from hub.actions.show import Shown
from hub.actions.show import show as show_adapter
from hub.api.words import NO_NUL, FolderWord, RevisionWord, Word, address_of
from hub.server import CallerDep, ServerDep

router = APIRouter(prefix="/api/v1/adapters", tags=["adapters"])


@router.get("")
def find(
    server: ServerDep,
    caller: CallerDep,
    text: Annotated[str, Query(max_length=200, pattern=NO_NUL, examples=["sql"])] = "",
    namespace: Word = "",
    base: Word = "",
    task: Word = "",
    tag: Word = "",
    peft_type: Word = "",
    licence: Word = "",
    rank: Annotated[int | None, Query(ge=0, le=1_000_000)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
) -> list[Listed]:
    """The head of main of every repo that the caller sees, each folder with an adapter by itself.

    Every condition that is given must hold. `base` goes by identity: any of its names, or the identity itself.
    """
    return find_adapters(
        server.home, text=text, namespace=namespace, base=base, task=task, tag=tag, peft_type=peft_type,
        licence=licence, rank=rank, limit=limit, offset=offset, caller=caller,
    )  # fmt: skip


@router.get("/{ns:quoted}/{name:quoted}")
def show(
    ns: str, name: str, server: ServerDep, caller: CallerDep, revision: RevisionWord = "", folder: FolderWord = ""
) -> Shown:
    """Facts, versions, modules, and the lineage: what it was mixed from, and the mixes that it is part of."""
    return show_adapter(server.home, address_of(server, caller, ns, name, folder, revision), caller=caller)


@router.get(
    "/{ns:quoted}/{name:quoted}/export",
    response_class=FileResponse,
    responses={200: {"content": {"application/x-tar": {}, "application/zip": {}}, "description": "the archive"}},
)
def export(
    ns: str,
    name: str,
    server: ServerDep,
    caller: CallerDep,
    revision: RevisionWord = "",
    folder: FolderWord = "",
    profile: Annotated[
        str, Query(max_length=32, description="peft-uniform, peft-pattern, vllm, kohya or diffusers", examples=["vllm"])
    ] = "peft-uniform",
    dtype: Annotated[str, Query(max_length=32, examples=["float16"])] = "",
    max_rank: Annotated[int | None, Query(ge=1, le=1_000_000, examples=[8])] = None,
    form: Annotated[Literal["tar", "zip"], Query(alias="format")] = "tar",
) -> Any:
    """The adapter as plain LoRA files in one archive. A fused base model is not offered: it is as large as the base,
    which the caller may have at hand; `mixhub export --fused` makes it there."""
    address = address_of(server, caller, ns, name, folder, revision, files=True)
    scratch = tempfile.TemporaryDirectory(prefix="mixhub-")  # outlives this call: the answer is read from it
    try:
        archive = write_archive(
            server.home, address, Path(scratch.name), form=form, profile=profile, dtype=dtype, max_rank=max_rank
        )
    except BaseException:
        scratch.cleanup()
        raise
    kind = "application/zip" if form == "zip" else "application/x-tar"
    return FileResponse(archive, media_type=kind, filename=archive.name, background=BackgroundTask(scratch.cleanup))
