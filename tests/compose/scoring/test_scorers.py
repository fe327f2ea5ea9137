"""What scorers refuse, and the shortcuts they give up where a model does not take them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from compose.errors import BadExamples, BadWeights, BaseModelError, IncompatibleAdapters
from compose.examples import Example, Examples
from compose.merge import merge
from compose.methods import METHODS
from compose.scoring import CausalScorer, LoadedBase, Scorer, make_scorer
from compose.stack import stack_adapters

WEIGHTS = np.array([[1.0, 0.0, 0.0], [0.5, -0.7, 1.3]])


def scorer_of(family: Any, examples: Examples, **options: Any) -> Scorer:
    base = family.base()
    return make_scorer(base, examples=examples, adapters=family.adapters(base.model, scalings=(1.0,)), **options)


def test_a_scorer_says_what_it_mixes_and_how(family: Any, examples: Examples) -> None:
    scorer: Scorer = scorer_of(family, examples, params={"fold": "lorahub-compat"})
    assert scorer.adapter_names == ("adapter-0", "adapter-1", "adapter-2")
    assert (scorer.method, dict(scorer.method_params)) == ("lorahub", {"fold": "lorahub-compat", "align": "none"})
    assert scorer.example_losses(WEIGHTS).shape == (2, len(examples))
    assert len(scorer.token_counts) == len(examples)


def test_token_counts_are_the_output_and_its_end(families: Any, examples: Examples) -> None:
    for name in ("t5", "llama"):
        counts = scorer_of(families[name], examples).token_counts
        np.testing.assert_array_equal(counts, [len(example.output) + 1 for example in examples])
    np.testing.assert_array_equal(scorer_of(families["bert"], examples).token_counts, np.ones(len(examples)))


def test_an_example_s_loss_does_not_depend_on_the_other_examples(family: Any, examples: Examples) -> None:
    labels = {e.output: e.output for e in examples} if family.kind == "encoder" else None
    whole = scorer_of(family, examples, labels=labels).example_losses(WEIGHTS)
    for i, example in enumerate(examples):
        alone = scorer_of(family, Examples((example,)), labels=labels).example_losses(WEIGHTS)
        np.testing.assert_allclose(alone[:, 0], whole[:, i], rtol=0, atol=1e-9)


def test_wrong_weights_are_refused(family: Any, examples: Examples) -> None:
    scorer = scorer_of(family, examples)
    with pytest.raises(BadWeights, match="3 adapters"):
        scorer.example_losses(np.zeros((1, 2)))
    with pytest.raises(BadWeights, match="finite"):
        scorer.predictions(np.full((1, 3), np.inf))


def test_adapters_of_another_base_are_refused(families: Any, examples: Examples) -> None:
    base, other = families["t5"].base(), families["llama"].base()
    with pytest.raises(IncompatibleAdapters, match="tiny-llama"):
        make_scorer(other, examples=examples, adapters=families["t5"].adapters(base.model, scalings=(1.0,)))


def test_the_best_label_is_the_one_of_the_lowest_loss(families: Any, examples: Examples) -> None:
    labels = {e.output: e.output for e in examples}
    losses = []
    for label in labels:
        relabelled = Examples(tuple(Example(e.input, label) for e in examples))
        losses.append(scorer_of(families["bert"], relabelled, labels=labels).example_losses(WEIGHTS))
    best = np.array(losses).argmin(0)
    predicted = scorer_of(families["bert"], examples, labels=labels).predictions(WEIGHTS)
    assert predicted == [[list(labels)[i] for i in row] for row in best]


def test_an_output_that_is_no_label_is_named(families: Any, examples: Examples) -> None:
    with pytest.raises(BadExamples, match="example 1: its output 'edc' is none of the labels"):
        scorer_of(families["bert"], examples, labels={"a": "a", "b": "b"})
    one = Examples((Example("a", "b"),))
    with pytest.raises(BadExamples, match="at least two labels"):
        scorer_of(families["bert"], one)


def test_long_texts_are_cut_for_encoders_and_refused_by_causal_models(families: Any) -> None:
    long = Examples((Example("ab" * 60, "a"), Example("b", "b")))
    assert np.isfinite(scorer_of(families["bert"], long).example_losses(WEIGHTS)).all()
    with pytest.raises(BadExamples, match="example 1: its text has 122 tokens, tiny-gpt2 takes 64"):
        scorer_of(families["gpt2"], long)


def test_an_empty_input_still_has_a_token_to_start_from(generating_family: Any) -> None:
    examples = Examples((Example("", "abc"), Example("ab", "c")))
    if generating_family.kind == "seq2seq":  # this tokenizer adds no end to an input
        with pytest.raises(BadExamples, match="example 1: its input has no tokens"):
            scorer_of(generating_family, examples)
    else:
        assert np.isfinite(scorer_of(generating_family, examples).example_losses(WEIGHTS)).all()


def test_a_tokenizer_of_another_model_is_refused(families: Any, examples: Examples) -> None:
    base = families["llama"].base()
    base.model.resize_token_embeddings(5)
    with pytest.raises(BaseModelError, match="the model knows 5"):
        make_scorer(base, examples=examples, adapters=families["llama"].adapters(base.model, scalings=(1.0,)))


class NoShortcuts(torch.nn.Module):
    """A causal model that takes neither positions nor `logits_to_keep`, and whose padded rows come out wrong."""

    def __init__(self, inner: Any, *, keeps: bool) -> None:
        super().__init__()
        self.inner, self.keeps, self.widths = inner, keeps, set()
        self.config, self.device = inner.config, inner.device

    def get_input_embeddings(self) -> Any:
        return self.inner.get_input_embeddings()

    def forward(self, input_ids: Any, attention_mask: Any = None, use_cache: bool = False) -> Any:
        assert attention_mask is None or bool(attention_mask.all()), "padded, though it cannot be told about positions"
        return self.inner(input_ids=input_ids, use_cache=use_cache)


class WrongShortcuts(NoShortcuts):
    """Takes both and does not honour them: keeps from the wrong end, ignores positions and mask."""

    def forward(  # type: ignore[override]
        self,
        input_ids: Any,
        attention_mask: Any = None,
        position_ids: Any = None,
        use_cache: bool = False,
        logits_to_keep: int = 0,
    ) -> Any:
        del attention_mask, position_ids
        output = self.inner(input_ids=input_ids, use_cache=use_cache)
        output.logits = output.logits[:, : logits_to_keep or None]
        return output


@pytest.mark.parametrize("wrapper", [NoShortcuts, WrongShortcuts])
def test_a_causal_model_that_takes_no_shortcuts_is_scored_the_long_way(
    families: Any, examples: Examples, wrapper: Any
) -> None:
    base = families["gpt2"].base()
    adapters = families["gpt2"].adapters(base.model, scalings=(1.0,))
    expected = make_scorer(base, examples=examples, adapters=adapters).example_losses(WEIGHTS)
    renamed = [replace(a, modules={f"inner.{path}": f for path, f in a.modules.items()}) for a in adapters]
    wrapped = LoadedBase(wrapper(base.model, keeps=False), base.tokenizer, "causal", "odd")
    scorer = CausalScorer(
        wrapped.model, base.tokenizer, examples=examples, stack=stack_adapters(renamed, dtype=torch.float64)
    )
    np.testing.assert_allclose(scorer.example_losses(WEIGHTS), expected, rtol=0, atol=1e-9)


def test_low_precision_bases_are_scored_with_float32_adapters(family: Any, examples: Examples) -> None:
    fine = scorer_of(family, examples).example_losses(WEIGHTS)
    base = family.base(dtype=torch.bfloat16)
    adapters = family.adapters(base.model, scalings=(1.0,))
    coarse = make_scorer(base, examples=examples, adapters=adapters).example_losses(WEIGHTS)
    assert np.isfinite(coarse).all()
    np.testing.assert_allclose(coarse, fine, rtol=0.3, atol=0.3)


@pytest.mark.parametrize("method", METHODS)
def test_the_merged_adapter_alone_scores_as_its_weights_did(family: Any, examples: Examples, method: str) -> None:
    base = family.base()
    adapters = family.adapters(base.model, scalings=(2.0, 0.5, 1.0))
    weights = WEIGHTS
    if method == "slerp":  # two adapters, weights from 0
        adapters, weights = adapters[:2], np.abs(WEIGHTS[:, :2])
    searched = make_scorer(base, examples=examples, adapters=adapters, method=method).example_losses(weights)
    for row, expected in zip(weights.tolist(), searched, strict=True):
        merged = merge(adapters, row, method=method).adapter
        alone = make_scorer(base, examples=examples, adapters=[merged]).example_losses(np.ones((1, 1)))
        np.testing.assert_allclose(alone[0], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("count", [2, 3, 40])
def test_shares_add_up_to_the_whole_also_where_there_are_more_of_them_than_forwards(
    family: Any, examples: Examples, count: int
) -> None:
    scorer: Any = scorer_of(family, examples)
    whole, found = scorer.example_losses(WEIGHTS), np.full((len(WEIGHTS), len(examples)), np.nan)
    for i in range(count):
        scorer.share = (i, count)
        part = scorer.example_losses(WEIGHTS)
        assert not (~np.isnan(part) & ~np.isnan(found)).any(), "nothing twice"
        np.copyto(found, part, where=~np.isnan(part))
    np.testing.assert_array_equal(found, whole)
