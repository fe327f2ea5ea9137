"""From the words in a URL to the repo and revision that the caller may see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar
from urllib.parse import urlencode

from fastapi import Request, Response
from sqlalchemy.orm import Session

from hub.errors import RevisionNotFound, UsageError
from storage import revisions
from storage.errors import NotFound
from storage.repos import Repo
from storage.revisions import Revision

T = TypeVar("T")


def revision_of(session: Session, repo: Repo, name: str) -> Revision:
    """A branch, tag, alias, `refs/...` or commit. Raises RevisionNotFound."""
    short = name.removeprefix("refs/heads/").removeprefix("refs/tags/")
    try:
        return revisions.resolve(session, repo, short)
    except NotFound as error:
        raise RevisionNotFound(f"{repo.full_name} has no branch, tag, alias or commit {name!r}.") from error


def flag(request: Request, name: str, *, default: bool = False) -> bool:
    """Clients of several generations write `true`, `True` and `1`."""
    value = request.query_params.get(name)
    return default if value is None else value.lower() in ("true", "1")


def number(request: Request, name: str, *, default: int, least: int, most: int) -> int:
    """A number in the query, held between the two."""
    value = request.query_params.get(name)
    if value is None:
        return default
    if not value.lstrip("-").isdigit() or len(value) > 12:
        raise UsageError(f"{name}={value[:40]!r} is not a number")
    return max(least, min(int(value), most))


def page_of(
    items: Sequence[T], request: Request, response: Response, *, base_url: str, size: int
) -> Sequence[T]:  # fmt: skip
    """The page that the cursor names; the header Link leads to the next one."""
    start = number(request, "cursor", default=0, least=0, most=10**9)
    if start + size < len(items):
        response.headers["Link"] = next_link(request, base_url, start + size)
    return items[start : start + size]


def next_link(request: Request, base_url: str, cursor: int) -> str:
    query = [(key, value) for key, value in request.query_params.multi_items() if key != "cursor"]
    return f'<{base_url}{request.scope["path"]}?{urlencode([*query, ("cursor", cursor)])}>; rel="next"'


def parents_of(path: str) -> Iterator[str]:
    """`a/b` and `a` for `a/b/c`."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
