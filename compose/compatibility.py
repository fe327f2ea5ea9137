"""Can these adapters be mixed? One report that lists every difference at once, before any arithmetic.

A base model is an identity (a digest, see base_model.py), not a name: names are compared only where no digest is known.
Takes descriptions (no torch needed) or loaded adapters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .description import AdapterDescription, target_of
from .errors import IncompatibleAdapters, UnsupportedAdapter
from .module_shapes import ModuleShape

if TYPE_CHECKING:
    from .adapter import Factors, LoraAdapter

ALLOW_UNBOUND = (
    "make the base known (mixhub publish DIR NAME, or mixhub base add DIR --known-as NAME) and publish the adapter "
    "again; or, if you are sure that it is the same base, pass --allow-unbound"
)
RELORA_BASE = "publish it bound to its base with the earlier cycles merged in: mixhub publish DIR NAME --base FOLDER"
OTHER_BASE = "mix only adapters of one base model; --allow-unbound mixes them all the same"


@dataclass(frozen=True)
class Difference:
    """One way in which `adapter` differs from the others: an "error" forbids mixing, a "note" does not."""

    severity: str
    adapter: str
    key: str
    found: str
    expected: str
    remedy: str = ""
    harmless: bool = False
    """It is said for information: adapters that differ in it are mixed as well as others."""

    @property
    def message(self) -> str:
        if self.harmless:
            return f"the {self.key} of {self.adapter}: {self.found}; {self.expected}; they can be mixed all the same"
        return f"{self.adapter}: {self.key} is {self.found}, expected {self.expected}"


@dataclass(frozen=True)
class CompatibilityReport:
    """Every difference found, errors first."""

    differences: tuple[Difference, ...]

    @property
    def errors(self) -> tuple[Difference, ...]:
        return tuple(d for d in self.differences if d.severity == "error")

    @property
    def notes(self) -> tuple[Difference, ...]:
        return tuple(d for d in self.differences if d.severity == "note")

    def raise_for_errors(self) -> None:
        """Raise one error that lists all of them: `UnsupportedAdapter` if a family is the only trouble."""
        errors = self.errors
        if not errors:
            return
        text = "these adapters cannot be mixed:" + "".join(f"\n  - {error.message}" for error in errors)
        remedy = "; ".join(dict.fromkeys(error.remedy for error in errors if error.remedy))
        if all(error.key == "family" for error in errors):
            raise UnsupportedAdapter(text, remedy=remedy)
        raise IncompatibleAdapters(text, remedy=remedy)


def compare(
    adapters: Sequence[AdapterDescription | LoraAdapter],
    *,
    base_digests: Mapping[str, str | None] | None = None,
    allow_unbound: bool = False,
) -> CompatibilityReport:
    """Compare all adapters with each other.

    `base_digests` gives, by adapter name, the identity of the base that each is bound to; a missing one or `None` means
    unbound. Another or an unknown base is an error unless `allow_unbound` makes a note of it; shapes that differ always
    are. Without `base_digests` the names of the bases are compared in the same way.
    """
    found = _families(adapters) + shape_differences(adapters)
    if base_digests is None:
        found += _base_names(adapters, allow_unbound)
    else:
        found += _bases(adapters, base_digests, allow_unbound)
    found += _cycles(adapters, base_digests or {})
    found += _against_first(adapters, "task type", {a.name: a.task_type or "not given" for a in adapters})
    found += _against_first(adapters, "rank", {a.name: _ranks(a) for a in adapters})
    found += _against_first(adapters, "target modules", {a.name: _targets(a) for a in adapters})
    return CompatibilityReport(tuple(sorted(found, key=lambda d: d.severity != "error")))


def shape_differences(adapters: Sequence[AdapterDescription | LoraAdapter]) -> list[Difference]:
    """Modules of one path whose deltas have different shapes; each is compared with the first that has the path."""
    found: list[Difference] = []
    first: dict[str, str] = {}
    for adapter in adapters:
        for path, module in _modules(adapter).items():
            shape = f"({module.out_features}, {module.in_features})"
            if module.kind != "linear":
                shape = f"{module.kind} {shape}{f' with kernel {module.kernel}' if module.kernel else ''}"
            expected = first.setdefault(path, shape)
            if shape != expected:
                found.append(
                    Difference(
                        "error",
                        adapter.name,
                        f"the shape of {path} (out, in)",
                        shape,
                        expected,
                        "mix only adapters of one base model",
                    )
                )
    return found


def identical_settings(adapters: Sequence[LoraAdapter]) -> list[Difference]:
    """What fold `lorahub-compat` forbids: modules, ranks or scalings that differ from the first adapter's."""
    first, *others = adapters
    remedy = "use fold 'balanced', or another method"
    found: list[Difference] = []
    for other in others:
        for path in sorted({*first.modules, *other.modules}):
            mine, theirs = _setting(other, path), _setting(first, path)
            if mine != theirs:
                found.append(Difference("error", other.name, f"the setting of {path}", mine, theirs, remedy))
                break  # the first module of each adapter says it; a list of hundreds says no more
    return found


