"""K mixes at once are the mixes that the merge functions give one at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compose.adapter import Factors, LoraAdapter
from compose.errors import BadMethod, BadWeights, IncompatibleAdapters
from compose.methods import METHODS
from compose.row_upload import filled_rows, filled_tensors
from compose.stack import stack_adapters

SHAPES = {"encoder.q": (5, 4), "encoder.v": (3, 6), "decoder.q": (7, 4)}


def make_adapter(name: str, seed: int, *, ranks: Mapping[str, int], scalings: Mapping[str, float]) -> LoraAdapter:
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    modules = {
        path: Factors(draw(rank, SHAPES[path][1]), draw(SHAPES[path][0], rank), scalings[path])
        for path, rank in ranks.items()
    }
    return LoraAdapter(name=name, modules=modules)


def alike(count: int) -> list[LoraAdapter]:
    ranks, scalings = dict.fromkeys(SHAPES, 2), dict.fromkeys(SHAPES, 1.5)
    return [make_adapter(f"a{i}", i, ranks=ranks, scalings=scalings) for i in range(count)]


def mixed_bag() -> list[LoraAdapter]:
    """Different modules, ranks and scalings, one of them negative."""
    return [
        make_adapter("a", 1, ranks={"encoder.q": 2, "encoder.v": 1}, scalings={"encoder.q": 2.0, "encoder.v": 0.5}),
        make_adapter("b", 2, ranks={"encoder.q": 3, "decoder.q": 2}, scalings={"encoder.q": -1.0, "decoder.q": 1.0}),
        make_adapter("c", 3, ranks=dict.fromkeys(SHAPES, 1), scalings=dict.fromkeys(SHAPES, 4.0)),
    ]


WEIGHTS = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.5, -0.7, 1.3], [-1.5, 0.2, -0.1]], dtype=torch.float64)


@pytest.mark.parametrize("method", METHODS)
def test_every_candidate_is_what_the_merge_function_gives(method: str) -> None:
    adapters, rows = mixed_bag(), WEIGHTS
    if method == "slerp":  # two adapters, weights from 0
        adapters, rows = adapters[:2], WEIGHTS[:, :2].abs()
    mixes = stack_adapters(adapters, method=method, dtype=torch.float64).mix(rows)
    assert set(mixes) == set(SHAPES)
    for path, mixed in mixes.items():
        factors = [adapter.modules.get(path) for adapter in adapters]
        for k, row in enumerate(rows.tolist()):
            merged, _ = METHODS[method].apply(factors, row, METHODS[method].resolve({}))
            torch.testing.assert_close(mixed.deltas()[k], merged.delta(), rtol=1e-11, atol=1e-12)


def test_the_compat_fold_is_the_merge_function_too() -> None:
    adapters = alike(3)
    params = {"fold": "lorahub-compat"}
    mixes = stack_adapters(adapters, params=params, dtype=torch.float64).mix(WEIGHTS)
    for path, mixed in mixes.items():
        for k, row in enumerate(WEIGHTS.tolist()):
            merged = METHODS["lorahub"].function([a.modules[path] for a in adapters], row, **params)
            torch.testing.assert_close(mixed.deltas()[k], merged.delta(), rtol=1e-11, atol=1e-12)


def test_both_folds_agree_where_all_scalings_are_equal() -> None:
    compat = stack_adapters(alike(3), params={"fold": "lorahub-compat"}, dtype=torch.float64).mix(WEIGHTS)
    balanced = stack_adapters(alike(3), dtype=torch.float64).mix(WEIGHTS)
    for path, mixed in balanced.items():
        torch.testing.assert_close(mixed.deltas(), compat[path].deltas(), rtol=1e-11, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(row=st.lists(st.floats(-1.5, 1.5), min_size=3, max_size=3))
def test_the_element_wise_mix_is_even_and_the_exact_mix_is_linear(row: list[float]) -> None:
    weights = torch.tensor([row, [-w for w in row], [2 * w for w in row]], dtype=torch.float64)
    even = stack_adapters(mixed_bag(), dtype=torch.float64).mix(weights)["encoder.q"].deltas()
    torch.testing.assert_close(even[0], even[1])
    linear = stack_adapters(mixed_bag(), method="exact", dtype=torch.float64).mix(weights)["encoder.q"].deltas()
    torch.testing.assert_close(linear[0], -linear[1])
    torch.testing.assert_close(2 * linear[0], linear[2])


def test_float32_differs_from_float64_by_rounding_only() -> None:
    for method in METHODS:
        adapters, rows = (mixed_bag()[:2], WEIGHTS[:, :2].abs()) if method == "slerp" else (mixed_bag(), WEIGHTS)
        fine = stack_adapters(adapters, method=method, dtype=torch.float64).mix(rows)
        coarse = stack_adapters(adapters, method=method).mix(rows)
        for path, mixed in coarse.items():
            assert mixed.A.dtype == torch.float32
            torch.testing.assert_close(mixed.deltas().double(), fine[path].deltas(), rtol=1e-4, atol=1e-5)


def test_the_exact_stack_shares_its_factors_among_candidates() -> None:
    mixed = stack_adapters(mixed_bag(), method="exact").mix(WEIGHTS)["encoder.q"]
    assert mixed.A.shape == (6, 4)  # ranks 2 + 3 + 1, once for all candidates
    assert mixed.diagonal is not None and mixed.diagonal.shape == (4, 6)


@pytest.mark.parametrize("method", METHODS)
def test_a_stack_that_travels_through_buffers_is_the_one_that_is_made_in_place(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where what is made next lies in memory that was used before."""
    adapters, rows = (mixed_bag()[:2], WEIGHTS[:, :2].abs()) if method == "slerp" else (mixed_bag(), WEIGHTS)
    plain = stack_adapters(adapters, method=method).mix(rows)
    travelled: list[int] = []

    def staged(*given: Any, make: Callable[..., Any], **named: Any) -> Any:
        travelled.append(1)
        return make(*given, **named, staged=True)

    monkeypatch.setattr("compose.stack.filled_tensors", partial(staged, make=filled_tensors))
    monkeypatch.setattr("compose.elementwise_stack.filled_rows", partial(staged, make=filled_rows))
    found = stack_adapters(adapters, method=method).mix(rows)
    assert travelled
    for path, mixed in plain.items():
        assert torch.equal(found[path].A, mixed.A) and torch.equal(found[path].B, mixed.B)


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
def test_on_a_gpu_a_stack_has_the_numbers_of_the_cpu(method: str) -> None:
    adapters, rows = (mixed_bag()[:2], WEIGHTS[:, :2].abs()) if method == "slerp" else (mixed_bag(), WEIGHTS)
    here, there = (stack_adapters(adapters, method=method, dtype=torch.float64, device=d) for d in ("cpu", "cuda"))
    for (path, mixed), found in zip(here.mix(rows).items(), there.mix(rows).values(), strict=True):
        assert found.A.device.type == "cuda"
        torch.testing.assert_close(found.deltas().cpu(), mixed.deltas(), rtol=1e-11, atol=1e-12, msg=path)


