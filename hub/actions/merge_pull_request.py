"""Merging a pull request: what it changed since it left main, applied to main as it is now."""

from __future__ import annotations

from hub import access
from hub.access import Caller
from hub.actions.changes import Change, Copy, DeleteFile
from hub.actions.commit import Words, commit
from hub.home import Home
from storage import pull_requests, revisions
from storage.errors import Conflict
from storage.pull_requests import PullRequest
from storage.repos import Repo


def merge(home: Home, caller: Caller, repo: Repo, number: int) -> PullRequest:
    """One commit on main. Raises Conflict where main has changed the same files since, or it is not open."""
    access.require(caller, repo, "write")
    with home.read() as session:
        request = pull_requests.find(session, repo, number)
        if request.status != "open":
            raise Conflict(f"Pull request {number} of {repo.full_name} is {request.status}.")
        ours, theirs = revisions.resolve(session, repo), revisions.resolve(session, repo, request.ref)
        main_log = {one.commit_id: one for one in revisions.log(session, ours)}
        base = next(one for one in revisions.log(session, theirs) if one.commit_id in main_log or one.parent is None)
        before, main, proposed = (
            {file.path: file.sha256 for file in revisions.files_of(session, one)} for one in (base, ours, theirs)
        )
    changed = {path for path in before.keys() | proposed.keys() if before.get(path) != proposed.get(path)}
    clashes = sorted(path for path in changed if main.get(path) not in (before.get(path), proposed.get(path)))
    if clashes:
        raise Conflict(
            f"main of {repo.full_name} has changed {', '.join(clashes[:5])} since pull request {number} was opened.",
            remedy="Open it again on top of main.",
        )
    changes: list[Change] = [
        Copy(path, path, theirs.commit_id) if path in proposed else DeleteFile(path)
        for path in sorted(changed)
        if main.get(path) != proposed.get(path)
    ]
    words = Words(f"{request.title} (#{number})", request.description, parent=ours.commit_id)
    commit(home, caller, repo, revisions.MAIN, changes, words)
    with home.write() as session:
        return pull_requests.set_status(session, repo, number, "merged")
