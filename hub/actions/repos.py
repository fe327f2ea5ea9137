"""Repos of a server: making, moving, opening and closing, copying, deleting."""

from __future__ import annotations

from sqlalchemy.orm import Session

from hub import access
from hub.access import Caller
from hub.actions.record_content import copy_content, record_summary
from hub.errors import NotAllowed, SignInFirst
from hub.home import Home
from storage import accounts, redirects, repos, revisions
from storage.accounts import Account
from storage.errors import NotFound
from storage.repos import Repo
from storage.revisions import Revision


def create(home: Home, caller: Caller, namespace: str, name: str, *, visibility: str = "public") -> Repo:
    """A repo with an empty first commit on main, so that it has a revision at once.

    Raises SignInFirst, NotAllowed (a namespace of others; an administrator may open a new one) or AlreadyExists.
    """
    with home.write() as session:
        return _make(session, caller, namespace, name, visibility=visibility)[0]


def delete(home: Home, caller: Caller, namespace: str, name: str) -> None:
    """Raises RepoNotFound or NotAllowed."""
    with home.write() as session:
        repo = access.visible_repo(session, caller, namespace, name, follow=False)
        access.require(caller, repo, "admin")
        repos.delete(session, repo, actor=caller.name)


def move(home: Home, caller: Caller, source: tuple[str, str], target: tuple[str, str]) -> Repo:
    """Another name, or another owner; the old name leads to it. Raises AlreadyExists, RepoNotFound, NotAllowed."""
    with home.write() as session:
        repo = access.visible_repo(session, caller, *source)
        access.require(caller, repo, "admin")
        owner = _namespace(session, caller, target[0])
        access.require_in(caller, owner.id, target[0], "write")
        moved = repos.rename(session, repo, account=owner.name, name=target[1], actor=caller.name)
        if (moved.account_id, moved.name.lower()) != (repo.account_id, repo.name.lower()):
            redirects.leave(session, repo)
        return moved


def set_access(
    home: Home, caller: Caller, namespace: str, name: str, *, visibility: str | None, gated: str | bool | None
) -> Repo:
    """None leaves a setting as it is; `gated` False opens the files to everybody who sees the repo."""
    with home.write() as session:
        repo = access.visible_repo(session, caller, namespace, name)
        access.require(caller, repo, "admin")
        chosen = repo.gated if gated is None else gated if isinstance(gated, str) else None
        return repos.set_access(session, repo, visibility=visibility or repo.visibility, gated=chosen)


def duplicate(
    home: Home, caller: Caller, source: tuple[str, str], target: tuple[str, str], *, visibility: str
) -> Repo:  # fmt: skip
    """A new repo with the files, facts and lineage that main of another has now."""
    with home.write() as session:
        repo = access.visible_repo(session, caller, *source)
        access.require_files(session, caller, repo)
        head = revisions.resolve(session, repo)
        made, first = _make(session, caller, *target, visibility=visibility)
        copied = revisions.create_revision(
            session, made, revisions.files_of(session, head), parent=first.commit_id, author=caller.name,
            title=f"Duplicate {repo.full_name}", state=head.state, reason=head.reason,
        )  # fmt: skip
        if copied.created:
            copy_content(session, head, copied.revision)
        return made


def require_namespace(session: Session, caller: Caller, name: str) -> None:
    """Raises SignInFirst or NotAllowed where the caller may not make a repo in this namespace."""
    if caller.account is None:
        raise SignInFirst("Sign in to make a repo.", remedy="hf auth login")
    try:
        access.require_in(caller, accounts.find(session, name).id, name, "write")
    except NotFound:
        if not caller.everything:
            raise NotAllowed(f"{caller.name} may not make repos in {name}.") from None


def _make(session: Session, caller: Caller, namespace: str, name: str, *, visibility: str) -> tuple[Repo, Revision]:
    """A repo and its first commit."""
    if caller.account is None:
        raise SignInFirst("Sign in to make a repo.", remedy="hf auth login")
    owner = _namespace(session, caller, namespace)
    access.require_in(caller, owner.id, namespace, "write")
    repo = repos.create(session, owner.name, name, visibility=visibility)
    first = revisions.create_revision(
        session, repo, [], parent=None, author=caller.name, title="initial commit", state="incomplete",
        reason="there is no adapter and no base model in it yet",
    )  # fmt: skip
    record_summary(session, first.revision, card={})
    return repo, first.revision


def _namespace(session: Session, caller: Caller, name: str) -> Account:
    try:
        return accounts.find(session, name)
    except NotFound:
        if not caller.everything or caller.account is None:
            raise NotAllowed(f"{caller.name} may not make repos in {name}.") from None
        return accounts.ensure(session, name, kind="org", owner=caller.account)
