"""A home on this machine as a `Hub`: every method is one action."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from compose.examples import Examples
from compose.trials import Progress
from hub.actions import aliases, find, show
from hub.actions import compose as compose_action
from hub.actions import delete as delete_action
from hub.actions import export as export_action
from hub.actions import publish as publish_action
from hub.actions import pull as pull_action
from hub.actions import search as search_action
from hub.actions.compose import MixOptions, Part
from hub.actions.search import SearchDone, SearchOptions, SearchPlan
from hub.address import Address, parse_address
from hub.card_facts import UsageContract
from hub.client import Hub
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
    ) -> publish_action.Published:
        return publish_action.publish(
            self.home, Path(directory), parse_address(address), base=base, version=version, message=message,
            exclude=exclude, contract=contract, replace_all=replace,
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
    ) -> compose_action.Composed:
        return compose_action.compose(
            self.home, parts, into, method=options.method, params=options.params, dtype=options.dtype,
            max_rank=options.max_rank, policies=options.policies, base=options.base, allow_unbound=allow_unbound,
            version=version,
        )  # fmt: skip

    def remake(self, recipe: str | Path, into: str, *, base: str = "", version: str = "") -> compose_action.Composed:
        return compose_action.remake(self.home, Path(recipe), parse_address(into), base=base, version=version)

    def plan_search(
        self,
        adapters: Sequence[str],
        examples: Path | Examples,
        *,
        into: str = "",
        labels: Path | Mapping[str, str] | None = None,
        base: str = "",
        allow_unbound: bool = False,
        options: SearchOptions | None = None,
    ) -> SearchPlan:
        return search_action.new_plan(
            self.home,
            [parse_address(address) for address in adapters],
            examples,
            labels=labels,
            into=parse_address(into) if into else None,
            base=base,
            allow_unbound=allow_unbound,
            options=options,
        )

    def stored_search(self, search: str) -> SearchPlan:
        return search_action.stored_plan(self.home, search)

    def run_search(
        self,
        plan: SearchPlan,
        *,
        on_start: Callable[[str], None] | None = None,
        on_batch: Callable[[Progress], None] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> SearchDone:
        return search_action.run(self.home, plan, on_start=on_start, on_batch=on_batch, stop=stop)

    def finish_search(self, plan: SearchPlan) -> SearchDone:
        return search_action.finish(self.home, plan)

    def export(
        self,
        address: str,
        to: str | Path,
        *,
        profile: str = "peft-uniform",
        max_rank: int | None = None,
        fused: bool = False,
        base: str = "",
        dtype: str = "",
        force: bool = False,
    ) -> export_action.Exported:
        return export_action.export(
            self.home, parse_address(address), Path(to), profile=profile, max_rank=max_rank, fused=fused, base=base,
            dtype=dtype, force=force,
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
