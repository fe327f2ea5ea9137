"""Tensors that adapters replace whole, when several adapters are mixed: by policy, never by a weighted sum of values.

A policy per kind (`bias`, `modules_to_save`, `embedding`, `tokens`):
- `error`: the default; kept where one adapter has it or all have the same, refused where they differ;
- `take_from:NAME`: the tensors of that adapter (by name, or by its number in the mix from 1), and nobody else's;
- `delta_average`: base + sum w_i (value_i - base), the weights of the mix; needs the base model;
- `drop`: left as in the base.
A copy that equals the base's own tensor is no change and is left out, where the base is at hand to tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .adapter import LoraAdapter, Replacement
from .base_weights import BaseWeights
from .errors import BadMethod, IncompatibleAdapters
from .layer_weights import Weight, weight_at

KINDS = ("bias", "modules_to_save", "embedding", "tokens")
ERROR, AVERAGE, DROP, TAKE = "error", "delta_average", "drop", "take_from:"
Holder = tuple[LoraAdapter, float, Replacement]


def check_policies(policies: Mapping[str, str], names: Sequence[str]) -> None:
    """`BadMethod` for a kind or a policy that does not exist, or an adapter that is not in the mix."""
    for kind, policy in policies.items():
        if kind not in KINDS:
            raise BadMethod(f"there is no kind of tensor {kind!r}", remedy=f"use one of: {', '.join(KINDS)}")
        taken = policy.removeprefix(TAKE) if policy.startswith(TAKE) else None
        if taken is None and policy not in (ERROR, AVERAGE, DROP):
            raise BadMethod(f"{kind}: there is no policy {policy!r}", remedy=_choices(kind))
        if taken is not None and taken not in (*names, *_numbers(names)):
            raise BadMethod(f"{kind}: {taken!r} is not in this mix", remedy=f"take it from one of: {', '.join(names)}")


def numbered(policies: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """The same policies with every adapter named by its number in the mix, which a recipe keeps."""
    numbers = dict(zip(names, _numbers(names), strict=True))
    return {
        kind: TAKE + numbers.get(policy.removeprefix(TAKE), policy.removeprefix(TAKE))
        if policy.startswith(TAKE)
        else policy
        for kind, policy in policies.items()
    }


def _numbers(names: Sequence[object]) -> list[str]:
    return [str(number) for number, _ in enumerate(names, 1)]


def mix_replacements(
    adapters: Sequence[LoraAdapter],
    weights: Sequence[Weight],
    *,
    policies: Mapping[str, str],
    base: BaseWeights | None = None,
) -> dict[str, Replacement]:
    """Tensor name -> what the mix replaces it by. An adapter of weight 0 does not count."""
    mixed: dict[str, Replacement] = {}
    takes = numbered(policies, [adapter.name for adapter in adapters])
    numbers = {id(adapter): number for adapter, number in zip(adapters, _numbers(adapters), strict=True)}
    for name in sorted({name for adapter in adapters for name in adapter.replaced}):
        holders = [
            (adapter, weight_at(weight, name.rpartition(".")[0]), adapter.replaced[name])
            for adapter, weight in zip(adapters, weights, strict=True)
            if name in adapter.replaced
        ]
        holders = [h for h in holders if h[1] != 0 and not _is_copy(name, h[2], base)]
        found = _decide(name, holders, takes, numbers, base) if holders else None
        if found is not None:
            mixed[name] = found
    return mixed


def _decide(
    name: str,
    holders: Sequence[Holder],
    policies: Mapping[str, str],
    numbers: Mapping[int, str],
    base: BaseWeights | None,
) -> Replacement | None:
    kind = holders[0][2].kind
    policy = policies.get(kind, ERROR)
    if policy == DROP:
        return None
    if policy.startswith(TAKE):
        return next((r for adapter, _, r in holders if numbers[id(adapter)] == policy.removeprefix(TAKE)), None)
    if policy == AVERAGE:
        return _average(name, holders, base)
    first = holders[0][2]
    if all(_equal(first, other) for _, _, other in holders[1:]):
        return first
    if first.rows is not None and _disjoint(holders):
        return _union(holders)
    raise IncompatibleAdapters(
        f"{' and '.join(adapter.name for adapter, _, _ in holders)} replace {name} ({kind}) by different values, "
        "which no weighted sum can mix",
        remedy=_choices(kind),
    )


def _average(name: str, holders: Sequence[Holder], base: BaseWeights | None) -> Replacement:
    """base + sum w (value - base), row by row where only rows are held."""
    found = base.name_of(name) if base else None
    if base is None or found is None:
        raise IncompatibleAdapters(
            f"{name}: delta_average needs its value in the base model", remedy="give the base: --base FOLDER_OR_NAME"
        )
    start = base.tensor(found).to(torch.float32)
    rows = sorted({row for _, _, r in holders for row in r.rows or ()}) or None
    if rows and rows[-1] >= start.shape[0]:
        raise IncompatibleAdapters(f"{name}: row {rows[-1]} is not in the base", remedy=_choices("tokens"))
    values = start[rows] if rows else start.clone()
    total = values.clone()
    for adapter, weight, held in holders:
        if (held.rows is None) != (rows is None) or (rows is None and held.values.shape != start.shape):
            raise IncompatibleAdapters(
                f"{adapter.name}: {name} is {list(held.values.shape)}, the base has {list(start.shape)}; rows that the "
                "base lacks have no change to average",
                remedy=_choices(held.kind),
            )
        places = [rows.index(row) for row in held.rows] if rows and held.rows else slice(None)
        total[places] += weight * (held.values - values[places])
    return Replacement(total, holders[0][2].kind, tuple(rows) if rows else None)


def _union(holders: Sequence[Holder]) -> Replacement:
    """Rows of different tokens stand side by side."""
    found = {row: values for _, _, r in holders for row, values in zip(r.rows or (), r.values, strict=True)}
    rows = tuple(sorted(found))
    return Replacement(torch.stack([found[row] for row in rows]), "tokens", rows)


def _disjoint(holders: Sequence[Holder]) -> bool:
    rows = [row for _, _, r in holders for row in r.rows or ()]
    return len(rows) == len(set(rows))


def _equal(one: Replacement, other: Replacement) -> bool:
    return one.rows == other.rows and one.values.shape == other.values.shape and torch.equal(one.values, other.values)


def _is_copy(name: str, held: Replacement, base: BaseWeights | None) -> bool:
    found = base.name_of(name) if base else None
    if base is None or found is None or (held.rows is None and tuple(held.values.shape) != base.shapes[found]):
        return False
    value: Tensor = base.tensor(found).to(torch.float32)
    if held.rows is not None:
        if max(held.rows) >= value.shape[0]:
            return False
        value = value[list(held.rows)]
    return torch.equal(value, held.values)


def _choices(kind: str) -> str:
    return f"say whose: --policy {kind}=take_from:ADAPTER, or {kind}=drop, or {kind}=delta_average with the base"
