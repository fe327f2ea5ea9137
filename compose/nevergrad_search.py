"""Nevergrad's optimizers behind ask and tell, with their traps dealt with. The only file that imports nevergrad.

- The seed is the parametrization's own random state: the points do not depend on numpy's global one.
- An optimizer made from a library function (Cobyla, and NGOpt when it picks Cobyla) runs it in a thread that keeps the
  process alive: `close` ends it, so use an `Asker` as a context manager.
- Once such a function has finished, nevergrad hands out random points: `finished` says so.
- Warnings that are known to mean nothing here are left out by their text; all others come through.
"""

from __future__ import annotations

import difflib
import re
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import nevergrad as ng
import numpy as np
from nevergrad.common.errors import FinishedUnderlyingOptimizerWarning
from numpy.typing import NDArray

from .errors import SearchError

HARMLESS = re.compile(
    r"COBYLA: Invalid (RHOEND|MAXFUN)"  # nevergrad passes no final radius; scipy then takes its own
    r"|Could not import matplotlib"  # cma would like to plot
    r"|Conversion of an array with ndim > 0 to a scalar"  # NGOpt's MetaModel; from numpy 2.4 on it is an error
    r"|orphanated injected solution"  # cma, on a point that it did not propose in this generation
)

# warnings.catch_warnings changes the process for a moment; two searches in two threads must take turns
_WARNINGS = threading.Lock()

LARGEST = 1e20
"""What a loss that is not finite is told as: nevergrad cannot order infinities."""


def check_optimizer(optimizer: str, *, workers: int) -> None:
    """`SearchError` for a name that nevergrad does not have, or one that cannot ask for `workers` points at a time."""
    if optimizer not in ng.optimizers.registry:
        near = difflib.get_close_matches(optimizer, list(ng.optimizers.registry), n=3)
        raise SearchError(
            f"nevergrad has no optimizer {optimizer!r}",
            remedy=f"did you mean {' or '.join(near)}?" if near else "try Cobyla, OnePlusOne or CMA",
        )
    if workers > 1 and ng.optimizers.registry[optimizer].no_parallelization:
        raise SearchError(
            f"{optimizer} asks for one point at a time, not {workers}",
            remedy="use 1, or an optimizer such as OnePlusOne or CMA",
        )


class Asker:
    """One optimizer over `len(start)` numbers within `bounds`, started at `start`.

    `first_step` is the size of its first moves, in weight; by default nevergrad's, a sixth of the range.
    `budget` and `workers` are hints to the optimizer; the caller counts. Error: `SearchError` for a name that nevergrad
    does not have, or an optimizer that does not work here (a missing package, no parallel evaluations).
    """

    def __init__(
        self,
        optimizer: str,
        *,
        start: Sequence[float],
        bounds: tuple[float, float],
        budget: int,
        workers: int,
        seed: int,
        first_step: float | None = None,
    ) -> None:
        check_optimizer(optimizer, workers=workers)
        self.name = optimizer
        self.finished = False
        self._asked: list[Any] = []
        weights = ng.p.Array(init=np.asarray(start, dtype=float), lower=bounds[0], upper=bounds[1])
        if first_step is not None:
            weights.set_mutation(sigma=first_step)
        weights.random_state = np.random.RandomState(seed)
        with self._guarded():
            self._optimizer: Any = ng.optimizers.registry[optimizer](
                parametrization=weights, budget=budget, num_workers=workers
            )

    def __enter__(self) -> Asker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, count: int) -> NDArray[np.float64]:
        """(count, len(start)) points; sets `finished` when one of them is only random."""
        if self._asked:
            raise SearchError(f"ask() before the {len(self._asked)} points of the last one were told")
        with self._guarded():
            self._asked = [self._optimizer.ask() for _ in range(count)]
        return np.array([candidate.value for candidate in self._asked], dtype=np.float64)

    def tell(self, values: Sequence[float]) -> None:
        """The objective values of the points of the last `ask`, in that order."""
        if len(values) != len(self._asked):
            raise SearchError(f"tell() of {len(values)} values for {len(self._asked)} points")
        with self._guarded():
            for candidate, value in zip(self._asked, values, strict=True):
                self._optimizer.tell(candidate, float(value) if np.isfinite(value) else LARGEST)
                self._settle()
        self._asked = []

    def recommend(self) -> NDArray[np.float64]:
        """The optimizer's own choice, which may be worse than the best point told; for the lorahub preset only."""
        with self._guarded():
            return np.array(self._optimizer.recommend().value, dtype=np.float64)

    def close(self) -> None:
        """End the optimizer's threads."""
        for thread in _threads_of(self._optimizer):
            thread.stop()
            thread.join(timeout=5)
        self._optimizer = None

    def _settle(self) -> None:
        """Wait for a library function's answer, so that its warnings come while they are looked for. Only a moment:
        one that wants more points told before it goes on does not answer."""
        deadline = time.monotonic() + 0.1
        for thread in _threads_of(self._optimizer):
            while thread.is_alive() and thread.messages_ask.empty() and time.monotonic() < deadline:
                time.sleep(0.0002)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Sort the warnings; turn nevergrad's failures into `SearchError`."""
        with _WARNINGS, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                yield
            except Exception as error:
                raise SearchError(
                    f"the optimizer {self.name} failed: {error}", remedy="choose another with --optimizer"
                ) from error
        for warning in caught:
            if issubclass(warning.category, FinishedUnderlyingOptimizerWarning):
                self.finished = True
            elif not HARMLESS.search(str(warning.message)):
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _threads_of(optimizer: Any) -> list[Any]:
    """The threads of an optimizer and of the optimizers inside it (NGOpt holds the one that it picked)."""
    found: list[Any] = []
    seen: set[int] = set()
    to_visit = [optimizer]
    while to_visit:
        one = to_visit.pop()
        if id(one) in seen or not isinstance(one, ng.optimizers.base.Optimizer):
            continue
        seen.add(id(one))
        if (outer := getattr(one, "_messaging_thread", None)) is not None:
            found.append(outer._thread)
        for value in vars(one).values():
            to_visit += value if isinstance(value, (list, tuple)) else [value]
    return found
