"""Errors of the hub itself, and the one place that knows which errors of the other packages are the user's to read.

`storage` and `compose` know neither each other nor this package, so each has a root of its own with the same shape;
`hub/cli/main.py` catches all three, once.
"""

from __future__ import annotations

from collections.abc import Mapping


class HubError(Exception):
    """Root of the hub's errors. `remedy` is the next command to try, shown on a line of its own."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  {self.remedy}" if self.remedy else self.message


class UsageError(HubError, ValueError):
    """The request itself is malformed: an address, a weight, options that exclude each other."""


class BadUpload(HubError, ValueError):
    """Files that may not be published: pickles, symbolic links that lead out, nothing to publish."""


class UnknownBase(HubError, LookupError):
    """The base model could not be found or is not the one that the adapters were made for."""


class WouldOverwrite(HubError, FileExistsError):
    """The target folder holds something already and `--force` was not given."""


class NotReproduced(HubError):
    """What was written down earlier cannot be repeated: stored examples or a base model are not the recorded ones."""


class InvalidToken(HubError, PermissionError):
    """The token is unknown, revoked or has expired."""


class SignInFirst(HubError, PermissionError):
    """Nobody is signed in, and this needs somebody."""


class NotAllowed(HubError, PermissionError):
    """The caller sees the thing but may not do this to it."""


class RepoNotFound(HubError, LookupError):
    """There is no such repo, or the caller may not know that there is: the words are the same."""

    def __init__(self, full_name: str, *, anonymous: bool) -> None:
        super().__init__(f"There is no repo {full_name}, or you may not see it.")
        self.anonymous = anonymous


class RevisionNotFound(HubError, LookupError):
    """The repo has no branch, tag, alias or commit of this name."""


class EntryNotFound(HubError, LookupError):
    """The revision `commit_id` has no file or folder of this path."""

    def __init__(self, message: str, *, commit_id: str = "") -> None:
        super().__init__(message)
        self.commit_id = commit_id


class GatedRepo(HubError, PermissionError):
    """Its files are for those who were granted access."""

    def __init__(self, message: str, *, anonymous: bool) -> None:
        super().__init__(message)
        self.anonymous = anonymous


class Outdated(HubError):
    """The branch is not at the commit that the change was made on."""


class TooLarge(HubError, ValueError):
    """More bytes than this server takes, at once or in this namespace."""


class BadSignature(HubError, PermissionError):
    """A signed URL or upload token that was altered, has expired, or is for something else."""


class UpstreamFailed(HubError):
    """The hub that this one asks for what it does not have gave no usable answer; `silent`: none at all."""

    def __init__(self, message: str, *, remedy: str = "", silent: bool = False) -> None:
        super().__init__(message, remedy=remedy)
        self.silent = silent


class BackupFailed(HubError):
    """Something that a home needs could not be copied or restored; `damaged` says which blobs, and why."""

    def __init__(self, message: str, *, damaged: Mapping[str, str], remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.damaged = damaged


class PushFailed(HubError):
    """Another hub did not take an upload; the message has its own words."""


class ServerUnreachable(HubError):
    """The server that commands act on gives no answer."""


class ServerRefused(HubError):
    """A server's refusal in its own words, where it is none of the errors that this release knows."""
