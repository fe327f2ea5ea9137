"""The hub from Python: the same journeys as the command line, on a local home.

    from hub.client import Hub
    with Hub() as hub:                                   # MIXHUB_HOME, or Hub(home="/data/adapters")
        hub.publish("out/sql-lora", "team/sql", base="org/base")
        hub.compose({"team/sql": 0.6, "team/docs@v2": -0.3}, "team/mix")
        folder = hub.pull("team/mix@v1", "mix").directory  # PeftModel.from_pretrained(model, folder)

Loads no torch; merging and scoring do, when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from compose.examples import Examples, examples_of, read_examples
from compose.layer_weights import Weight
from compose.trials import Progress
from hub.actions import aliases, delete, find, show
from hub.actions import compose as compose_action
from hub.actions import export as export_action
from hub.actions import preselect as preselect_action
from hub.actions import publish as publish_action
from hub.actions import pull as pull_action
from hub.actions import search as search_action
from hub.actions import verify as verify_action
from hub.address import parse_address
from hub.card_facts import UsageContract
from hub.home import Home, open_home
from hub.report.search_report import SearchReport, stored_report
from hub.settings import Settings


class Hub:
    """An opened home. Use it in a `with` block, or call `close`; one instance belongs to one thread."""

    def __init__(self, home: str | Path | None = None, *, settings: Settings | None = None) -> None:
        chosen = settings or (Settings() if home is None else Settings(home=Path(home)))
        self._stack = ExitStack()
        self.home: Home = self._stack.enter_context(open_home(chosen))

    def __enter__(self) -> Hub:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

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
        training_data: str | Path | Sequence[Mapping[str, str]] | None = None,
    ) -> publish_action.Published:
        """Publish a folder as a new immutable revision with the next version; see `mixhub publish --help`."""
        return publish_action.publish(
            self.home, Path(directory), parse_address(address), base=base, version=version, message=message,
            exclude=exclude, contract=contract,
            training_data=None if training_data is None else _examples(training_data),
        )  # fmt: skip

    def pull(self, address: str, to: str | Path | None = None, *, force: bool = False) -> pull_action.Pulled:
        """Copy the files of a revision to a folder."""
        return pull_action.pull(self.home, parse_address(address), None if to is None else Path(to), force=force)

    def find(
        self, text: str = "", *, base: str = "", task: str = "", tag: str = "", namespace: str = ""
    ) -> list[find.Listed]:
        """The adapters for which every given condition holds."""
        return find.find(self.home, text=text, base=base, task=task, tag=tag, namespace=namespace)

    def show(self, address: str) -> show.Shown:
        """Facts, versions, lineage and modules."""
        return show.show(self.home, parse_address(address))

    def compose(
        self,
        parts: Mapping[str, Weight],
        into: str,
        *,
        method: str = "lorahub",
        max_rank: int | None = None,
        policies: Mapping[str, str] | None = None,
        base: str = "",
        allow_unbound: bool = False,
        dtype: str = "",
        version: str = "",
        **params: Any,
    ) -> compose_action.Composed:
        """Mix adapters and publish the result; `params` are the method's, such as `rank=16`.

        A weight is a number, or numbers by globs over modules, the last of them `*`.
        """
        listed = [compose_action.Part(parse_address(address), weight) for address, weight in parts.items()]
        return compose_action.compose(
            self.home, listed, parse_address(into), method=method, params=params, dtype=dtype,
            max_rank=max_rank, policies=policies, base=base, allow_unbound=allow_unbound, version=version,
        )  # fmt: skip

    def search(
        self,
        adapters: Sequence[str],
        examples: str | Path | Sequence[Mapping[str, str]],
        *,
        into: str = "",
        labels: Mapping[str, str] | None = None,
        base: str = "",
        allow_unbound: bool = False,
        select: int | None = None,
        encoder: str | Path | None = None,
        guard: str | Path | Sequence[Mapping[str, str]] | None = None,
        template: str = "",
        chat_template: str = "",
        on_batch: Callable[[Progress], None] | None = None,
        **options: Any,
    ) -> search_action.SearchDone:
        """Search mixing weights on few-shot examples; `options` are those of `SearchOptions` (budget, seed, objective,
        ...). The mean loss on the rows of `guard` must not rise; the templates are those of `mixhub search`.

        `select` searches only so many, the best alone, of `adapters` or, if that is empty, of all adapters of `base`;
        `encoder` is the folder of a sentence encoder, to score only those whose descriptions are like the examples.
        """
        addresses = [parse_address(address) for address in adapters]
        selected = None
        if select is not None:
            selected = preselect_action.select(
                self.home, addresses, _examples(examples), count=select, base=base, labels=labels,
                encoder=None if encoder is None else Path(encoder),
            )  # fmt: skip
            addresses = list(selected.adapters)
        plan = search_action.new_plan(
            self.home,
            addresses,
            _rows(examples),
            guard=None if guard is None else _rows(guard),
            template=template,
            chat_template=chat_template,
            labels=labels,
            into=parse_address(into) if into else None,
            base=base,
            allow_unbound=allow_unbound,
            options=search_action.SearchOptions(**options),
        )
        if selected is not None:
            plan = replace(plan, preselection=selected.as_dict())
        return search_action.run(self.home, plan, on_batch=on_batch)

    def resume(self, search: str, *, on_batch: Callable[[Progress], None] | None = None) -> search_action.SearchDone:
        """Continue a search that was stopped or killed, by its id (`SearchDone.uuid`), with its own settings."""
        return search_action.run(self.home, search_action.stored_plan(self.home, search), on_batch=on_batch)

    def finish(self, search: str) -> search_action.SearchDone:
        """End a stopped search with the best it has found so far, and publish that; nothing is scored."""
        return search_action.finish(self.home, search_action.stored_plan(self.home, search))

    def report(self, search: str) -> SearchReport:
        """What a search found, by its id; `hub.report.page.write_page` makes an HTML page of it."""
        return stored_report(self.home, search)

    def verify(
        self,
        address: str,
        *,
        base: str = "",
        examples: str | Path | None = None,
        replay: bool = False,
        tolerance: float = 0.0,
    ) -> verify_action.Verified:
        """Remake a mix from its recipe and compare it; `reproduced` says whether it is what the recipe says."""
        return verify_action.verify(
            self.home, parse_address(address), base=base, examples=None if examples is None else Path(examples),
            replay=replay, tolerance=tolerance,
        )  # fmt: skip

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
        """Write plain LoRA files, or with `fused` the base model with the adapter added in."""
        return export_action.export(
            self.home, parse_address(address), Path(to), profile=profile, max_rank=max_rank, fused=fused, base=base,
            dtype=dtype, force=force,
        )  # fmt: skip

    def promote(self, address: str, alias: str) -> aliases.Move:
        """Point an alias at the revision that the address names now."""
        return aliases.promote(self.home, parse_address(address), alias)

    def rollback(self, address: str, alias: str) -> aliases.Move:
        """Point an alias back at what it named before its last promotion."""
        return aliases.rollback(self.home, parse_address(address), alias)

    def history(self, address: str, alias: str = "") -> list[aliases.Move]:
        """Every move of one alias or of all of the repo's, oldest first."""
        return aliases.history(self.home, parse_address(address), alias)

    def delete(self, address: str) -> delete.Deleted:
        """Delete a version or hide a repo."""
        return delete.delete(self.home, parse_address(address))


def _examples(given: str | Path | Sequence[Mapping[str, str]]) -> Examples:
    """Rows of a file, or in memory."""
    return read_examples(Path(given)) if isinstance(given, str | Path) else examples_of(given)


def _rows(given: str | Path | Sequence[Mapping[str, str]]) -> Path | Examples:
    return Path(given) if isinstance(given, str | Path) else examples_of(given)
