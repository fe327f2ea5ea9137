"""Every way to compute less gives the losses of computing all of it, in float64, and is really taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn
from transformers import MambaConfig, MambaForCausalLM

from compose import cross_attention
from compose.adapter import LoraAdapter
from compose.errors import BaseModelError
from compose.examples import Example, Examples
from compose.lower_layers import LowerLayers
from compose.scoring import LoadedBase, Scorer, make_scorer
from compose.scoring.chunks import GPU_TOKENS, at_once, tokens_within

WEIGHTS = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.5, -0.7, 1.3], [-1.5, 0.2, -0.1]])
LONG = Examples(tuple(Example("abcde fghij " * n, "abc"[:n]) for n in (1, 2, 3)))


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def only(adapters: Sequence[LoraAdapter], keep: Callable[[str], bool]) -> list[LoraAdapter]:
    return [replace(a, modules={path: f for path, f in a.modules.items() if keep(path)}) for a in adapters]


def scorer_of(base: LoadedBase, adapters: Sequence[LoraAdapter], examples: Examples, **options: Any) -> Scorer:
    return make_scorer(base, examples=examples, adapters=adapters, **options)


class Calls:
    """How often a module computes something."""

    def __init__(self, module: nn.Module) -> None:
        self.rows: list[int] = []
        module.register_forward_hook(lambda _m, inputs, _output: self.rows.append(inputs[0].shape[:-1].numel()))


# --- lower layers ---------------------------------------------------------------------------------------------------

UPPER = {
    "t5": (lambda path: path.startswith("decoder.block.1"), ["encoder", "decoder.block.0"]),
    "llama": (lambda path: ".layers.1." in path, ["model.layers.0"]),
    "gpt2": (lambda path: ".h.1." in path, ["transformer.h.0"]),
    "bert": (lambda path: "layer.1." in path, ["encoder.layer.0"]),
}


@pytest.mark.parametrize("method", ["lorahub", "exact"])
def test_layers_below_the_first_adapted_one_are_computed_once(family: Any, examples: Examples, method: str) -> None:
    keep, replayed = UPPER[family.name]
    base = family.base()
    adapters = only(family.adapters(base.model, scalings=(2.0, 0.5)), keep)
    lower = LowerLayers(base.model, adapters[0].modules)
    assert list(lower.paths) == replayed
    expected = without_memory(scorer_of(base, adapters, examples, method=method)).example_losses(WEIGHTS)
    scorer = scorer_of(base, adapters, examples, method=method)
    first = scorer.example_losses(WEIGHTS)
    calls = Calls(deepest(base.model.get_submodule(replayed[0])))
    again = scorer.example_losses(WEIGHTS)
    close(first, expected)
    close(again, expected)
    assert not calls.rows
    assert len({round(float(loss), 6) for loss in expected.mean(1)}) == len(WEIGHTS)


PARTS = ("encoder", "decoder")


def without_memory(scorer: Any) -> Any:
    scorer._population.lower.forget()
    return scorer


def deepest(module: nn.Module) -> nn.Module:
    """A Linear (or Conv1D) somewhere inside."""
    return next(m for m in module.modules() if hasattr(m, "out_features") or hasattr(m, "nf"))


def test_the_encoder_runs_once_when_only_the_decoder_is_adapted(families: Any, examples: Examples) -> None:
    family = families["t5"]
    base = family.base()
    adapters = only(family.adapters(base.model, scalings=(1.0,)), lambda path: path.startswith("decoder."))
    calls = Calls(base.model.encoder.block[0].layer[0].SelfAttention.q)
    scorer = scorer_of(base, adapters, examples)
    scorer.example_losses(WEIGHTS[:1])
    after_one = len(calls.rows)
    for row in WEIGHTS:
        scorer.example_losses(row[None])
    assert 0 < after_one == len(calls.rows)


@pytest.mark.parametrize("adapted", ["decoder.", "decoder.block.1.", "encoder.block.1.", ""])
@pytest.mark.parametrize("token_budget", [1, 30, 10_000])
def test_answers_take_what_is_below_the_adapters_from_memory(
    families: Any, examples: Examples, adapted: str, token_budget: int
) -> None:
    family = families["t5"]
    base = family.base()
    adapters = only(family.adapters(base.model, scalings=(2.0,)), lambda path: path.startswith(adapted))
    options = {"token_budget": token_budget, "max_new_tokens": 6}
    expected = without_memory(scorer_of(base, adapters, examples, **options)).predictions(4 * WEIGHTS)
    scorer = scorer_of(base, adapters, examples, **options)
    encoder, decoder = (Calls(getattr(base.model, part).block[0].layer[0].SelfAttention.q) for part in PARTS)
    assert scorer.predictions(4 * WEIGHTS) == expected
    assert len({tuple(texts) for texts in expected}) > 1
    encoder.rows.clear()
    decoder.rows.clear()
    assert scorer.predictions(4 * WEIGHTS) == expected
    assert bool(encoder.rows) is (adapted == ""), "computed once, where no adapter changes it"
    assert decoder.rows, "a decoder's layers leave keys and values for the next token"


def test_answers_and_losses_of_the_same_examples_are_made_from_one_memory(families: Any) -> None:
    family = families["t5"]
    base = family.base()
    adapters = only(family.adapters(base.model, scalings=(1.0,)), lambda path: path.startswith("decoder."))
    scorer = scorer_of(base, adapters, LONG, token_budget=1)
    calls = Calls(base.model.encoder.block[0].layer[0].SelfAttention.q)
    scorer.predictions(WEIGHTS)
    computed = len(calls.rows)
    scorer.example_losses(WEIGHTS)
    assert 0 < computed == len(calls.rows)


def test_with_adapters_in_the_first_layer_nothing_is_replayed(family: Any) -> None:
    base = family.base()
    modules = family.adapters(base.model, scalings=(1.0,))[0].modules
    assert LowerLayers(base.model, modules).paths == ()


def test_an_adapted_module_outside_of_the_layers_forbids_a_replay(families: Any) -> None:
    base = families["llama"].base()
    assert LowerLayers(base.model, ["model.layers.1.mlp.down_proj", "model.embed_tokens"]).paths == ()
    assert LowerLayers(base.model, ["model.layers.1.mlp.down_proj", "lm_head"]).paths == ("model.layers.0",)


def test_a_model_that_looks_at_a_lower_layer_again_is_not_replayed(families: Any, examples: Examples) -> None:
    family = families["t5"]
    base = family.base()
    adapters = only(family.adapters(base.model, scalings=(1.0,)), lambda path: path.startswith("encoder.block.1"))
    assert scorer_of(base, adapters, examples)._population.lower.paths  # type: ignore[attr-defined]
    seen: list[Any] = []
    base.model.encoder.block[0].layer[0].layer_norm.register_forward_hook(lambda _m, _i, output: seen.append(output))
    base.model.lm_head.register_forward_hook(lambda _m, _i, out: out + (seen.pop().mean() if seen else 0))
    odd: Any = scorer_of(base, adapters, examples)
    assert not odd._population.lower.paths


def test_after_an_error_in_the_middle_the_model_computes_again(families: Any) -> None:
    family = families["llama"]
    base = family.base()
    keep, _ = UPPER["llama"]
    ids = torch.tensor([[3, 4, 5]])
    before = base.model(input_ids=ids).logits
    lower = LowerLayers(base.model, only(family.adapters(base.model, scalings=(1.0,)), keep)[0].modules)
    with (
        pytest.raises(ZeroDivisionError),
        lower.replayed("key", lambda: base.model(input_ids=ids), rows=1, candidates=2),
    ):
        raise ZeroDivisionError
    assert torch.equal(base.model(input_ids=ids).logits, before)
    assert all("forward" not in module.__dict__ for module in base.model.modules())


# --- output layer ---------------------------------------------------------------------------------------------------


def test_the_output_layer_sees_only_places_where_a_label_is_predicted(
    generating_family: Any, examples: Examples
) -> None:
    base = generating_family.base()
    scorer = scorer_of(base, generating_family.adapters(base.model, scalings=(1.0,)), examples)
    calls = Calls(base.model.get_output_embeddings())
    scorer.example_losses(WEIGHTS)
    assert sum(calls.rows) == len(WEIGHTS) * int(scorer.token_counts.sum())


# --- last layer -----------------------------------------------------------------------------------------------------


def test_a_llama_s_last_layer_ends_where_no_label_is_predicted(families: Any, examples: Examples) -> None:
    family = families["llama"]
    base = family.base()
    names = tuple(path for path, module in base.model.named_modules() if isinstance(module, nn.Linear))
    adapters = replace(family, targets=names).adapters(base.model, scalings=(0.5,))
    expected: Any = scorer_of(base, adapters, examples)
    expected._last.forget()
    scorer: Any = scorer_of(base, adapters, examples)
    first, last = (Calls(base.model.model.layers[i].mlp.down_proj) for i in (0, 1))
    found = scorer.example_losses(WEIGHTS)
    assert sum(last.rows) == len(WEIGHTS) * int(scorer.token_counts.sum()) < sum(first.rows)
    close(found, expected.example_losses(WEIGHTS))


def test_a_last_layer_that_does_more_is_not_cut(families: Any, examples: Examples) -> None:
    family = families["llama"]
    base = family.base()
    plain: Any = scorer_of(base, family.adapters(base.model, scalings=(0.5,)), examples)
    assert plain._last.cuts
    layer = base.model.model.layers[1]
    own = type(layer).forward
    scaled = type("Scaled", (type(layer),), {"forward": lambda self, *a, **k: 0.5 * own(self, *a, **k)})
    layer.__class__ = scaled
    scorer: Any = scorer_of(base, family.adapters(base.model, scalings=(0.5,)), examples)
    assert not scorer._last.cuts
    assert np.isfinite(scorer.example_losses(WEIGHTS)).all()


# --- shared prefix --------------------------------------------------------------------------------------------------

INSTRUCTION = "bad cafe " * 4
INSTRUCTED = Examples(tuple(Example(INSTRUCTION + i, o) for i, o in [("abc", "cb"), ("jih", "h"), ("abcdef", "fe")]))


@pytest.mark.parametrize("method", ["lorahub", "exact"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("token_budget", [50, 10_000])
def test_what_all_prompts_begin_with_is_computed_once_per_candidate(
    families: Any, name: str, method: str, token_budget: int
) -> None:
    family = families[name]
    base = family.base()
    adapters = family.adapters(base.model, scalings=(2.0, 0.5))
    whole: Any = scorer_of(base, adapters, INSTRUCTED, method=method, token_budget=token_budget)
    assert len(whole._prefix) >= len(INSTRUCTION)
    calls = Calls(deepest(base.model))
    found = whole.example_losses(WEIGHTS)
    shared_rows = sum(calls.rows)
    whole._prefix.forget()
    whole._batches.clear()
    calls.rows.clear()
    close(found, whole.example_losses(WEIGHTS))
    assert shared_rows < 0.6 * sum(calls.rows)


@pytest.mark.parametrize("window", [8, 42, 64])
def test_padding_behind_a_shared_prefix_takes_nothing_out_of_a_sliding_window(sliding: Any, window: int) -> None:
    family = sliding(window)
    base = family.base()
    adapters = family.adapters(base.model, scalings=(2.0, 0.5))
    scorer: Any = scorer_of(base, adapters, INSTRUCTED)
    assert len(scorer._prefix) and scorer._pads is (window == 64)
    alone = [scorer_of(base, adapters, Examples((row,))).example_losses(WEIGHTS) for row in INSTRUCTED]
    close(scorer.example_losses(WEIGHTS), np.concatenate(alone, axis=1))


def test_prompts_with_little_in_common_share_nothing(families: Any, examples: Examples) -> None:
    base = families["llama"].base()
    scorer: Any = scorer_of(base, families["llama"].adapters(base.model, scalings=(1.0,)), examples)
    assert len(scorer._prefix) == 0


def test_recurrent_layers_whose_state_cannot_be_repeated_share_nothing(families: Any) -> None:
    sizes = {"vocab_size": 14, "hidden_size": 16, "state_size": 4, "num_hidden_layers": 2}
    family = replace(
        families["llama"], targets=("in_proj",), build=lambda: MambaForCausalLM(MambaConfig(**sizes, eos_token_id=1))
    )
    base = family.base()
    scorer: Any = scorer_of(base, family.adapters(base.model, scalings=(1.0,)), INSTRUCTED, max_new_tokens=4)
    assert len(scorer._prefix) == 0
    assert np.isfinite(scorer.example_losses(WEIGHTS)).all()
    assert len(scorer.predictions(WEIGHTS)) == len(WEIGHTS)


def test_equal_prompts_keep_their_last_token_out_of_the_prefix(families: Any) -> None:
    rows = Examples(tuple(Example(INSTRUCTION, output) for output in ("abc", "b", "cc")))
    base = families["llama"].base()
    scorer: Any = scorer_of(base, families["llama"].adapters(base.model, scalings=(1.0,)), rows)
    assert len(scorer._prefix) == len(INSTRUCTION) - 1
    alone = [
        scorer_of(base, families["llama"].adapters(base.model, scalings=(1.0,)), Examples((row,))).example_losses(
            WEIGHTS
        )
        for row in rows
    ]
    close(scorer.example_losses(WEIGHTS), np.concatenate(alone, axis=1))


# --- cross-attention ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["lorahub", "exact"])
@pytest.mark.parametrize("which", [LONG, "ragged"])
def test_cross_attention_in_the_cheaper_order_gives_the_same(
    families: Any, examples: Examples, method: str, which: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = examples if which == "ragged" else which
    base = families["t5"].base()
    adapters = families["t5"].adapters(base.model, scalings=(2.0, 0.5))
    adapters += families["t5"].adapters(base.model, scalings=(1.0,))[:1]
    adapters = [replace(a, name=str(i)) for i, a in enumerate(adapters[:2] + with_keys(adapters[2:3]))]
    found = {}
    for ordered in (True, False):
        monkeypatch.setattr(cross_attention, "pays", lambda ordered=ordered, **_: ordered)
        # a budget that puts rows of several lengths into one padded forward
        scorer = scorer_of(base, adapters, rows, method=method, token_budget=10_000)
        calls = Calls(base.model.decoder.block[1].layer[1].EncDecAttention.k)
        found[ordered] = scorer.example_losses(WEIGHTS)
        assert bool(calls.rows) is not ordered
    close(found[True], found[False])


def with_keys(adapters: Sequence[LoraAdapter]) -> list[LoraAdapter]:
    """The factors of q also on k."""
    return [
        replace(a, modules={**a.modules, **{p[:-1] + "k": f for p, f in a.modules.items() if p.endswith(".q")}})
        for a in adapters
    ]


def test_the_new_order_is_taken_where_few_look_at_many() -> None:
    assert cross_attention.pays(queries=9, keys=128, heads=8, head_width=64)
    assert not cross_attention.pays(queries=128, keys=9, heads=8, head_width=64)


# --- chunks ---------------------------------------------------------------------------------------------------------


def test_chunks_of_candidates_come_out_equal_and_within_the_budget() -> None:
    assert at_once(16, [(160, 11)], 1024) == 4
    assert at_once(3, [(160, 11)], 1024) == 3
    assert at_once(7, [(5000,)], 1024) == 1


def test_a_gpu_s_chunk_is_a_power_of_two_that_grows_with_its_memory() -> None:
    model = nn.Sequential(nn.Linear(512, 2048))
    sizes = [tokens_within(memory, model) for memory in (0, 1 << 30, 1 << 32, 1 << 40)]
    assert sizes == sorted(sizes) and sizes[0] == GPU_TOKENS[0] and sizes[-1] == GPU_TOKENS[1]
    assert all(size & (size - 1) == 0 for size in sizes)


def failing_above(scorer: Any, most: int, error: Exception, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Make forwards of more than `most` tokens fail; gives the list of those that did not."""
    model, sizes = scorer._model, []
    forward = model.forward

    def limited(*args: Any, **given: Any) -> Any:
        if given["input_ids"].numel() > most:
            raise error
        sizes.append(given["input_ids"].numel())
        return forward(*args, **given)

    monkeypatch.setattr(model, "forward", limited)
    return sizes


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_out_of_memory_halves_the_chunk_and_goes_on(
    family: Any, examples: Examples, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = family.base()
    adapters = family.adapters(base.model, scalings=(1.0,))
    expected = scorer_of(base, adapters, examples).example_losses(WEIGHTS)
    scorer: Any = scorer_of(base, adapters, examples, token_budget=4096)
    sizes = failing_above(scorer, 30, error, monkeypatch)
    close(scorer.example_losses(WEIGHTS), expected)
    assert scorer.token_budget < 64 and sizes
    scorer.example_losses(WEIGHTS)  # the smaller chunk is kept: nothing fails again


def test_out_of_memory_halves_the_chunk_of_gradients_as_well(
    family: Any, examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = family.base()
    adapters = family.adapters(base.model, scalings=(1.0,))
    expected = cast(Any, scorer_of(base, adapters, examples)).losses_and_gradients(WEIGHTS[:1])
    scorer: Any = scorer_of(base, adapters, examples, token_budget=4096)
    sizes = failing_above(scorer, 30, torch.OutOfMemoryError("CUDA out of memory"), monkeypatch)
    for found, wanted in zip(scorer.losses_and_gradients(WEIGHTS[:1]), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
    assert scorer.token_budget < 4096 and sizes


def test_an_example_that_does_not_fit_at_all_is_named_by_its_length(
    family: Any, examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = family.base()
    scorer = scorer_of(base, family.adapters(base.model, scalings=(1.0,)), examples)
    failing_above(scorer, 0, torch.OutOfMemoryError("CUDA out of memory"), monkeypatch)
    with pytest.raises(BaseModelError, match="does not fit into memory") as caught:
        scorer.example_losses(WEIGHTS)
    assert "--dtype bfloat16" in caught.value.remedy


def test_other_errors_of_a_forward_are_not_taken_for_memory(
    family: Any, examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = family.base()
    scorer = scorer_of(base, family.adapters(base.model, scalings=(1.0,)), examples)
    failing_above(scorer, 0, RuntimeError("shapes do not match"), monkeypatch)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        scorer.example_losses(WEIGHTS)
