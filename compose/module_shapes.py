"""The shape of each module that an adapter changes, from names and shapes of its tensors alone: one rule per family.

The rules are strict: what they accept, the converters in formats/ can compute without a further look at shapes. Needs
no torch and reads no files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod

from .errors import MalformedAdapter
from .families import needs_original_base
from .peft_config import PeftConfig
from .safetensors_header import TensorHeader

ATTENTION_OUT_TIMES = 2.0
"""PEFT (0.21.2, tuners/lora/layer.py MultiheadAttention.merge, which forward calls too) adds the change of the
output projection twice, in training as well: what such an adapter does is twice what its factors say."""

Parts = Mapping[str, TensorHeader]
MAX_RANK = 65536
"""Of a converted module: LoHa squares its rank, LoKr multiplies two; a small file must not ask for terabytes."""


@dataclass(frozen=True)
class ModuleShape:
    """One module that the adapter changes: A is (rank, in_features), B is (out_features, rank), s is `scaling`.

    As read, after a conversion to factors. `kind` and `kernel` are those of `adapter.Factors`; "out" and "in" are the
    sides of a multiplier, which has rank 1 and 1 feature on the other side.
    """

    path: str
    rank: int
    in_features: int
    out_features: int
    dtype: str
    scaling: float
    kind: str = "linear"
    kernel: tuple[int, ...] = ()


@dataclass(frozen=True)
class Source:
    """What the rules know besides the tensors of one module: config, shared tensors, the base's shapes if at hand."""

    owner: str
    config: PeftConfig
    shared: Parts = field(default_factory=dict)
    base_shape: Callable[[str], tuple[int, ...] | None] = lambda _: None
    """Module path -> the shape of its weight in the base, (out, in); `None` when not known."""
    attentions: frozenset[str] = frozenset()
    """Paths of nn.MultiheadAttention modules."""

    def refuse(self, path: str, found: str, expected: str) -> MalformedAdapter:
        return MalformedAdapter(f"{self.owner}: {path}: {found}; expected {expected}")


def shape_of(path: str, parts: Parts, source: Source) -> ModuleShape | None:
    """The shape of the module at `path`, made of `parts`; `None` where only the base could tell it (VeRA)."""
    rule = _RULES[source.config.peft_type]
    shape = rule(path, parts, source)
    if shape is not None and shape.rank > MAX_RANK:
        raise source.refuse(path, f"it becomes LoRA of rank {shape.rank}", f"at most {MAX_RANK}")
    return shape


def _lora(path: str, parts: Parts, source: Source) -> ModuleShape:
    kind = "embedding" if "embedding_A" in parts else "attention" if path in source.attentions else "linear"
    names = ("embedding_A", "embedding_B") if kind == "embedding" else ("lora_A", "lora_B")
    _only(path, parts, source, names, ("lora_bias", "magnitude", "alpha"))
    a, b = (parts[name].shape for name in names)
    ones = (1,) * (len(a) - 2)
    grouped = f"{path}: lora_A is {list(a)}, lora_B is {list(b)}"
    if len(a) < 2 or len(b) != len(a) or b[2:] != ones or (kind != "linear" and len(a) > 2):
        raise MalformedAdapter(f"{source.owner}: {grouped}; expected two dimensions, or those of a convolution")
    rank = a[0]
    if b[1] != rank:
        raise MalformedAdapter(f"{source.owner}: {grouped}; expected lora_B with {rank} columns")
    _check_rank(path, rank, source)
    if source.config.raw.get("use_dora") and "magnitude" not in parts:
        raise MalformedAdapter(
            f"{source.owner}: {path} has no lora_magnitude_vector, adapter_config.json says DoRA",
            remedy="save it again, or set use_dora to false if it is plain LoRA",
        )
    for name, size in (("lora_bias", b[0]), ("magnitude", b[0])):
        if name in parts and prod(parts[name].shape) != size:
            raise source.refuse(path, f"{name} is {list(parts[name].shape)}", f"{size} values")
    inside = prod(a[1:])
    scaling = source.config.scaling_of(path, rank)
    if path.endswith(".out_proj") and path.removesuffix(".out_proj") in source.attentions:
        scaling *= ATTENTION_OUT_TIMES
    if "magnitude" in parts:
        rank = min(b[0], inside)
    elif needs_original_base(source.config):
        rank *= 2
    kernel = tuple(a[2:])
    dtype = parts[names[0]].dtype
    return ModuleShape(path, rank, inside, b[0], dtype, scaling, "conv" if kernel else kind, kernel)


