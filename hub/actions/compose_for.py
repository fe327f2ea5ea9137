"""Mixes that a caller of a server asks for: of adapters that they may read, into a repo that they may write."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from compose.recipe import Recipe, read_recipe
from hub import access
from hub.access import Caller
from hub.actions import compose as compose_action
from hub.actions import publish
from hub.actions import repos as repo_actions
from hub.actions.compose import Composed, MixOptions, Part
from hub.address import Address, parse_address
from hub.base_lookup import base_repo
from hub.errors import RepoNotFound, UnknownBase, UsageError
from hub.home import Home
from hub.locate import Pinned, locate_adapter, locate_pinned
from storage import repos
from storage.errors import Conflict, NotFound


@dataclass(frozen=True)
class MixRequest:
    """What to mix and where it goes: `parts`, or a `recipe` (the content of mixhub_recipe.json) to remake.

    `options.base` is the address of a base model on this server. `public` is for a repo that is made for the mix.
    """

    into: Address
    parts: Sequence[Part] = ()
    recipe: Mapping[str, Any] | None = None
    options: MixOptions = field(default_factory=MixOptions)
    allow_unbound: bool = False
    version: str = ""
    search: Mapping[str, Any] | None = None
    """How the weights were found, for the recipe."""
    public: bool = False
    pinned_before: bool = False
    """The parts' addresses hold commit ids that were read earlier: a repo that was renamed or deleted since still
    serves those who read it."""
    beside: Mapping[str, str] = field(default_factory=dict)
    """Text files to publish with the mix, by name."""


def compose_for(home: Home, caller: Caller, request: MixRequest) -> Composed:
    """Mix and publish. Raises RepoNotFound for parts that the caller may not see, and what `compose` raises."""
    if bool(request.parts) == (request.recipe is not None):
        raise UsageError("give parts with weights, or a recipe")
    with tempfile.TemporaryDirectory(prefix="mixhub-") as scratch:
        recipe_file = Path(scratch) / "mixhub_recipe.json"
        recipe_file.write_text(json.dumps(request.recipe), encoding="utf-8")
        recipe = None if request.recipe is None else read_recipe(recipe_file)
        with home.read() as session:
            _check_parts(session, caller, request, recipe)
        base = _base_folder(home, caller, request.options.base)
        is_new = check_target(home, caller, request.into)
        acting = replace(home, account=caller.name)
        if recipe is not None:
            done = compose_action.remake(acting, recipe_file, request.into, base=base, version=request.version)
        else:
            chosen = request.options
            done = compose_action.compose(
                acting, request.parts, request.into, method=chosen.method, params=chosen.params, dtype=chosen.dtype,
                max_rank=chosen.max_rank, policies=chosen.policies, base=base, allow_unbound=request.allow_unbound,
                version=request.version, search=request.search, pinned_before=request.pinned_before,
                beside=request.beside,
            )  # fmt: skip
    if is_new and request.public:
        _open(home, request.into)
    return done


def _check_parts(session: Session, caller: Caller, request: MixRequest, recipe: Recipe | None) -> None:
    addresses = [part.address for part in request.parts]
    find = locate_pinned if request.pinned_before else locate_adapter
    if recipe is not None:
        addresses = [compose_action.parent_address(p.address, p.commit, p.folder) for p in recipe.parents]
        find = locate_pinned
    for address in addresses:
        _check_readable(session, caller, address, find)


def _check_readable(
    session: Session, caller: Caller, address: Address, find: Callable[[Session, Address], Pinned]
) -> None:
    """That the caller may read what the address names. A pinned one may lie in a repo that was renamed or deleted
    since; whoever may not see that repo is told the same as if there were none."""
    missing = RepoNotFound(address.repo_id, anonymous=caller.anonymous)
    if find is not locate_pinned:
        access.visible_repo(session, caller, address.namespace, address.repo, follow=False)
    try:
        pinned = find(session, address)
    except (NotFound, Conflict):
        if find is locate_pinned:
            raise missing from None
        raise
    if not access.sees(caller, pinned.repo):
        raise missing
    access.require_files(session, caller, pinned.repo)


def _base_folder(home: Home, caller: Caller, name: str) -> str:
    """Where the base model of this address lies here; empty for none asked for. Never a path of the caller's."""
    if not name:
        return ""
    address = parse_address(name)
    with home.read() as session:
        repo = access.visible_repo(session, caller, address.namespace, address.repo, follow=False)
        access.require_files(session, caller, repo)
    folder = base_repo(home, name)
    if folder is None:
        raise UnknownBase(f"{name} holds no base model", remedy="give the address of a base model on this server")
    return str(folder)


def check_target(home: Home, caller: Caller, into: Address) -> bool:
    """Whether the repo is new: then it is made with the mix, not before. Raises NotAllowed, SignInFirst, UsageError."""
    publish.check_target(into)
    with home.read() as session:
        try:
            repo = access.visible_repo(session, caller, into.namespace, into.repo, follow=False)
        except RepoNotFound:
            repo_actions.require_namespace(session, caller, into.namespace)
            return True
        access.require(caller, repo, "write")
        return False


def _open(home: Home, into: Address) -> None:
    """Show a repo that was made for the mix to everybody."""
    with home.write() as session:
        repo = repos.find(session, into.namespace, into.repo)
        repos.set_access(session, repo, visibility="public", gated=repo.gated)
