"""One report names every difference at once, with what was found, what was expected and the way out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from compose.adapter import LoraAdapter
from compose.compatibility import compare
from compose.description import describe
from compose.errors import IncompatibleAdapters, UnsupportedAdapter

Make = Callable[..., LoraAdapter]


def test_adapters_of_one_base_and_kind_have_no_difference(random_adapter: Make) -> None:
    assert compare([random_adapter(1), random_adapter(2)]).differences == ()


def test_all_differences_are_listed_at_once(random_adapter: Make, write_adapter: Callable[..., Path]) -> None:
    first = random_adapter(1)
    wide = random_adapter(2, sizes=(8, 5), rank=3)
    other = replace(random_adapter(3, paths=("a", "c")), base_model="other/base", task_type="SEQ_CLS")
    kasa = describe(write_adapter(kasa_config={"x": 1}))
    report = compare([first, wide, other, kasa])
    found = {(d.adapter, d.key, d.severity) for d in report.differences}
    assert found >= {
        ("adapter-2", "the shape of a (out, in)", "error"),
        ("adapter-2", "the shape of b (out, in)", "error"),
        ("adapter-2", "rank", "note"),
        ("adapter-3", "base model", "error"),
        ("adapter-3", "task type", "note"),
        ("adapter-3", "target modules", "note"),
        ("adapter", "family", "error"),
    }
    rank = next(d.message for d in report.notes if d.key == "rank" and d.adapter == "adapter-2")
    assert rank == "the rank of adapter-2: 3; of adapter-1: 2; they can be mixed all the same"
    severities = [d.severity for d in report.differences]
    assert severities == sorted(severities)
    with pytest.raises(IncompatibleAdapters) as caught:
        report.raise_for_errors()
    assert all(error.message in caught.value.message for error in report.errors)
    assert not any(note.message in caught.value.message for note in report.notes)


def test_only_an_unsupported_family_is_its_own_error(random_adapter: Make, write_adapter: Callable[..., Path]) -> None:
    with pytest.raises(UnsupportedAdapter, match=r"(?s)KaSA.*merge_and_unload"):
        compare([random_adapter(1), describe(write_adapter(kasa_config={"x": 1}))]).raise_for_errors()


def test_identity_goes_before_names(random_adapter: Make) -> None:
    first, mirror = random_adapter(1), replace(random_adapter(2), base_model="mirror/of-base")
    same = {"adapter-1": "d" * 64, "adapter-2": "d" * 64}
    assert not compare([first, mirror], base_digests=same).errors
    other = compare([first, replace(mirror, base_model="some/base")], base_digests={**same, "adapter-2": "e" * 64})
    assert [error.key for error in other.errors] == ["base model"]
    assert len(other.errors) == 1 and not compare([first], base_digests=same).errors


@pytest.mark.parametrize("digests", [{"adapter-1": "d" * 64}, {"adapter-1": None, "adapter-2": None}, {}])
def test_an_unknown_base_is_refused_unless_allowed(random_adapter: Make, digests: dict[str, str | None]) -> None:
    adapters = [random_adapter(1), random_adapter(2)]
    with pytest.raises(IncompatibleAdapters, match=r"(?s)adapter-2: base model is unknown.*--allow-unbound"):
        compare(adapters, base_digests=digests).raise_for_errors()
    allowed = compare(adapters, base_digests=digests, allow_unbound=True)
    assert not allowed.errors
    assert any(note.key == "base model" for note in allowed.notes)


def test_another_known_base_is_refused_unless_it_is_allowed(random_adapter: Make) -> None:
    digests = {"one": "a" * 64, "two": "b" * 64}
    adapters = [replace(random_adapter(1), name="one"), replace(random_adapter(2), name="two")]
    assert [e.adapter for e in compare(adapters, base_digests=digests).errors] == ["two"]
    allowed = compare(adapters, base_digests=digests, allow_unbound=True)
    assert not allowed.errors and [n.found for n in allowed.notes if n.key == "base model"] == ["b" * 12]


def test_bases_without_a_name_are_unknown(random_adapter: Make) -> None:
    adapters = [replace(random_adapter(seed), base_model=None) for seed in (1, 2)]
    assert len(compare(adapters).errors) == 2
    assert len(compare(adapters, allow_unbound=True).notes) == 2


def test_relora_is_mixed_on_the_known_base_of_its_cycle_only(
    random_adapter: Make, write_adapter: Callable[..., Path]
) -> None:
    by_config = describe(write_adapter(name="one", relora_steps=100))
    folder = write_adapter(name="two")
    (folder / "relora_config.json").write_text("{}")
    for relora in (by_config, describe(folder)):
        key = "the base of its last ReLoRA cycle"
        for digests in (None, {}, {"adapter-1": "d" * 64}, {relora.name: "e" * 64, "adapter-1": "d" * 64}):
            report = compare([relora, random_adapter(1)], base_digests=digests, allow_unbound=True)
            assert key in [error.key for error in report.errors], digests
            with pytest.raises(IncompatibleAdapters, match="--base FOLDER"):
                report.raise_for_errors()
        bound = {relora.name: "d" * 64, "adapter-1": "d" * 64}
        assert not compare([relora, random_adapter(1)], base_digests=bound).errors
        assert not compare([relora], base_digests=bound).errors
    assert not describe(write_adapter(name="three", relora=False)).is_relora