def _adalora(path: str, parts: Parts, source: Source) -> ModuleShape:
    _only(path, parts, source, ("lora_A", "lora_B", "lora_E"), ())
    a, b, e = (parts[name].shape for name in ("lora_A", "lora_B", "lora_E"))
    if len(a) != 2 or len(b) != 2 or e != (a[0], 1) or b[1] != a[0]:
        raise source.refuse(
            path, f"lora_A, lora_B, lora_E are {list(a)}, {list(b)}, {list(e)}", "(r, in), (out, r), (r, 1)"
        )
    return ModuleShape(path, max(1, a[0]), a[1], b[0], parts["lora_A"].dtype, source.config.adalora_scaling)


def _vera(path: str, parts: Parts, source: Source) -> ModuleShape | None:
    _only(path, parts, source, ("vera_b", "vera_d"), ())
    b, d = parts["vera_b"].shape, parts["vera_d"].shape
    if len(b) != 1 or len(d) != 1:
        raise source.refuse(path, f"vera_lambda_b and vera_lambda_d are {list(b)} and {list(d)}", "one dimension")
    for name, axis in (("vera_A", 0), ("vera_B", 1)):
        shared = source.shared.get(name)
        if shared and (len(shared.shape) != 2 or shared.shape[axis] != d[0]):
            raise source.refuse(name, f"it is {list(shared.shape)}", f"{d[0]} in dimension {axis}")
    if "vera_B" in source.shared and source.shared["vera_B"].shape[0] < b[0]:
        raise source.refuse(path, f"vera_lambda_b has {b[0]} values", f"at most {source.shared['vera_B'].shape[0]}")
    if d[0] != source.config.r:
        raise source.refuse(path, f"vera_lambda_d has {d[0]} values", f"r = {source.config.r}")
    weight = source.base_shape(path)
    if weight is None:
        return None
    if weight[0] != b[0] or ("vera_A" in source.shared and source.shared["vera_A"].shape[1] < weight[1]):
        raise source.refuse(path, f"vera_lambda_b has {b[0]} values, the weight is {list(weight)}", "that they fit")
    return ModuleShape(path, d[0], weight[1], b[0], parts["vera_b"].dtype, 1.0)


def _loha(path: str, parts: Parts, source: Source) -> ModuleShape:
    names = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    _only(path, parts, source, names, ("hada_t1", "hada_t2", "alpha"))
    pairs = [_pair(path, parts, source, f"hada_w{i}", f"hada_t{i}") for i in (1, 2)]
    if pairs[0] != pairs[1]:
        raise source.refuse(path, f"its two products are {pairs[0]} and {pairs[1]}", "equal shapes")
    out, rank, inside, kernel = pairs[0]
    _check_rank(path, rank, source)
    scaling = source.config.scaling_of(path, rank)
    full = min(rank * rank, out, inside)
    kernel = _kernel(path, inside, kernel, source)
    dtype = parts["hada_w1_a"].dtype
    return ModuleShape(path, full, inside, out, dtype, scaling, "conv" if kernel else "linear", kernel)


