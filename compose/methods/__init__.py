"""The merge methods: one pure function on one module each, and the literal table of them.

Every function takes `factors` (one per adapter; `None` where an adapter lacks the module, which is a zero delta) and as
many `weights`. It gives factors with scaling 1 in the dtype of the inputs (float32 as read); one of level "dense" gives
a matrix (out, in), which `MergeMethod.apply` factors. To add a method: write a file with its formula and reference on
top, and a row below; reference.py makes --help, the API's schema and the README's table of the rows.
"""

from __future__ import annotations

from ..errors import BadMethod
from .breadcrumbs import breadcrumbs
from .core_space import core_space
from .dare import dare_linear, dare_ties
from .della import della
from .exact import exact
from .knots import knots
from .lego import lego
from .lorahub import ALIGNMENTS, BALANCED, COMPAT, RAW, lorahub
from .magnitude_prune import magnitude_prune
from .method import MergeMethod as MergeMethod
from .params import DENSE_RANK, NORMALIZE, RANK, SCALE, SEED, Param, consensus, density
from .peft_linear import peft_linear
from .slerp import slerp
from .svd import svd, svd_measured
from .task_arithmetic import task_arithmetic
from .ties import ties


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
