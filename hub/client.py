"""The hub from Python: the same journeys as the command line, on a local home or on a server.

    from hub.client import Hub
    with Hub() as hub:                                   # as the environment says: MIXHUB_URL, else MIXHUB_HOME
        hub.publish("out/sql-lora", "team/sql", base="org/base")
        hub.compose({"team/sql": 0.6, "team/docs@v2": -0.3}, "team/mix")
        folder = hub.pull("team/mix@v1", "mix").directory  # PeftModel.from_pretrained(model, folder)

`Hub(home="/data/adapters")` is a home on this machine, `Hub(url="http://hub:8000")` a server. What differs between the
two is in `hub/local_hub.py` and `hub/remote/hub.py`, and nowhere else. Loads no torch; merging and scoring do, when
they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace as replaced
from pathlib import Path
from types import TracebackType
from typing import Any

from compose.examples import Examples, examples_of, read_examples
from compose.layer_weights import Weight
from compose.trials import Progress
from hub.actions import export as export_action
from hub.actions import preselect as preselect_action
from hub.actions import search as search_action
from hub.actions import search_plan
from hub.actions.aliases import Move
from hub.actions.compose import Composed, MixOptions, Part
from hub.actions.delete import Deleted
from hub.actions.find import Listed
from hub.actions.publish import Published
from hub.actions.pull import Pulled
from hub.actions.search import Mixer, SearchDone
from hub.actions.show import Shown
from hub.actions.verify import Verified
from hub.address import Address, parse_address
from hub.card_facts import UsageContract
from hub.home import Home
from hub.report.search_report import SearchReport, stored_report, stored_reports
from hub.settings import Settings

Rows = str | Path | Sequence[Mapping[str, str]]
"""A file of rows, or rows in memory."""


class Hub:
    """An opened home, or a server. Use it in a `with` block, or call `close`; one instance belongs to one thread.

    `home` is a folder, `url` a server; without both it is as `settings` say, by default those of the environment.
    `token` is for a server; by default MIXHUB_TOKEN, or what `mixhub login` or HF_TOKEN left.

    Making a `Hub` makes a `LocalHub` or a `RemoteHub`; what raises NotImplementedError here, both of them have.
    """

    def __new__(
        cls,
        home: str | Path | None = None,
        *,
        url: str | None = None,
        token: str | None = None,
        settings: Settings | None = None,
    ) -> Hub:
        if cls is not Hub:
            return super().__new__(cls)
        from hub.local_hub import LocalHub
        from hub.remote.hub import RemoteHub

        return super().__new__(RemoteHub if _chosen(home, url, token, settings).url else LocalHub)

    def __init__(
        self,
        home: str | Path | None = None,
        *,
        url: str | None = None,
        token: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.settings = _chosen(home, url, token, settings)
        self._stack = ExitStack()

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
        replace: bool = False,
        training_data: Rows | None = None,
    ) -> Published:
        """Publish a folder as a new immutable revision with the next version; see `mixhub publish --help`."""
        raise NotImplementedError

    def pull(self, address: str, to: str | Path | None = None, *, force: bool = False) -> Pulled:
        """Copy the files of a revision to a folder."""
        raise NotImplementedError

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
        """The adapters for which every given condition holds."""
        raise NotImplementedError

    def show(self, address: str) -> Shown:
        """Facts, versions, lineage and modules."""
        raise NotImplementedError

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
    ) -> Composed:
        """Mix adapters and publish the result; `params` are the method's, such as `rank=16`.

        A weight is a number, or numbers by globs over modules, the last of them `*`.
        """
        listed = [Part(parse_address(address), weight) for address, weight in parts.items()]
        options = MixOptions(method, params, dtype, max_rank, policies or {}, base)
        return self.mix(listed, parse_address(into), options, allow_unbound=allow_unbound, version=version)

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
        """As `compose`, with everything read already."""
        raise NotImplementedError

    def remake(
        self,
        recipe: str | Path,
        into: str,
        *,
        base: str = "",
        version: str = "",
        initial: Mapping[str, Path] | None = None,
    ) -> Composed:
        """Remake the mix of a mixhub_recipe.json, bit for bit, and publish it."""
        raise NotImplementedError

    def search(
        self,
        adapters: Sequence[str],
        examples: str | Path | Sequence[Mapping[str, str]],
        *,
        into: str = "",
        labels: str | Path | Mapping[str, str] | None = None,
        base: str = "",
        allow_unbound: bool = False,
        select: int | None = None,
        encoder: str | Path | None = None,
        guard: str | Path | Sequence[Mapping[str, str]] | None = None,
        template: str = "",
        chat_template: str = "",
        on_batch: Callable[[Progress], None] | None = None,
        **options: Any,
    ) -> SearchDone:
        """Search mixing weights on few-shot examples; `options` are those of `SearchOptions` (budget, seed, objective,
        ...). The mean loss on the rows of `guard` must not rise; the templates are those of `mixhub search`.

        `select` searches only so many, the best alone, of `adapters` or, if that is empty, of all adapters of `base`;
        `encoder` is the folder of a sentence encoder, to score only those whose descriptions are like the examples.
        Scoring is done on this machine, also for a server: it lends the adapters and takes the mix.
        """
        self.check_target(into)
        names = list(adapters or self.candidates(base=base))
        addresses = self.bring(names, base=base)
        label_texts = Path(labels) if isinstance(labels, str) else labels
        selected = None
        if select is not None:
            selected = preselect_action.select(
                self.workshop, addresses, rows_of(examples), count=select, named=bool(adapters), base=base,
                labels=label_texts, encoder=None if encoder is None else Path(encoder),
            )  # fmt: skip
            named = dict(zip(addresses, names, strict=True))
            addresses = list(selected.adapters)
            names = [named.get(address, str(address)) for address in addresses]
        plan = search_plan.new_plan(
            self.workshop,
            addresses,
            Path(examples) if isinstance(examples, str | Path) else examples_of(examples),
            guard=None if guard is None else rows_of(guard),
            template=template,
            chat_template=chat_template,
            into=parse_address(into) if into else None,
            labels=Path(labels) if isinstance(labels, str) else labels,
            base=base,
            allow_unbound=allow_unbound,
            options=search_plan.SearchOptions(**options),
            names=adapters,
        )
        if selected is not None:
            plan = replaced(plan, preselection=selected.as_dict())
        return search_action.run(self.workshop, plan, on_batch=on_batch, mixer=self.mixer)

    def resume(self, search: str, *, on_batch: Callable[[Progress], None] | None = None) -> SearchDone:
        """Continue a search that was stopped or killed, by its id (`SearchDone.uuid`), with its own settings."""
        plan = search_plan.stored_plan(self.workshop, search)
        return search_action.run(self.workshop, plan, on_batch=on_batch, mixer=self.mixer)

    def finish(self, search: str) -> SearchDone:
        """End a stopped search with the best it has found so far, and publish that; nothing is scored."""
        return search_action.finish(
            self.workshop, search_plan.stored_plan(self.workshop, search), mixer=self.mixer
        )  # fmt: skip

    def report(self, search: str) -> SearchReport:
        """What a search found, by its id or the address of its mix; `hub.report.page.write_page` makes an HTML page."""
        return stored_report(self.workshop, search)

    def searches(self, *, limit: int | None = None) -> list[SearchReport]:
        """The searches that were made here, the newest first."""
        return stored_reports(self.workshop, limit=limit)

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
        """Remake a mix from its recipe and compare it; `reproduced` says whether it is what the recipe says."""
        raise NotImplementedError

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
        initial: Path | None = None,
        force: bool = False,
    ) -> export_action.Exported:
        """Write plain LoRA files, or with `fused` the base model with the adapter added in; on this machine."""
        [here] = self.bring([address], base=base, with_base=fused)
        done = export_action.export(
            self.workshop, here, Path(to), profile=profile, max_rank=max_rank, fused=fused, base=base, dtype=dtype,
            initial=initial, force=force,
        )  # fmt: skip
        return replaced(done, address=parse_address(address))

    def check_target(self, into: str) -> None:
        """Raise now what publishing a mix there would raise after a long search; empty: nothing is to be published."""
        raise NotImplementedError

    def candidates(self, *, base: str, namespace: str = "") -> list[str]:
        """The adapters that a selection over all of a base has to be given by name; none where it finds them."""
        raise NotImplementedError

    @property
    def workshop(self) -> Home:
        """The home where tensors are worked on: the opened one, or the mirror of the server."""
        raise NotImplementedError

    @property
    def mixer(self) -> Mixer:
        """Makes and publishes the mix of adapters of the workshop."""
        raise NotImplementedError

    def bring(self, adapters: Sequence[str], *, base: str = "", with_base: bool = True) -> list[Address]:
        """Addresses in the workshop for these adapters, which are all there by then; `with_base`: also the `base`, or
        the one that they are bound to, and in any case where an adapter cannot be read without it."""
        raise NotImplementedError

    def promote(self, address: str, alias: str) -> Move:
        """Point an alias at the revision that the address names now."""
        raise NotImplementedError

    def rollback(self, address: str, alias: str) -> Move:
        """Point an alias back at what it named before its last promotion."""
        raise NotImplementedError

    def history(self, address: str, alias: str = "") -> list[Move]:
        """Every move of one alias or of all of the repo's, oldest first."""
        raise NotImplementedError

    def protect(self, address: str, alias: str, role: str = "admin") -> None:
        """Let only this role and above move an alias through a server."""
        raise NotImplementedError

    def delete(self, address: str, *, force: bool = False) -> Deleted:
        """Delete a version or hide a repo; `force`: also a repo that aliases name."""
        raise NotImplementedError


def rows_of(given: Rows) -> Examples:
    """Rows of a file, or in memory."""
    return read_examples(Path(given)) if isinstance(given, str | Path) else examples_of(given)


def _chosen(
    home: str | Path | None, url: str | None, token: str | None, settings: Settings | None
) -> Settings:  # fmt: skip
    """A folder that is given is meant, whatever MIXHUB_URL says; with a `url` beside it, it holds the mirror."""
    chosen = settings or Settings()
    changes: dict[str, object] = {} if home is None else {"home": Path(home), "url": ""}
    changes |= {} if url is None else {"url": url}
    changes |= {} if token is None else {"token": token}
    return chosen.model_copy(update=changes)
