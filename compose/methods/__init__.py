"""The merge methods: one pure function on one module each, and the literal table of them.

Every function takes `factors` (one per adapter; `None` where an adapter lacks the module, which is a zero delta) and as
many `weights`. It gives factors with scaling 1 in the dtype of the inputs (float32 as read); one of level "dense" gives
a matrix (out, in), which `apply` factors. To add a method: write a file with its formula and reference on top, and a
row below. --help, the API's schema and the README's table are made from the rows; `python -m compose.methods` prints
the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..adapter import Factors
from ..errors import BadMethod
from ..truncate import factor_dense
from .breadcrumbs import breadcrumbs
from .core_space import core_space
from .dare import dare_linear, dare_ties
from .della import della
from .exact import exact
from .knots import knots
from .lego import lego
from .lorahub import ALIGNMENTS, BALANCED, COMPAT, RAW, lorahub
from .magnitude_prune import magnitude_prune
from .params import DENSE_RANK, NORMALIZE, RANK, SCALE, SEED, Param, Value, consensus, density
from .peft_linear import peft_linear
from .slerp import slerp
from .svd import svd, svd_measured
from .task_arithmetic import task_arithmetic
from .ties import ties

LEVELS = {
    "factor": "on A and B, or on their rank-one units",
    "core": "on small matrices in bases that all adapters share",
    "delta": "on s B A, by its factors",
    "dense": "on s B A, entry by entry; the result is cut to a rank",
}


@dataclass(frozen=True)
class MergeMethod:
    """One row; `level` is a key of LEVELS. Of level "delta" those without `nonlinear` are linear in the weights."""

    name: str
    function: Callable[..., Any]
    level: str
    summary: str
    reference: str
    params: tuple[Param, ...] = ()
    measured: Callable[..., tuple[Factors, float]] | None = None
    """As `function`, where it may keep less than it means: with the squared norm of what it means."""
    nonlinear: bool = False

    def resolve(self, given: Mapping[str, object]) -> dict[str, Value]:
        """All options with their values; an unknown option or a bad value is `BadMethod`."""
        known = {param.name: param for param in self.params}
        self._only(given)
        return {name: param.check(self.name, given.get(name, param.default)) for name, param in known.items()}

    def parse(self, given: Mapping[str, str]) -> dict[str, Value]:
        """Options as texts, from a command line."""
        self._only(given)
        return {p.name: p.parse(self.name, given[p.name]) for p in self.params if p.name in given}

    def apply(
        self, factors: Sequence[Factors | None], weights: Sequence[float], options: Mapping[str, Value]
    ) -> tuple[Factors, float | None]:
        """Merge one module; with the squared norm of what was meant before it was cut, `None` where nothing is cut."""
        if self.level == "dense":
            rank = options["rank"]
            matrix: Tensor = self.function(factors, weights, **{k: v for k, v in options.items() if k != "rank"})
            bound = rank if isinstance(rank, int) else sum(f.rank for f in factors if f is not None)
            return factor_dense(matrix, bound), matrix.double().square().sum().item()
        if self.measured is not None:
            return self.measured(factors, weights, **options)
        merged: Factors = self.function(factors, weights, **options)
        return merged, None

    def _only(self, given: Mapping[str, object]) -> None:
        names = [param.name for param in self.params]
        for name in given:
            if name not in names:
                raise BadMethod(
                    f"method {self.name!r} has no option {name!r}", remedy=f"its options: {', '.join(names) or 'none'}"
                )


def _table(*rows: MergeMethod) -> dict[str, MergeMethod]:
    return {row.name: row for row in rows}


METHODS: dict[str, MergeMethod] = _table(
    MergeMethod(
        name="lorahub",
        function=lorahub,
        level="factor",
        summary="element-wise sum of A and of B; quadratic in the weights, f(w) = f(-w)",
        reference="arXiv 2307.13269",
        params=(
            Param("fold", "choice", BALANCED, "how the scalings come in", (BALANCED, COMPAT)),
            Param("align", "choice", RAW, "turn the factors towards each other first", ALIGNMENTS),
        ),
    ),
    MergeMethod(
        name="exact",
        function=exact,
        level="delta",
        summary="the weighted sum of the deltas, without loss; the ranks add up",
        reference="arXiv 2410.13025 (CAT), PEFT cat",
    ),
    MergeMethod(
        name="svd",
        function=svd,
        level="delta",
        summary="the weighted sum of the deltas, cut to a small rank by singular values",
        reference="Eckart and Young 1936, PEFT svd",
        params=(RANK,),
        measured=svd_measured,
    ),
    MergeMethod(
        name="peft-linear",
        function=peft_linear,
        level="factor",
        summary="PEFT's linear combination, with its cross terms; to compare with",
        reference="PEFT 0.21 add_weighted_adapter",
    ),
    MergeMethod(
        name="task-arithmetic",
        function=task_arithmetic,
        level="delta",
        summary="the weighted sum of the deltas times a scale, to be fused into the base",
        reference="arXiv 2212.04089",
        params=(SCALE,),
    ),
    MergeMethod(
        name="ties",
        function=ties,
        level="dense",
        summary="trim each delta, elect a sign per entry, merge those that agree",
        reference="arXiv 2306.01708",
        params=(density(), NORMALIZE, SCALE, DENSE_RANK),
    ),
    MergeMethod(
        name="dare-linear",
        function=dare_linear,
        level="dense",
        summary="drop entries at random, rescale the rest, add up",
        reference="arXiv 2311.03099",
        params=(density(), SEED, DENSE_RANK),
    ),
    MergeMethod(
        name="dare-ties",
        function=dare_ties,
        level="dense",
        summary="drop entries at random, rescale the rest, elect signs",
        reference="arXiv 2311.03099",
        params=(density(), NORMALIZE, SEED, DENSE_RANK),
    ),
    MergeMethod(
        name="magnitude-prune",
        function=magnitude_prune,
        level="dense",
        summary="keep the largest entries of each delta, add up",
        reference="PEFT magnitude_prune",
        params=(density(), DENSE_RANK),
    ),
    MergeMethod(
        name="della",
        function=della,
        level="dense",
        summary="drop entries at random, small ones more often, rescale the rest, elect signs",
        reference="arXiv 2406.11617",
        params=(
            density(),
            Param("epsilon", "number", 0.1, "how far probabilities lie from the density", low=0.0, high=0.5),
            consensus("elect"),
            NORMALIZE,
            SEED,
            DENSE_RANK,
        ),
    ),
    MergeMethod(
        name="breadcrumbs",
        function=breadcrumbs,
        level="dense",
        summary="leave out outliers and the smallest entries of each delta, add up",
        reference="arXiv 2312.06795",
        params=(
            density(0.9),
            Param("outliers", "number", 0.01, "share of the largest entries that goes", low=0.0, high=1.0),
            consensus("sum"),
            NORMALIZE,
            DENSE_RANK,
        ),
    ),
    MergeMethod(
        name="slerp",
        function=slerp,
        level="delta",
        summary="along the arc between two deltas",
        reference="Shoemake 1985, mergekit slerp",
        nonlinear=True,
    ),
    MergeMethod(
        name="knots",
        function=knots,
        level="core",
        summary="TIES inside the singular basis that all deltas share",
        reference="arXiv 2410.19735",
        params=(density(), consensus("elect"), NORMALIZE),
    ),
    MergeMethod(
        name="core-space",
        function=core_space,
        level="core",
        summary="TIES or DARE on small cores that hold each delta without loss",
        reference="arXiv 2509.17786",
        params=(
            Param("inner", "choice", "ties", "what merges the cores", ("ties", "dare-linear", "dare-ties", "sum")),
            density(),
            NORMALIZE,
            SEED,
        ),
    ),
    MergeMethod(
        name="lego",
        function=lego,
        level="factor",
        summary="cluster the rank-one units of all adapters into a new adapter",
        reference="arXiv 2409.16167",
        params=(RANK,),
    ),
)


def find_method(name: str) -> MergeMethod:
    """The row called `name`, or `BadMethod` listing the names there are."""
    if name not in METHODS:
        raise BadMethod(f"there is no merge method {name!r}", remedy=f"use one of: {', '.join(METHODS)}")
    return METHODS[name]


def method_table() -> str:
    """All methods as one table in Markdown, for the README."""
    lines = ["| method | level | what it does | options (default) | reference |", "|---|---|---|---|---|"]
    for row in METHODS.values():
        options = ", ".join(f"`{p.name}` ({'none' if p.default is None else p.default})" for p in row.params) or "-"
        lines.append(f"| `{row.name}` | {row.level} | {row.summary} | {options} | {row.reference} |")
    return "\n".join(lines) + "\n"


def method_help() -> str:
    """All methods and their options in lines, for --help."""
    lines = []
    for row in METHODS.values():
        lines.append(f"{row.name}: {row.summary} ({row.reference})")
        lines += [f"    {p.name}: {p.summary}; {p.expected}; default {p.default}" for p in row.params]
    return "\n".join(lines)
