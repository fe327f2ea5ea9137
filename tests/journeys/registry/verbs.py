"""The verbs of the registry by name, and all that can be seen of a home: for a test that compares it with a model.

An operation is plain data, such as {"verb": "promote", "repo": "team/a", "at": "main", "alias": "prod", "who": ""}, so
that it can be done in this process or in one that dies over it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub import access
from hub.access import Caller
from hub.actions import aliases as alias_actions
from hub.actions import commit as commit_actions
from hub.actions import database as database_actions
from hub.actions import repos as repo_actions
from hub.actions import uploads
from hub.actions.backup import back_up
from hub.actions.changes import Add, AddStored, Change, Copy, DeleteFile
from hub.actions.commit import Words
from hub.actions.delete import delete
from hub.actions.find import find
from hub.actions.publish import publish
from hub.actions.restore import restore as restore_home
from hub.address import Address, parse_address
from hub.home import Home
from hub.settings import Settings
from storage import (
    accounts,
    alias_protection,
    aliases,
    members,
    redirects,
    refs,
    repos,
    revisions,
    tombstones,
    versions,
)
from storage.clock import utc_now
from storage.models import AccountRow, BlobUseRow, RepoRow, RevisionRow
from storage.reclaim import reclaim

Op = dict[str, Any]
NAMES = ("admin/a", "admin/b", "team/a", "team/b")
ALIASES = ("prod", "dev", "main", "v1")


def settings_of(folder: Path) -> Settings:
    return Settings(home=folder, database_url="", blobs_url="")


def perform(home: Home, op: Op) -> None:
    """Do it. Raises what the verb raises."""
    VERBS[op["verb"]](home, op)


def caller_of(home: Home, name: str) -> Caller:
    with home.read() as session:
        account = accounts.find(session, name)
        return Caller(account, "admin", "", members.roles_of(session, account), account.is_admin)


def _create(home: Home, op: Op) -> None:
    repo_actions.create(home, caller_of(home, "admin"), *op["repo"].split("/"), visibility=op["visibility"])


def _commit(home: Home, op: Op) -> None:
    """As the route does it: bytes, then their rows, then the commit."""
    caller = caller_of(home, "admin")
    with home.read() as session:
        repo = access.visible_repo(session, caller, *op["repo"].split("/"))
        commit_actions.branch_head(session, repo, op["branch"])
    stored = {path: home.blobs.put_stream([content.encode()]) for path, content in op["puts"].items()}
    uploads.record(home, commit_actions.tenant_of(caller, repo), list(stored.values()))
    changes: list[Change] = [Add(path, blob) for path, blob in stored.items()]
    changes += [AddStored(path, hashlib.sha256(c.encode()).hexdigest()) for path, c in op["claims"].items()]
    changes += [Copy(path, source) for path, source in op["copies"].items()]
    changes += [DeleteFile(path) for path in op["deletes"]]
    commit_actions.commit(home, caller, repo, op["branch"], changes, Words("a commit"))


def _publish(home: Home, op: Op) -> None:
    publish(home, Path(op["folder"]), parse_address(op["repo"]), base=None, replace_all=True)


def _in_repo(work: Callable[[Session, repos.Repo, Op], object]) -> Callable[[Home, Op], None]:
    """For verbs that are a function of storage, which the route finds the repo for."""

    def verb(home: Home, op: Op) -> None:
        caller = caller_of(home, "admin")
        with home.write() as session:
            work(session, access.visible_repo(session, caller, *op["repo"].split("/")), op)

    return verb


def _branch(session: Session, repo: repos.Repo, op: Op) -> None:
    refs.create_branch(session, repo, op["name"], revision_id=revisions.resolve(session, repo, op["at"]).id)


def _tag(session: Session, repo: repos.Repo, op: Op) -> None:
    refs.create_tag(session, repo, op["name"], revision_id=revisions.resolve(session, repo, op["at"]).id)


def _version(session: Session, repo: repos.Repo, op: Op) -> None:
    versions.give(session, repo, revisions.resolve(session, repo, op["at"]), number=op["number"])


def _promote(home: Home, op: Op) -> None:
    caller = caller_of(home, op["who"]) if op["who"] else None
    alias_actions.promote(home, Address(*op["repo"].split("/"), "", op["at"]), op["alias"], caller=caller)


def _gc(home: Home, op: Op) -> None:
    del op
    database_actions.collect_garbage(settings_of(home.directory), hours=0)


def _reclaim(home: Home, op: Op) -> None:
    del op
    with home.write() as session:
        reclaim(session, deleted_before=utc_now())


def _back_up(home: Home, op: Op) -> None:
    back_up(settings_of(home.directory), Path(op["to"]))


def restore(op: Op) -> None:
    """The only verb that needs no home."""
    restore_home(settings_of(Path(op["to"])), Path(op["from"]))


VERBS: dict[str, Callable[[Home, Op], None]] = {
    "create": _create,
    "commit": _commit,
    "publish": _publish,
    "branch": _in_repo(_branch),
    "tag": _in_repo(_tag),
    "version": _in_repo(_version),
    "delete branch": _in_repo(lambda session, repo, op: refs.delete_branch(session, repo, op["name"])),
    "delete tag": _in_repo(lambda session, repo, op: refs.delete_tag(session, repo, op["name"])),
    "delete version": lambda home, op: delete(home, parse_address(f"{op['repo']}@v{op['number']}")) and None,
    "delete repo": lambda home, op: delete(home, parse_address(op["repo"]), force=op["force"]) and None,
    "promote": _promote,
    "rollback": lambda home, op: alias_actions.rollback(home, parse_address(op["repo"]), op["alias"]) and None,
    "protect": lambda home, op: alias_actions.protect(home, parse_address(op["repo"]), op["alias"], op["role"]),
    "rename": lambda home, op: repo_actions.move(
        home, caller_of(home, "admin"), tuple(op["repo"].split("/")), tuple(op["to"].split("/"))
    ) and None,
    "duplicate": lambda home, op: repo_actions.duplicate(
        home, caller_of(home, "admin"), tuple(op["repo"].split("/")), tuple(op["to"].split("/")), visibility="private"
    ) and None,
    "open or close": lambda home, op: repo_actions.set_access(
        home, caller_of(home, "admin"), *op["repo"].split("/"), visibility=op["visibility"], gated=None
    ) and None,
    "gc": _gc,
    "reclaim": _reclaim,
    "backup": _back_up,
    "restore": lambda home, op: restore(op),  # noqa: ARG005
}  # fmt: skip


def observe(home: Home) -> dict[str, Any]:
    """Everything that the model speaks of, with digests that were recomputed from the stored bytes."""
    with home.read() as session:
        live = repos.every(session)
        seen: dict[str, Any] = {
            "repos": {repo.full_name: repo.uuid for repo in live},
            "open": {repo.uuid: repo.visibility for repo in live},
            "refs": {repo.uuid: {ref.name: [ref.kind, ref.commit_id] for ref in refs.every(session, repo)}
                     for repo in live},
            "moves": {repo.uuid: _moves(session, repo) for repo in live},
            "guards": {repo.uuid: _guards(session, repo) for repo in live},
            "former": _former(session),
            "graves": _graves(session),
            "commits": _commits(session),
            "brought": _brought(session),
        }  # fmt: skip
    digests = {file[0] for _, _, files in seen["commits"].values() for file in files.values()}
    wrong = {digest for digest in digests if hashlib.sha256(home.blobs.read(digest)).hexdigest() != digest}
    assert not wrong, f"other bytes than were committed: {wrong}"
    seen["adapters"] = sorted(one.address for one in find(home))
    return seen


def _moves(session: Session, repo: repos.Repo) -> dict[str, list[list[Any]]]:
    named = aliases.every(session, repo)
    found = {
        alias: [[event.action, event.commit_id, event.previous_seq] for event in aliases.history(session, repo, alias)]
        for alias in named
    }
    assert named == {alias: events[-1][1] for alias, events in found.items()}
    return found


def _guards(session: Session, repo: repos.Repo) -> dict[str, str]:
    roles = {alias: alias_protection.role_for(session, repo, alias) for alias in ALIASES}
    return {alias: role for alias, role in roles.items() if role != "write"}


def _former(session: Session) -> dict[str, str]:
    found = {name: redirects.follow(session, *name.split("/")) for name in NAMES}
    return {name: repo.uuid for name, repo in found.items() if repo is not None}


def _graves(session: Session) -> dict[str, list[list[Any]]]:
    found = {}
    for name in NAMES:
        account = accounts.find(session, name.split("/")[0])
        buried = tombstones.of(session, account_id=account.id, repo_name=name.split("/")[1])
        found[name] = [[one.number, one.tree_digest] for one in buried]
    return {name: buried for name, buried in found.items() if buried}


def _commits(session: Session) -> dict[str, list[Any]]:
    """Of deleted repos too: commit id -> repo's uuid, parent's id, path -> sha256 and mode."""
    parent = RevisionRow.__table__.alias("parent")
    rows = session.execute(
        select(RevisionRow.id, RevisionRow.commit_id, RepoRow.uuid, parent.c.commit_id)
        .join(RepoRow, RepoRow.id == RevisionRow.repo_id)
        .outerjoin(parent, parent.c.id == RevisionRow.parent_id)
    ).all()
    files = revisions.files_of_all(session, [row[0] for row in rows])
    return {
        commit_id: [uuid, above, {file.path: [file.sha256, file.upload_mode] for file in files[number]}]
        for number, commit_id, uuid, above in rows
    }


def _brought(session: Session) -> dict[str, list[str]]:
    """account -> digests of what it uploaded."""
    rows = session.execute(
        select(AccountRow.name, BlobUseRow.sha256).join(AccountRow, AccountRow.id == BlobUseRow.account_id)
    )
    found: dict[str, list[str]] = {}
    for account, digest in rows:
        found.setdefault(account, []).append(digest)
    return found
