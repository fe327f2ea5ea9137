"""A commit over the wire: changes on top of a branch, checked, in one transaction.

The bytes of the changes are stored already. What the new files are is found out before the transaction; should the
branch have moved meanwhile, the changes are applied to its new head, and only what nobody looked at yet is looked at.
So commits to one branch are serialised by the database, none is lost, and a writer never waits for another's checks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from hub import access
from hub.access import Caller
from hub.actions import changes as change_rules
from hub.actions import uploads
from hub.actions.changes import AddStored, Change, Copy
from hub.actions.commit_checks import Seen, all_seen, look
from hub.actions.record_content import record_base, record_content
from hub.base_lookup import FoundBase
from hub.errors import EntryNotFound, NotAllowed, Outdated, RevisionNotFound, SignInFirst, UsageError
from hub.home import Home
from hub.revision_content import adapter_folders, folder_key, state_of
from hub.summary import CARD
from storage import accounts, aliases, blob_records, names, pull_requests, refs, repos, revisions
from storage.blobs import StoredBlob
from storage.errors import Conflict, NotFound
from storage.pull_requests import PREFIX, PullRequest
from storage.repos import Repo
from storage.revisions import File, Revision


@dataclass(frozen=True)
class Words:
    """`parent` is the commit, or its first 5 digits and more, that the caller built on; empty: whatever is there."""

    title: str
    description: str = ""
    parent: str = ""


@dataclass(frozen=True)
class Committed:
    """`created` False: the branch had this content already. `pull_request`: the one that took it."""

    revision: Revision
    created: bool
    pull_request: PullRequest | None = None


def commit(
    home: Home, caller: Caller, repo: Repo, branch: str, changes: Sequence[Change], words: Words,
    *, as_pull_request: bool = False,
) -> Committed:  # fmt: skip
    """Apply `changes` to `branch` (or to a new pull request on top of it) and say what the branch is at now.

    Errors: a name that is not a branch, another parent than the head (`Outdated`), content that the caller may not use,
    pickles, malformed safetensors, a pair of adapter files that is not a readable adapter. Then nothing has changed.
    """
    seen = Seen()
    wanted = [change.sha256 for change in changes if isinstance(change, AddStored)]
    with home.read() as session:
        stored = usable(session, caller, repo, wanted)
    stored = uploads.at_hand(home, stored)
    while True:
        with home.read() as session:
            head = branch_head(session, repo, branch)
            tree = _tree(session, caller, repo, head, changes, stored)
        look(home, caller, repo, tree, head, changes, seen)
        with home.write() as session:
            repos.lock(session, repo)
            head = branch_head(session, repo, branch)
            _check_proposal(session, caller, repo, branch)
            still = usable(session, caller, repo, wanted)
            stored = {sha256: blob for sha256, blob in stored.items() if sha256 in still}
            tree = _tree(session, caller, repo, head, changes, stored)
            if not all_seen(session, tree, head, seen):
                continue
            _check_parent(head, words)
            return _store(session, caller, repo, branch, head, tree, words, seen, as_pull_request=as_pull_request)


def branch_head(session: Session, repo: Repo, branch: str) -> Revision:
    """The head of a branch that takes commits. Raises RevisionNotFound, or UsageError for any other name."""
    name = branch.removeprefix("refs/heads/")
    ref = refs.find(session, repo, name)
    if ref is None:
        if name in aliases.every(session, repo):
            raise UsageError(
                f"{name!r} is an alias of {repo.full_name}; it moves only by promoting a revision to it",
                remedy=f"push to a branch, then: mixhub promote {repo.full_name}@main {name}",
            )
        if names.looks_like_commit(name):
            raise UsageError(f"{name!r} is a commit; only a branch takes commits")
        raise RevisionNotFound(f"{repo.full_name} has no branch {name!r}.")
    if ref.kind != "branch":
        raise UsageError(f"{name!r} is a {ref.kind} of {repo.full_name}; only a branch takes commits")
    return revisions.by_id(session, ref.revision_id)


def require_push(caller: Caller, repo: Repo, branch: str, *, as_pull_request: bool) -> None:
    """Writing takes the role; proposing takes only an account with a token that writes."""
    if as_pull_request or branch.startswith(PREFIX):
        if caller.anonymous:
            raise SignInFirst(f"Sign in to propose a change to {repo.full_name}.")
        if caller.role == "read" or (caller.confined and not caller.may(repo.account_id, "read")):
            raise NotAllowed("This token may only read; proposing a change takes one with the role write.")
        return
    access.require(caller, repo, "write")


def writable_repo(session: Session, caller: Caller, namespace: str, name: str) -> Repo:
    """Raises RepoNotFound, SignInFirst or NotAllowed."""
    repo = access.visible_repo(session, caller, namespace, name)
    access.require(caller, repo, "write")
    return repo


def _check_proposal(session: Session, caller: Caller, repo: Repo, branch: str) -> None:
    """A pull request takes commits of its author, and of those who may write, while it is open."""
    if not branch.startswith(PREFIX) or caller.may(repo.account_id, "write"):
        return
    number = branch.removeprefix(PREFIX)
    request = pull_requests.find(session, repo, int(number) if number.isdigit() else 0)
    if request.author != caller.name or request.status != "open":
        raise NotAllowed(f"Only its author may add to pull request {number} of {repo.full_name}, while it is open.")


def tenant_of(caller: Caller, repo: Repo) -> int:
    """The account whose bytes an upload to this repo are: the namespace, or a stranger's own for a proposal."""
    if caller.may(repo.account_id, "write") or caller.account is None:
        return repo.account_id
    return caller.account.id


