"""How adapters are named on the command line and in Python: `namespace/repo[/folder][@revision]`.

A revision is a version (`v2`), an alias (`prod`), a branch, or a commit id (at least 7 of its 40 hex digits); without
one it is the branch `main`. A folder addresses one adapter of a repo that holds several (PEFT's `subfolder=`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from hub.errors import UsageError

_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\Z")
_MAX_PART = 96


@dataclass(frozen=True)
class Address:
    namespace: str
    repo: str
    folder: str = ""
    revision: str = ""

    @property
    def repo_id(self) -> str:
        return f"{self.namespace}/{self.repo}"

    @property
    def adapter_id(self) -> str:
        """The name without its revision."""
        return f"{self.repo_id}/{self.folder}" if self.folder else self.repo_id

    def at(self, revision: str) -> Address:
        return replace(self, revision=revision)

    def __str__(self) -> str:
        return f"{self.adapter_id}@{self.revision}" if self.revision else self.adapter_id


def parse_address(text: str) -> Address:
    """Read an address; `UsageError` says which part is wrong."""
    path, at, revision = text.partition("@")
    parts = path.split("/")
    if len(parts) < 2 or (at and not revision):
        raise UsageError(f"'{text}' is not an address", remedy="write namespace/name, for example team/sql@v2")
    for part in parts:
        if not _PART.match(part) or len(part) > _MAX_PART or "--" in part or ".." in part or part.endswith(".git"):
            raise UsageError(
                f"'{text}' is not an address: '{part}' is not a valid name",
                remedy="names are letters, digits, '_', '-' and '.', at most 96, without '--' or '..'",
            )
    namespace, repo, *folder = parts
    return Address(namespace, repo, "/".join(folder), revision)
