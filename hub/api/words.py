"""What the routes of the native API have in common: words in a query, and addresses that the caller may see."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from hub import access
from hub.access import Caller
from hub.address import Address
from hub.server import Server

NO_NUL = r"^[^\x00]*$"
"""No database could look such a word up."""
Word = Annotated[str, Query(max_length=200, pattern=NO_NUL)]
RevisionWord = Annotated[
    str, Query(max_length=256, pattern=NO_NUL, description="version, alias, branch or commit", examples=["v1"])
]
FolderWord = Annotated[
    str, Query(max_length=512, pattern=NO_NUL, description="of a repo that holds several adapters", examples=["sub"])
]


def address_of(
    server: Server, caller: Caller, ns: str, name: str, folder: str = "", revision: str = "", *, files: bool = False
) -> Address:
    """The address under the repo's present name. Raises RepoNotFound; with `files` also GatedRepo."""
    with server.home.read() as session:
        repo = access.visible_repo(session, caller, ns, name)
        if files:
            access.require_files(session, caller, repo)
    return Address(repo.account, repo.name, folder, revision)
