"""A server as a `Hub`: what it decides is asked of it, what takes tensors is done here on its mirror."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace as changed
from functools import cached_property
from pathlib import Path
from typing import Any

from compose.layer_weights import Weight
from compose.recipe import RECIPE_FILE, read_recipe
from hub.actions import verify as verify_action
from hub.actions.aliases import Move, guard_role, whole_repo
from hub.actions.compose import Composed, MixOptions, Part, PinnedPart, parent_address
from hub.actions.delete import Deleted, version_to_delete
from hub.actions.find import Listed
from hub.actions.publish import Published, PublishOptions, check_target
from hub.actions.pull import Pulled
from hub.actions.search import Mixer
from hub.actions.show import Shown
from hub.actions.verify import Verified
from hub.address import Address, parse_address
from hub.card_facts import UsageContract
from hub.client import Hub, Rows, rows_of
from hub.errors import UsageError
from hub.home import Home, open_home
from hub.remote import answers, download, upload
from hub.remote.connection import Connection, path_of
from hub.remote.mirror import Mirror, mirror_settings
from hub.trials_file import TRIALS_FILE

PAGE = 1000


class RemoteHub(Hub):
    """`server` is the connection to it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.server = Connection(self.settings)

    @cached_property
    def _mirror(self) -> Mirror:
        home = self._stack.enter_context(open_home(mirror_settings(self.settings)))
        return Mirror(self.server, home)

    def publish(
        self,
        directory: str | Path,
        address: str,
        *,
        base: str = "",
        version: str = "",
        message: str = "",
        exclude: Sequence[str] = (),
        contract: UsageContract | None = None,
        replace: bool = False,
        training_data: Rows | None = None,
    ) -> Published:
        options = PublishOptions(base, version, message, contract, replace)
        return upload.publish(
            self.server, Path(directory), parse_address(address), options, exclude=exclude,
            training_data=None if training_data is None else rows_of(training_data),
        )  # fmt: skip

    def pull(self, address: str, to: str | Path | None = None, *, force: bool = False) -> Pulled:
        return download.pull(self.server, parse_address(address), None if to is None else Path(to), force=force)

    def find(
        self,
        text: str = "",
        *,
        base: str = "",
        task: str = "",
        tag: str = "",
        namespace: str = "",
        limit: int | None = None,
    ) -> list[Listed]:
        found: list[Listed] = []
        while limit is None or len(found) < limit:
            size = PAGE if limit is None else min(PAGE, limit - len(found))
            page = self.server.ask(
                "GET", "/adapters", text=text, base=base, task=task, tag=tag, namespace=namespace, limit=size,
                offset=len(found),
            )  # fmt: skip
            found += answers.listed(page)
            if len(page) < size:
                break
        return found

    def show(self, address: str) -> Shown:
        at = parse_address(address)
        shown = answers.shown(
            self.server.ask("GET", path_of("adapters", at), revision=at.revision, folder=at.folder)
        )  # fmt: skip
        return changed(shown, address=str(at))

    def mix(
        self,
        parts: Sequence[Part],
        into: Address,
        options: MixOptions,
        *,
        allow_unbound: bool = False,
        version: str = "",
        initial: Mapping[str, Path] | None = None,
    ) -> Composed:
        check_target(into)
        _refuse_initial(initial)
        return self._compose(
            into, options, parts=[(str(part.address), part.weight) for part in parts], version=version,
            allow_unbound=allow_unbound,
        )  # fmt: skip

    def remake(
        self,
        recipe: str | Path,
        into: str,
        *,
        base: str = "",
        version: str = "",
        initial: Mapping[str, Path] | None = None,
    ) -> Composed:
        _refuse_initial(initial)
        target = parse_address(into)
        check_target(target)
        file = Path(recipe) / RECIPE_FILE if Path(recipe).is_dir() else Path(recipe)
        read_recipe(file)
        content = json.loads(file.read_bytes())
        return self._compose(target, MixOptions(base=base), recipe=content, version=version)

    def _compose(
        self, into: Address, options: MixOptions, *, parts: Sequence[tuple[str, object]] = (), **more: Any
    ) -> Composed:
        plan = {
            "into": str(into), "method": options.method, "params": dict(options.params), "dtype": options.dtype,
            "max_rank": options.max_rank, "policies": dict(options.policies), "base": options.base,
            "parts": [{"address": address, "weight": weight} for address, weight in parts], **more,
        }  # fmt: skip
        return answers.composed(self.server.ask("POST", "/compositions", json=plan))

    def check_target(self, into: str) -> None:
        if into:
            check_target(parse_address(into))
            self.server.ask("POST", "/compositions/target", json={"into": into})

    def candidates(self, *, base: str, namespace: str = "") -> list[str]:
        return [one.address for one in self.find(base=base, namespace=namespace)]

    @property
    def workshop(self) -> Home:
        return self._mirror.home

    @property
    def mixer(self) -> Mixer:
        return self._mix_found

    def bring(self, adapters: Sequence[str], *, base: str = "", with_base: bool = True) -> list[Address]:
        pinned = self._mirror.bring([parse_address(address) for address in adapters])
        if with_base or any(self._mirror.needs_base(address) for address in pinned):
            self._mirror.bring_base_of(pinned, base)
        return pinned

    def _mix_found(
        self, home: Home, parts: Sequence[PinnedPart], weights: Sequence[Weight], into: Address, *,
        options: MixOptions, search: Mapping[str, Any], notes: Sequence[str], beside: Mapping[str, str],
    ) -> Composed:  # fmt: skip
        """The server mixes what was found here, from its own bytes: so the recipe is true. It knows the base itself."""
        del home
        listed = [(str(part.address), weight) for part, weight in zip(parts, weights, strict=True)]
        done = self._compose(
            into, changed(options, base=""), parts=listed, search=dict(search), pinned=True,
            trials=beside.get(TRIALS_FILE, ""),
            allow_unbound=True,  # whether they belong together was decided when the search was planned
        )  # fmt: skip
        as_written = tuple(
            Part(parse_address(part.name), weight) for part, weight in zip(parts, weights, strict=True)
        )  # fmt: skip
        return changed(
            done, parts=as_written, notes=tuple(dict.fromkeys([*notes, *done.notes])),
            licences={part.name: part.facts.licence for part in parts},
        )  # fmt: skip

    def verify(
        self,
        address: str,
        *,
        base: str = "",
        examples: str | Path | None = None,
        replay: bool = False,
        tolerance: float = 0.0,
        initial: Mapping[str, Path] | None = None,
    ) -> Verified:
        [here] = self.bring([address], base=base)
        folder = self._mirror.directory_of(here)
        if (folder / RECIPE_FILE).is_file():
            parents = read_recipe(folder / RECIPE_FILE).parents
            self.bring([str(parent_address(p.address, p.commit, p.folder)) for p in parents], base=base)
        return verify_action.verify(
            self.workshop, here, base=base, examples=None if examples is None else Path(examples), replay=replay,
            tolerance=tolerance, initial=initial,
        )  # fmt: skip

    def promote(self, address: str, alias: str) -> Move:
        at = parse_address(address)
        whole_repo(at)
        return self._move(at, alias, "promote", {"revision": at.revision or "main"})

    def rollback(self, address: str, alias: str) -> Move:
        at = parse_address(address)
        whole_repo(at)
        return self._move(at, alias, "rollback", None)

    def _move(self, at: Address, alias: str, what: str, body: object) -> Move:
        return answers.move(self.server.ask("POST", path_of("repos", at, "aliases", alias, what), json=body))

    def history(self, address: str, alias: str = "") -> list[Move]:
        at = parse_address(address)
        whole_repo(at)
        one = alias or at.revision
        where = path_of("repos", at, "aliases", *([one] if one else []), "history")
        return [answers.move(event) for event in self.server.ask("GET", where)]

    def protect(self, address: str, alias: str, role: str = "admin") -> None:
        at = parse_address(address)
        whole_repo(at)
        guard_role(role)
        self.server.ask("PUT", path_of("repos", at, "aliases", alias, "protection"), json={"role": role})

    def delete(self, address: str, *, force: bool = False) -> Deleted:
        at = parse_address(address)
        number = version_to_delete(at)
        where = path_of("repos", at, *([] if number is None else ["versions", at.revision]))
        return Deleted(**self.server.ask("DELETE", where, force=force))


def _refuse_initial(initial: Mapping[str, Path] | None) -> None:
    if initial:
        raise UsageError(
            "the factors before training are read on this machine, and a server mixes on its own",
            remedy="mix in a home and publish the result there",
        )
