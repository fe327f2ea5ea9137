"""What an adapter does to each tensor of its base, planned and checked before anything is read or written.

For a tensor W: W' = (R or W) * l + L M, with R a replacement (whole, or some rows), l IA3's multiplier, and L M the
low-rank change in the layout of W: L (rows, r), M (r, columns). Nothing dense is made here. The head of a base with
tied embeddings is one tensor with the embedding: where an adapter changes the two alike the change is made once, else
the head becomes a tensor of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from .adapter import Factors, LoraAdapter, Multiplier, Replacement
from .base_shapes import locate_weight
from .base_weights import BaseWeights
from .errors import IncompatibleAdapters
from .orientation import is_transposed, weight_shape

REMEDY = "check that the adapter is for this base"
HEADS = ("lm_head", "embed_out")
TIED_INPUTS = ("embed_tokens", "wte", "embed_in", "word_embeddings", "shared", "tok_embeddings")
SCALED_HEADS = frozenset({"t5", "mt5", "umt5", "longt5", "switch_transformers", "pop2piano", "udop", "pix2struct"})
"""Models whose head computes otherwise when it is not tied (transformers modeling_t5.py: d_model**-0.5)."""


@dataclass(frozen=True)
class Change:
    """The change of one tensor; `shape` is that of the result, `start` the base's tensor that it begins from."""

    start: str
    shape: tuple[int, ...]
    left: Tensor | None = None
    right: Tensor | None = None
    replacement: Replacement | None = None
    multiplier: Multiplier | None = None
    columns: bool = False
    """The multiplier runs along the columns of the stored weight."""

    def apply(self, block: Tensor, first: int) -> None:
        """Change `block` (n, columns) in place: float32, rows `first` to first + n of the tensor."""
        last = first + block.shape[0]
        if self.replacement is not None:
            _replace(block, self.replacement, first, last)
        if self.multiplier is not None:
            values = self.multiplier.values
            block *= values if self.columns else values[first:last, None]
        if self.left is not None and self.right is not None:
            block.addmm_(self.left[first:last].to(block), self.right.to(block))


def _replace(block: Tensor, replacement: Replacement, first: int, last: int) -> None:
    if replacement.rows is None:
        block.copy_(replacement.values.reshape(replacement.values.shape[0], -1)[first:last])
        return
    for row, values in zip(replacement.rows, replacement.values, strict=True):
        if first <= row < last:
            block[row - first] = values


@dataclass(frozen=True)
class FusePlan:
    """Tensor name -> its change; a name that the base lacks is new. `untied`: the head is one of these."""

    changes: Mapping[str, Change]
    untied: bool = False


def plan_changes(adapter: LoraAdapter, base: BaseWeights, *, tied: bool) -> FusePlan:
    """Everything that `adapter` changes in `base`; `IncompatibleAdapters` names what does not fit."""
    planner = _Planner(adapter.name, base, tied)
    for name, replacement in adapter.replaced.items():
        planner.replace_tensor(name, replacement)
    for path, multiplier in adapter.multipliers.items():
        planner.multiply(path, multiplier)
    for path, factors in adapter.modules.items():
        planner.add_factors(path, factors)
    for path, bias in adapter.biases.items():
        planner.add_bias(path, bias)
    return planner.finished()