def _setting(adapter: LoraAdapter, path: str) -> str:
    factors = adapter.modules.get(path)
    return "absent" if factors is None else f"rank {factors.rank}, scaling {factors.scaling!r}"


def _modules(adapter: AdapterDescription | LoraAdapter) -> Mapping[str, ModuleShape | Factors]:
    if isinstance(adapter, AdapterDescription):
        return {module.path: module for module in adapter.modules}
    return adapter.modules


def _families(adapters: Sequence[AdapterDescription | LoraAdapter]) -> list[Difference]:
    refused = [
        Difference("error", a.name, "family", a.refusal.message, "one that can be mixed", a.refusal.remedy)
        for a in adapters
        if isinstance(a, AdapterDescription) and a.refusal is not None
    ]
    return refused + compare_kinds(adapters)


def compare_kinds(adapters: Sequence[AdapterDescription | LoraAdapter]) -> list[Difference]:
    """IA3 multiplies where the others add: there is no weighted sum of the two."""
    ours = [a.name for a in adapters if _multiplies(a)]
    if not ours or len(ours) == len(adapters):
        return []
    remedy = "mix IA3 with IA3 only, or fuse it into the base first: mixhub export --fused"
    return [Difference("error", name, "family", "IA3, which multiplies weights", "a sum", remedy) for name in ours]


def _multiplies(adapter: AdapterDescription | LoraAdapter) -> bool:
    return adapter.peft_type == "IA3" if isinstance(adapter, AdapterDescription) else bool(adapter.multipliers)


def _bases(
    adapters: Sequence[AdapterDescription | LoraAdapter],
    digests: Mapping[str, str | None],
    allow_unbound: bool,
) -> list[Difference]:
    expected = next((digest for adapter in adapters if (digest := digests.get(adapter.name))), "a known base")
    severity = "note" if allow_unbound else "error"
    found: list[Difference] = []
    for adapter in adapters:
        digest = digests.get(adapter.name)
        if digest == expected:
            continue
        said = f"unknown ({adapter.base_model or 'no name given'})" if digest is None else digest[:12]
        remedy = ALLOW_UNBOUND if digest is None else OTHER_BASE
        found.append(Difference(severity, adapter.name, "base model", said, expected[:12], remedy))
    return found


def _cycles(
    adapters: Sequence[AdapterDescription | LoraAdapter], digests: Mapping[str, str | None]
) -> list[Difference]:
    """ReLoRA's factors are noise on another base than that of their cycle; no option allows that."""
    one_base = len({digest for adapter in adapters if (digest := digests.get(adapter.name))}) == 1
    key, expected = "the base of its last ReLoRA cycle", "one known base of all"
    return [
        Difference("error", a.name, key, "another one" if digests.get(a.name) else "unknown", expected, RELORA_BASE)
        for a in adapters
        if isinstance(a, AdapterDescription) and a.is_relora and not (one_base and digests.get(a.name))
    ]


def _base_names(adapters: Sequence[AdapterDescription | LoraAdapter], allow_unbound: bool) -> list[Difference]:
    """No identities are at hand: equal names are believed, different or missing ones are not."""
    expected = next((adapter.base_model for adapter in adapters if adapter.base_model), None)
    severity = "note" if allow_unbound else "error"
    return [
        Difference(
            severity, a.name, "base model", a.base_model or "not named", expected or "a known base", ALLOW_UNBOUND
        )
        for a in adapters
        if a.base_model is None or a.base_model != expected
    ]


def _against_first(
    adapters: Sequence[AdapterDescription | LoraAdapter], key: str, values: Mapping[str, str]
) -> list[Difference]:
    """Notes for the adapters whose value is not the first one's."""
    expected = values[adapters[0].name] if adapters else ""
    return [
        Difference("note", adapter.name, key, values[adapter.name], f"of {adapters[0].name}: {expected}", harmless=True)
        for adapter in adapters
        if values[adapter.name] != expected
    ]


def _ranks(adapter: AdapterDescription | LoraAdapter) -> str:
    return ", ".join(str(rank) for rank in sorted({module.rank for module in _modules(adapter).values()})) or "none"


def _targets(adapter: AdapterDescription | LoraAdapter) -> str:
    return ", ".join(sorted({target_of(path) for path in _modules(adapter)})) or "none"