def test_modules_of_different_shapes_are_refused_by_name() -> None:
    odd = LoraAdapter(name="odd", modules={"encoder.q": Factors(torch.zeros(1, 9), torch.zeros(5, 1))})
    with pytest.raises(IncompatibleAdapters, match=r"odd: the shape of encoder\.q .* is \(5, 9\), expected \(5, 4\)"):
        stack_adapters([*alike(1), odd])


@pytest.mark.parametrize(
    ("ranks", "scalings", "said"),
    [
        ({"encoder.q": 2, "encoder.v": 2}, 1.5, r"odd: the setting of decoder\.q is absent"),
        (dict.fromkeys(SHAPES, 3), 1.5, "odd: .* is rank 3, scaling 1.5, expected rank 2"),
        (dict.fromkeys(SHAPES, 2), 2.0, "odd: .* is rank 2, scaling 2.0, expected rank 2, scaling 1.5"),
    ],
)
def test_the_compat_fold_refuses_adapters_that_differ(ranks: dict[str, int], scalings: float, said: str) -> None:
    odd = make_adapter("odd", 9, ranks=ranks, scalings=dict.fromkeys(ranks, scalings))
    with pytest.raises(IncompatibleAdapters, match=said):
        stack_adapters([*alike(1), odd], params={"fold": "lorahub-compat"})


def test_unknown_methods_and_parameters_are_refused() -> None:
    with pytest.raises(BadMethod, match="nosuch"):
        stack_adapters(alike(1), method="nosuch")
    with pytest.raises(BadMethod, match="fold"):
        stack_adapters(alike(1), method="exact", params={"fold": "balanced"})
    with pytest.raises(IncompatibleAdapters, match="no adapter"):
        stack_adapters([])


@pytest.mark.parametrize("method", METHODS)
def test_weight_rows_of_a_wrong_length_or_value_are_refused(method: str) -> None:
    stack = stack_adapters(alike(2), method=method)
    with pytest.raises(BadWeights, match="for 2 adapters"):
        stack.mix(torch.zeros(1, 3))
    with pytest.raises(BadWeights, match="not finite"):
        stack.mix(torch.tensor([[0.0, float("nan")]]))
