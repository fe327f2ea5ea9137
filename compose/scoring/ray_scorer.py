"""The same scorers in Ray actors, one per GPU or CPU slot: a batch is shared out among them and put together again.

What is shared out are the forwards of the batch (`PopulationScorer.share`), not its candidates: every forward has the
rows that it has in a single process, wherever it runs, so the numbers are the same to the last bit on machines of one
kind, however many actors there are. An actor that is lost (process, node, out of memory) only means that its forwards
are asked for again, of another one; a new actor is started in its place where there is room.

Ray must be connected before (`ray.init`); actors load the base model from the same path on every node.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SearchError
from .population import Share

LOSSES_IN_A_ROW = 3
"""Times the number of actors: more than that without one answer between them, and the search gives up."""

START_SECONDS = 600
"""Time for a cluster to free room or to add a node."""

LOST = object()
"""In place of the answer of an actor that was lost."""

MakeScorer = Callable[..., Any]


class RayScorers:
    """Actors that hold one base model each. `load` runs in every actor and gives its `make_scorer`.

    actors    how many; by default one per GPU that Ray has (`gpus=True`), or per `threads` of its CPUs.
    threads   of torch in each CPU actor; those of this process, for the same numbers.
    warn      is told, in words for a person, of each actor that is lost.

    A context manager: leaving it ends the actors.
    """

    def __init__(
        self,
        load: Callable[[], MakeScorer],
        *,
        actors: int | None = None,
        gpus: bool = False,
        threads: int = 1,
        warn: Callable[[str], None] = lambda _words: None,
    ) -> None:
        import ray

        self._ray: Any = ray
        self._load = ray.put(load)  # stored once, for all actors and those that replace them
        self._threads, self._warn = threads, warn
        self._options = {"num_gpus": 1} if gpus else {"num_cpus": threads}
        self._class = ray.remote(_Actor)
        self.count = _count(ray.cluster_resources(), actors, gpus=gpus, threads=threads)
        self._idle: list[Any] = []
        self._waiting: dict[Any, tuple[Any, int | None]] = {}  # a call's reference -> its actor and piece of work
        self._lost = 0  # actors in a row
        self._numbers = itertools.count()
        self._kept_from = 0
        for _ in range(self.count):
            self._start()

    def __enter__(self) -> RayScorers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for actor in [*self._idle, *(actor for actor, _ in self._waiting.values())]:
            self._ray.kill(actor)
        self._idle, self._waiting = [], {}

    def make_scorer(self, **options: Any) -> RayScorer:
        """The scorer that `load()(**options)` gives, in all actors. Errors are those of making it."""
        return RayScorer(self, (next(self._numbers), self._kept_from, self._ray.put(options)))

    def forget(self) -> None:
        """No scorer that was made so far is asked for anything more: an actor drops them when it makes the next one."""
        self._kept_from = next(self._numbers)

    def ask(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """`method` of the actors, once for each of `arguments`; the results in that order.

        What the scorer itself raises is raised here. `SearchError` when actors are only lost and never answer. After
        an interrupt nothing more can be asked.
        """
        open_pieces = list(range(len(arguments)))[::-1]
        results: dict[int, Any] = {}
        while len(results) < len(arguments):
            while self._idle and open_pieces:
                actor, number = self._idle.pop(), open_pieces.pop()
                self._waiting[getattr(actor, method).remote(*arguments[number])] = (actor, number)
            done = self._next()
            actor, piece = self._waiting.pop(done)
            result = self._result(done, actor)
            if result is LOST:
                if piece is not None:
                    open_pieces.append(piece)
                continue
            if isinstance(result, Exception):
                self._settle()
                raise result
            if piece is not None:
                results[piece] = result
                self._lost = 0  # that an actor could start is no sign yet
        return [results[piece] for piece in range(len(arguments))]

    def _next(self) -> Any:
        """The next call that has ended; `SearchError` when nobody works and no actor finds room to start."""
        starting = all(piece is None for _, piece in self._waiting.values())
        done, _ = self._ray.wait(list(self._waiting), num_returns=1, timeout=START_SECONDS if starting else None)
        if not done:
            raise SearchError(
                f"no Ray actor could start within {START_SECONDS} seconds: the cluster's CPUs or GPUs are taken",
                remedy="free some, then go on with mixhub search --resume",
            )
        return done[0]

    def _result(self, reference: Any, actor: Any) -> Any:
        """What a call that has ended gives, or raised; the actor is free again. `LOST` when it is replaced instead."""
        try:
            result = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            result = error
        except self._ray.exceptions.RayError as error:
            self._replace(actor, error)
            return LOST
        self._idle.append(actor)
        return result

    def _settle(self) -> None:
        """Wait for what is still under way, so that no answer of this batch is taken for one of the next."""
        for reference, (actor, piece) in list(self._waiting.items()):
            if piece is not None:
                del self._waiting[reference]
                self._result(reference, actor)

    def _start(self) -> None:
        actor = self._class.options(**self._options).remote(self._load, self._threads)
        self._waiting[actor.ready.remote()] = (actor, None)

    def _replace(self, actor: Any, error: Exception) -> None:
        self._ray.kill(actor)  # one that is only out of reach must not keep its place
        self._lost += 1
        if self._lost > LOSSES_IN_A_ROW * self.count:
            raise SearchError(
                f"{self._lost} Ray actors were lost, one after the other; the last one: {error}",
                remedy="look at `ray status` and the workers' memory, then go on with mixhub search --resume",
            ) from error
        self._warn("a Ray actor was lost; its work is asked again, of another one")
        self._start()


class RayScorer:
    """A `Scorer` whose forwards run in the actors of `RayScorers`."""

    def __init__(self, actors: RayScorers, made: tuple[int, int, Any]) -> None:
        """`made`: its number, the lowest number of those that are still wanted, and a reference to its options."""
        self._actors, self._made = actors, made
        [self._facts] = actors.ask("describe", [self._made])
        self._budget: int = self._facts["token_budget"]

    @property
    def adapter_names(self) -> tuple[str, ...]:
        names: tuple[str, ...] = self._facts["adapter_names"]
        return names

    @property
    def token_counts(self) -> NDArray[np.int64]:
        counts: NDArray[np.int64] = self._facts["token_counts"]
        return counts

    @property
    def method(self) -> str:
        return str(self._facts["method"])

    @property
    def method_params(self) -> Mapping[str, object]:
        params: Mapping[str, object] = self._facts["method_params"]
        return params

    def example_losses(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        whole = np.full((len(weights), len(self.token_counts)), np.nan)
        for part in self._parts("example_losses", weights):
            np.copyto(whole, part, where=~np.isnan(part))
        return whole

    def predictions(self, weights: NDArray[np.float64]) -> list[list[str]]:
        parts = self._parts("predictions", weights)
        return [
            [next(text for text in cell if text is not None) for cell in zip(*rows, strict=True)]
            for rows in zip(*parts, strict=True)
        ]

    def _parts(self, method: str, weights: NDArray[np.float64]) -> list[Any]:
        """The results of each share: NaN or None where another one has them. All actors cut with the same budget of
        tokens; where one had to halve it, all do, and the batch is asked for again."""
        count = self._actors.count
        while True:
            shares = [(*self._made, method, weights, (i, count), self._budget) for i in range(count)]
            answers = self._actors.ask("run", shares)
            least = min(budget for _, budget in answers)
            if least >= self._budget:
                return [result for result, _ in answers]
            self._budget = least


class _Actor:
    """Lives in a Ray worker: one base model, and the scorers that were asked of it so far."""

    def __init__(self, load: Callable[[], MakeScorer], threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._load = load
        self._make: MakeScorer | None = None
        self._scorers: dict[int, Any] = {}

    def ready(self) -> None:
        """Answered once the worker runs."""

    def describe(self, number: int, kept_from: int, options: Mapping[str, Any]) -> Any:
        """What does not change, or the error of making the scorer."""
        try:
            scorer = self._scorer(number, kept_from, options)
        except Exception as error:
            return error
        names = ("adapter_names", "token_counts", "method", "token_budget")
        return {name: getattr(scorer, name) for name in names} | {"method_params": dict(scorer.method_params)}

    def run(
        self,
        number: int,
        kept_from: int,
        options: Mapping[str, Any],
        method: str,
        weights: NDArray[np.float64],
        share: Share,
        token_budget: int,
    ) -> Any:
        """The results of a share of the forwards and the token budget they ended with, or the error of the scorer."""
        try:
            scorer = self._scorer(number, kept_from, options)
            scorer.share, scorer.token_budget = share, token_budget
            # a copy: what Ray hands over is read-only
            return getattr(scorer, method)(np.array(weights)), scorer.token_budget
        except Exception as error:
            return error

    def _scorer(self, number: int, kept_from: int, options: Mapping[str, Any]) -> Any:
        self._scorers = {other: scorer for other, scorer in self._scorers.items() if other >= kept_from}
        if self._make is None:
            self._make = self._load()
        if number not in self._scorers:
            self._scorers[number] = self._make(**options)
        return self._scorers[number]


def _count(resources: Mapping[str, float], wanted: int | None, *, gpus: bool, threads: int) -> int:
    """How many actors; `SearchError` when the whole cluster has no room for them: they would be waited for forever."""
    room = int(resources.get("GPU", 0)) if gpus else int(resources.get("CPU", 0)) // threads
    if room < (wanted or 1):
        instead = "--device cpu, or a cluster whose nodes have GPUs" if gpus else "search without --ray"
        each = "a GPU each" if gpus else f"{threads} CPU{'s' if threads > 1 else ''} each"
        raise SearchError(
            f"this Ray cluster has room for {room} actors with {each}, not for {wanted or 1}",
            remedy="--ray-actors with fewer" if room else instead,
        )
    return wanted or room
