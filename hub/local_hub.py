"""A home on this machine as a `Hub`: every method is one action."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hub.actions import aliases, find, show
from hub.actions import compose as compose_action
from hub.actions import delete as delete_action
from hub.actions import publish as publish_action
from hub.actions import pull as pull_action
from hub.actions import verify as verify_action
from hub.actions.compose import MixOptions, Part
from hub.actions.search import Mixer
from hub.address import Address, parse_address
from hub.card_facts import UsageContract
from hub.client import Hub, Rows, rows_of
from hub.home import Home, open_home


class LocalHub(Hub):
    """`home` is the opened home."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.home: Home = self._stack.enter_context(open_home(self.settings))

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
    ) -> publish_action.Published:
        return publish_action.publish(
            self.home, Path(directory), parse_address(address), base=base, version=version, message=message,
            exclude=exclude, contract=contract, replace_all=replace,
            training_data=None if training_data is None else rows_of(training_data),
        )  # fmt: skip

    def pull(self, address: str, to: str | Path | None = None, *, force: bool = False) -> pull_action.Pulled:
        return pull_action.pull(self.home, parse_address(address), None if to is None else Path(to), force=force)

    def find(
        self,
        text: str = "",
        *,
        base: str = "",
        task: str = "",
        tag: str = "",
        namespace: str = "",
        limit: int | None = None,
    ) -> list[find.Listed]:
        return find.find(self.home, text=text, base=base, task=task, tag=tag, namespace=namespace, limit=limit)

    def show(self, address: str) -> show.Shown:
        return show.show(self.home, parse_address(address))

    def mix(
        self,
        parts: Sequence[Part],
        into: Address,
        options: MixOptions,
        *,
        allow_unbound: bool = False,
        version: str = "",
        initial: Mapping[str, Path] | None = None,
    ) -> compose_action.Composed:
        return compose_action.compose(
            self.home, parts, into, method=options.method, params=options.params, dtype=options.dtype,
            max_rank=options.max_rank, policies=options.policies, base=options.base, allow_unbound=allow_unbound,
            version=version, initial=initial,
        )  # fmt: skip

    def remake(
        self,
        recipe: str | Path,
        into: str,
        *,
        base: str = "",
        version: str = "",
        initial: Mapping[str, Path] | None = None,
    ) -> compose_action.Composed:
        return compose_action.remake(
            self.home, Path(recipe), parse_address(into), base=base, version=version, initial=initial
        )

    def check_target(self, into: str) -> None:
        if into:
            publish_action.check_target(parse_address(into))

    def candidates(self, *, base: str, namespace: str = "") -> list[str]:
        del base, namespace  # a selection looks through the home itself, and reads nothing that it need not
        return []

    @property
    def workshop(self) -> Home:
        return self.home

    @property
    def mixer(self) -> Mixer:
        return compose_action.mix

    def bring(self, adapters: Sequence[str], *, base: str = "", with_base: bool = True) -> list[Address]:
        del base, with_base  # whatever is known is here
        return [parse_address(address) for address in adapters]

    def verify(
        self,
        address: str,
        *,
        base: str = "",
        examples: str | Path | None = None,
        replay: bool = False,
        tolerance: float = 0.0,
        initial: Mapping[str, Path] | None = None,
    ) -> verify_action.Verified:
        return verify_action.verify(
            self.home, parse_address(address), base=base, examples=None if examples is None else Path(examples),
            replay=replay, tolerance=tolerance, initial=initial,
        )  # fmt: skip

    def promote(self, address: str, alias: str) -> aliases.Move:
        return aliases.promote(self.home, parse_address(address), alias)

    def rollback(self, address: str, alias: str) -> aliases.Move:
        return aliases.rollback(self.home, parse_address(address), alias)

    def history(self, address: str, alias: str = "") -> list[aliases.Move]:
        return aliases.history(self.home, parse_address(address), alias)

    def protect(self, address: str, alias: str, role: str = "admin") -> None:
        aliases.protect(self.home, parse_address(address), alias, role)

    def delete(self, address: str, *, force: bool = False) -> delete_action.Deleted:
        return delete_action.delete(self.home, parse_address(address), force=force)