def _tree(
    session: Session, caller: Caller, repo: Repo, head: Revision, changes: Sequence[Change],
    stored: Mapping[str, StoredBlob],
) -> dict[str, File]:  # fmt: skip
    def file_at(revision: str, path: str) -> File:
        try:
            source = revisions.resolve(session, repo, revision) if revision else head
        except NotFound as error:
            raise RevisionNotFound(error.message) from error
        file = revisions.file_at(session, source, path)
        if file is None:
            raise EntryNotFound(f"{path} does not exist in {revision or head.commit_id}", commit_id=source.commit_id)
        return file

    if any(isinstance(change, Copy) for change in changes):
        access.require_files(session, caller, repo)
    return change_rules.apply(revisions.files_of(session, head), changes, stored=stored, file_at=file_at)


def usable(session: Session, caller: Caller, repo: Repo, sha256s: Sequence[str]) -> dict[str, StoredBlob]:
    """Those of the blobs that the caller may put into this repo, if `uploads.at_hand` finds them."""
    tenant = accounts.by_id(session, tenant_of(caller, repo))
    return blob_records.blobs_usable(session, tenant, sha256s, readers=access.reader_ids(session, caller))


def _check_parent(head: Revision, words: Words) -> None:
    if words.parent and not head.commit_id.startswith(words.parent):
        raise Outdated("A commit has happened since. Please refresh and try again.")


def _store(
    session: Session, caller: Caller, repo: Repo, branch: str, head: Revision, tree: Mapping[str, File], words: Words,
    seen: Seen, *, as_pull_request: bool,
) -> Committed:  # fmt: skip
    pull_request = None
    target = branch.removeprefix("refs/heads/")
    if as_pull_request:
        pull_request = pull_requests.open_one(
            session, repo, head, title=words.title, description=words.description, author=caller.name
        )
        target = pull_request.ref
    contents = {folder: seen.folders.get(folder_key(tree, folder)) for folder in adapter_folders(tree)}
    state, reason = state_of(tree, contents)
    made = revisions.create_revision(
        session, repo, sorted(tree.values(), key=lambda file: file.path), parent=head.commit_id, author=caller.name,
        title=words.title, message=words.description, branch=target, state=state, reason=reason,
    )  # fmt: skip
    if made.created:
        card = tree.get(CARD)
        record_content(
            session, head, made.revision, contents, card=seen.cards.get(card.sha256, {}) if card else {},
        )  # fmt: skip
        base = seen.base.get(made.revision.tree_digest)
        if base is not None and target == revisions.MAIN:
            _record_base(session, base)
    return Committed(made.revision, made.created, pull_request)


def _record_base(session: Session, base: FoundBase) -> None:
    try:
        record_base(session, base)
    except Conflict:  # the repo's name means the base that it held before: that one keeps the name
        record_base(session, replace(base, name=f"{base.name}@{base.facts.digest[:12]}"))