class _Planner:
    """Collects the changes by tensor, and settles tied heads at the end."""

    def __init__(self, owner: str, base: BaseWeights, tied: bool) -> None:
        self.owner, self.base, self.tied = owner, base, tied
        self.changes: dict[str, Change] = {}
        self.head: str | None = None

    def replace_tensor(self, name: str, replacement: Replacement) -> None:
        found = self.base.name_of(name)
        place = self._place(name, [found] if found else [], name)
        change = self._of(place)
        shape, given = change.shape, tuple(replacement.values.shape)
        if replacement.rows is not None:
            fits = given[1:] == shape[1:] and max(replacement.rows) < shape[0]
        else:  # an embedding may have grown
            fits = given == shape or (len(shape) == 2 and given[1:] == shape[1:])
            shape = given
        if not fits:
            raise self._misfit(place, change.shape, given)
        self.changes[place] = replace(change, shape=shape, replacement=replacement)

    def multiply(self, path: str, multiplier: Multiplier) -> None:
        place = self._place(path, locate_weight(path, "linear", self.base.shapes), f"{path}.weight")
        change, transposed = self._of(place), is_transposed(path, "linear", self.base.model_type)
        sides = weight_shape(change.shape, transposed=transposed)
        if sides[0 if multiplier.side == "out" else 1] != multiplier.values.numel():
            raise self._misfit(place, change.shape, tuple(multiplier.values.shape))
        columns = (multiplier.side == "in") != transposed
        self.changes[place] = replace(change, multiplier=multiplier, columns=columns)
        bias = place.removesuffix("weight") + "bias"
        if multiplier.side == "out" and bias in self.base.shapes:
            self.changes[bias] = replace(self._of(bias), multiplier=multiplier)

    def add_factors(self, path: str, factors: Factors) -> None:
        last = "in_proj_weight" if factors.kind == "attention" else "weight"
        place = self._place(path, locate_weight(path, factors.kind, self.base.shapes), f"{path}.{last}")
        change = self._of(place)
        transposed = is_transposed(path, factors.kind, self.base.model_type)
        expected = (factors.out_features, factors.in_features)
        if weight_shape(change.shape, transposed=transposed) != expected:
            raise self._misfit(place, change.shape, expected[::-1] if transposed else expected)
        scaled = factors.scaling * factors.B
        left, right = (factors.A.T, scaled.T) if transposed else (scaled, factors.A)
        self.changes[place] = replace(change, left=left, right=right)

    def add_bias(self, path: str, bias: Tensor) -> None:
        last = "in_proj_bias" if f"{path}.in_proj_bias" in self.base.shapes else "bias"
        name = self.base.name_of(f"{path}.{last}")
        place = self._place(path, [name] if name else [], f"{path}.{last}")
        change = self._of(place)
        if change.shape != tuple(bias.shape):
            raise self._misfit(place, change.shape, tuple(bias.shape))
        self.changes[place] = replace(change, left=bias[:, None], right=torch.ones(1, 1))

    def finished(self) -> FusePlan:
        if not self.tied:
            return FusePlan(self.changes)
        source = self._embedding()
        head = self.head or _named(self.changes, HEADS) or "lm_head.weight"
        of_embedding, of_head = self.changes.get(source), self.changes.get(head)
        shared = of_embedding is not None and of_head is None and _is_vocabulary(of_embedding)
        if (of_embedding is None and of_head is None) or shared:
            return FusePlan(self.changes)
        if of_embedding is not None and of_head is not None and _alike(of_embedding, of_head):
            return FusePlan({name: change for name, change in self.changes.items() if name != head})
        if self.base.model_type in SCALED_HEADS:
            raise IncompatibleAdapters(
                f"{self.owner}: changes the embedding and the head of {self.base.directory.name} differently, which "
                f"are tied; a {self.base.model_type} with an untied head computes otherwise",
                remedy="export the adapter instead of fusing it",
            )
        untied = of_head or Change(source, self.base.shapes[source])
        return FusePlan({**self.changes, head: untied}, untied=True)

    def _place(self, path: str, places: Iterable[str], name: str) -> str:
        """The one tensor that is meant; a tied head that has none of its own gets `name`."""
        found = list(places)
        if not found and self.tied and path.removesuffix(".weight").rpartition(".")[2] in HEADS:
            self.head = name
            return name
        if len(found) != 1:
            raise IncompatibleAdapters(
                f"{self.owner}: module {path} has {len(found)} tensors in the base, expected one of its own",
                remedy=REMEDY,
            )
        return found[0]

    def _of(self, place: str) -> Change:
        if place in self.changes:
            return self.changes[place]
        start = place if place in self.base.shapes else self._embedding()
        return Change(start, self.base.shapes[start])

    def _embedding(self) -> str:
        """The tensor that a tied head is."""
        found = _named(self.base.shapes, TIED_INPUTS)
        if found is None:
            raise IncompatibleAdapters(
                f"{self.owner}: {self.base.directory.name} has a tied head, but no embedding by a known name",
                remedy="export the adapter instead of fusing it",
            )
        return found

    def _misfit(self, place: str, shape: tuple[int, ...], needed: tuple[int, ...]) -> IncompatibleAdapters:
        return IncompatibleAdapters(
            f"{self.owner}: {place} of the base has shape {shape}, the adapter needs {needed}", remedy=REMEDY
        )


def _named(names: Iterable[str], lasts: tuple[str, ...]) -> str | None:
    return next((n for last in lasts for n in names if n.removesuffix(".weight").rpartition(".")[2] == last), None)


def _is_vocabulary(change: Change) -> bool:
    """A change of tokens, or a resized embedding: PEFT makes it on the tied head too."""
    kind = change.replacement.kind if change.replacement else ""
    return kind in ("tokens", "embedding") and change.left is None


def _alike(one: Change, other: Change) -> bool:
    """Whether two changes of one tensor are the same, to float32's rounding."""
    if (one.replacement is None) != (other.replacement is None) or (one.left is None) != (other.left is None):
        return False
    if one.replacement and other.replacement and not torch.equal(one.replacement.values, other.replacement.values):
        return False
    if one.left is None or one.right is None or other.left is None or other.right is None:
        return True
    size = _norm(one.left, one.right)
    difference = _norm(torch.cat([one.left, -other.left], 1), torch.cat([one.right, other.right]))
    return difference <= 1e-5 * size


def _norm(left: Tensor, right: Tensor) -> float:
    """||L M|| by the small matrices L^T L and M M^T."""
    gram = (left.double().T @ left.double()) * (right.double() @ right.double().T)
    return float(max(0.0, gram.sum().item()) ** 0.5)


def row_size(shape: tuple[int, ...]) -> int:
    """Values in a row of a tensor; a vector's rows are its values."""
    return prod(shape[1:])