def _lokr(path: str, parts: Parts, source: Source) -> ModuleShape:
    pairs = [_pair(path, parts, source, f"lokr_w{i}", f"lokr_t{i}") for i in (1, 2)]
    known = {f"lokr_{x}" for x in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")}
    _only(path, parts, source, (), (*sorted(known), "alpha"))
    (out1, rank1, in1, kernel1), (out2, rank2, in2, kernel) = pairs
    if kernel1:
        raise source.refuse(path, "lokr_w1 has a kernel", "two dimensions")
    scaling = source.config.scaling_of(path, source.config.rank_of(path))
    out, inside, rank = out1 * out2, in1 * in2, rank1 * rank2
    if is_misread(parts["lokr_w2"].shape if "lokr_w2" in parts else (), source.config):
        rank = min(out, inside)
    kernel = _kernel(path, inside, kernel, source)
    kind = "conv" if kernel else "linear"
    dtype = next(iter(parts.values())).dtype
    return ModuleShape(path, rank, inside, out, dtype, scaling, kind, kernel)


def is_misread(w2: tuple[int, ...], config: PeftConfig) -> bool:
    """Whether PEFT takes this `lokr_w2` otherwise than other tools do (formats/lokr.py): those write no config."""
    return len(w2) == 3 and config.ranks_known


def _ia3(path: str, parts: Parts, source: Source) -> ModuleShape:
    _only(path, parts, source, ("ia3_l",), ())
    shape = parts["ia3_l"].shape
    dtype = parts["ia3_l"].dtype
    if len(shape) == 2 and shape[1] == 1:
        return ModuleShape(path, 1, 1, shape[0], dtype, 1.0, "out")
    if len(shape) == 2 and shape[0] == 1:
        return ModuleShape(path, 1, shape[1], 1, dtype, 1.0, "in")
    raise source.refuse(path, f"ia3_l is {list(shape)}", "(out, 1) or (1, in)")


def _pair(path: str, parts: Parts, source: Source, name: str, core: str) -> tuple[int, int, int, tuple[int, ...]]:
    """(out, rank, in with kernel, kernel) of a matrix given whole, as a product, or as a product with a core tensor."""
    if name in parts:
        shape = parts[name].shape
        if len(shape) < 2 or f"{name}_a" in parts:
            raise source.refuse(path, f"{name} is {list(shape)}", "one matrix or one product")
        inside = prod(shape[1:])
        return shape[0], min(shape[0], inside), inside, tuple(shape[2:])
    if f"{name}_a" not in parts or f"{name}_b" not in parts:
        raise MalformedAdapter(f"{source.owner}: {path} lacks {name}_a or {name}_b", remedy="save it again")
    a, b = parts[f"{name}_a"].shape, parts[f"{name}_b"].shape
    if core not in parts:
        if len(a) != 2 or len(b) != 2 or a[1] != b[0]:
            raise source.refuse(path, f"{name}_a is {list(a)} and {name}_b is {list(b)}", "(out, r) and (r, in)")
        return a[0], a[1], b[1], ()
    t = parts[core].shape
    if len(t) != 4 or len(a) != 2 or len(b) != 2 or t[0] != a[0] or t[1] != b[0]:
        raise source.refuse(
            path, f"{core}, {name}_a, {name}_b are {list(t)}, {list(a)}, {list(b)}", "(r, r, k, k), (r, out), (r, in)"
        )
    return a[1], t[0], b[1] * t[2] * t[3], (t[2], t[3])


def _kernel(path: str, inside: int, kernel: tuple[int, ...], source: Source) -> tuple[int, ...]:
    """The kernel of the base's weight: LoHa and LoKr may keep it flat, and keep one of one dimension as (k, 1)."""
    weight = source.base_shape(path) or ()
    return tuple(weight[2:]) if len(weight) > 2 and prod(weight[1:]) == inside else kernel


def _check_rank(path: str, rank: int, source: Source) -> None:
    expected = source.config.rank_of(path)
    if source.config.ranks_known and rank != expected:
        raise MalformedAdapter(
            f"{source.owner}: {path}: lora_A has rank {rank}, adapter_config.json (r, rank_pattern) says {expected}",
            remedy="correct r or rank_pattern in adapter_config.json",
        )


def _only(path: str, parts: Parts, source: Source, needed: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    """All of `needed` are there, and nothing but them and `allowed`."""
    for name in needed:
        if name not in parts:
            has = ", ".join(sorted(parts))
            raise MalformedAdapter(f"{source.owner}: {path} has {has} but no {name}", remedy="save it again")
    for name in parts:
        if name not in (*needed, *allowed):
            raise MalformedAdapter(
                f"{source.owner}: {path} has a tensor {name}, which {source.config.peft_type} has not",
                remedy="correct peft_type in adapter_config.json",
            )


_RULES: dict[str, Callable[[str, Parts, Source], ModuleShape | None]] = {
    "LORA": _lora,
    "ADALORA": _adalora,
    "VERA": _vera,
    "LOHA": _loha,
    "LOKR": _lokr,
    "IA3": _ia3,
}
