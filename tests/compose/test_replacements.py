"""Whole tensors in a mix: kept, refused, taken or averaged by policy, and never multiplied by a weight."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from compose.adapter import Factors, LoraAdapter, Replacement
from compose.base_weights import BaseWeights
from compose.errors import BadMethod, IncompatibleAdapters
from compose.merge import merge

HEAD = "lm_head.weight"
Make = Callable[..., LoraAdapter]


@pytest.fixture
def base(tmp_path: Path) -> BaseWeights:
    folder = tmp_path / "base"
    folder.mkdir()
    torch.manual_seed(0)
    tensors = {HEAD: torch.randn(4, 3), "embed_tokens.weight": torch.randn(6, 3), "q.bias": torch.randn(3)}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "pico"}')
    return BaseWeights(folder)


def holder(name: str, replaced: dict[str, Replacement]) -> LoraAdapter:
    return LoraAdapter(name, {"q": Factors(torch.ones(1, 3), torch.ones(3, 1))}, replaced=replaced)


def head(seed: int, kind: str = "modules_to_save") -> Replacement:
    return Replacement(torch.randn(4, 3, generator=torch.Generator().manual_seed(seed)), kind)


def tokens(*rows: int, seed: int = 5) -> Replacement:
    values = torch.randn(len(rows), 3, generator=torch.Generator().manual_seed(seed))
    return Replacement(values, "tokens", rows)


def mixed(adapters: list[LoraAdapter], weights: list[float], **options: object) -> dict[str, Replacement]:
    return dict(merge(adapters, weights, method="exact", **options).adapter.replaced)  # type: ignore[arg-type]


def test_one_holder_and_equal_values_are_kept_as_they_are() -> None:
    one, same = holder("one", {HEAD: head(1)}), holder("same", {HEAD: head(1)})
    for adapters in ([one, holder("none", {})], [one, same]):
        assert torch.equal(mixed(adapters, [0.3, -0.6])[HEAD].values, head(1).values)


def test_different_values_are_refused_with_the_choices() -> None:
    with pytest.raises(IncompatibleAdapters, match=r"(?s)one and two replace lm_head.weight.*take_from:ADAPTER.*drop"):
        mixed([holder("one", {HEAD: head(1)}), holder("two", {HEAD: head(2)})], [0.5, 0.5])


def test_an_adapter_of_weight_zero_has_no_say() -> None:
    found = mixed([holder("one", {HEAD: head(1)}), holder("two", {HEAD: head(2)})], [0.0, 0.5])
    assert torch.equal(found[HEAD].values, head(2).values)


@pytest.mark.parametrize("who", ["two", "2"])
def test_take_from_takes_that_adapters_tensors_only(who: str) -> None:
    adapters = [holder("one", {HEAD: head(1), "norm.weight": head(3)}), holder("two", {HEAD: head(2)})]
    found = mixed(adapters, [0.5, 0.5], policies={"modules_to_save": f"take_from:{who}"})
    assert found.keys() == {HEAD} and torch.equal(found[HEAD].values, head(2).values)


def test_drop_leaves_the_base_alone() -> None:
    adapters = [holder("one", {HEAD: head(1)}), holder("two", {HEAD: head(2)})]
    assert mixed(adapters, [0.5, 0.5], policies={"modules_to_save": "drop"}) == {}


def test_the_average_is_of_changes_so_that_weight_one_is_the_adapter_and_zero_the_base(base: BaseWeights) -> None:
    one, two = holder("one", {HEAD: head(1)}), holder("two", {HEAD: head(2)})
    average = {"modules_to_save": "delta_average"}
    start = base.tensor(HEAD)
    found = mixed([one, two], [0.6, -0.2], policies=average, base=base)[HEAD].values
    torch.testing.assert_close(found, start + 0.6 * (head(1).values - start) - 0.2 * (head(2).values - start))
    alone = mixed([one], [1.0], policies=average, base=base)[HEAD].values
    torch.testing.assert_close(alone, head(1).values)
    with pytest.raises(IncompatibleAdapters, match=r"(?s)needs its value in the base.*--base"):
        mixed([one, two], [0.6, -0.2], policies=average)


def test_a_copy_of_the_bases_own_tensor_is_no_change(base: BaseWeights) -> None:
    copy = Replacement(base.tensor(HEAD), "embedding")
    assert mixed(
        [holder("one", {HEAD: copy}), holder("two", {HEAD: head(2, "embedding")})], [1, 1], base=base
    ).keys() == {HEAD}
    assert mixed([holder("one", {HEAD: copy})], [1.0], base=base) == {}


def test_rows_of_different_tokens_stand_side_by_side() -> None:
    name = "embed_tokens.weight"
    found = mixed([holder("one", {name: tokens(4, 1)}), holder("two", {name: tokens(2, seed=6)})], [0.5, 0.5])[name]
    assert found.rows == (1, 2, 4)
    expected = [tokens(4, 1).values[1], tokens(2, seed=6).values[0], tokens(4, 1).values[0]]
    assert torch.equal(found.values, torch.stack(expected))


def test_overlapping_rows_are_refused_or_averaged_row_by_row(base: BaseWeights) -> None:
    name = "embed_tokens.weight"
    adapters = [holder("one", {name: tokens(4, 1)}), holder("two", {name: tokens(1, seed=6)})]
    with pytest.raises(IncompatibleAdapters, match="tokens"):
        mixed(adapters, [0.5, 0.5])
    found = mixed(adapters, [0.5, 0.25], policies={"tokens": "delta_average"}, base=base)[name]
    start = base.tensor(name)
    assert found.rows == (1, 4)
    first = start[1] + 0.5 * (tokens(4, 1).values[1] - start[1]) + 0.25 * (tokens(1, seed=6).values[0] - start[1])
    torch.testing.assert_close(found.values, torch.stack([first, start[4] + 0.5 * (tokens(4, 1).values[0] - start[4])]))


def test_a_grown_embedding_has_no_average(base: BaseWeights) -> None:
    grown = {"embed_tokens.weight": Replacement(torch.randn(8, 3), "embedding")}
    with pytest.raises(IncompatibleAdapters, match="rows that the base lacks"):
        mixed([holder("one", grown)], [0.5], policies={"embedding": "delta_average"}, base=base)


@pytest.mark.parametrize(
    ("policies", "said"),
    [
        ({"heads": "drop"}, "no kind of tensor 'heads'"),
        ({"bias": "sum"}, "no policy 'sum'"),
        ({"bias": "take_from:x"}, "'x' is not in"),
    ],
)  # fmt: skip
def test_unknown_policies_are_refused(policies: dict[str, str], said: str) -> None:
    with pytest.raises(BadMethod, match=said):
        mixed([holder("one", {})], [1.0], policies=policies)
