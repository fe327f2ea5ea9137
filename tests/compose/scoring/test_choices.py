"""Choice ranking: the model's own log-likelihoods, and the three ways of lm-evaluation-harness to rank."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from compose.errors import BadExamples
from compose.examples import Example, Examples
from compose.merge import merge
from compose.scoring import make_scorer
from compose.scoring.choices import ChoiceScorer, with_choices
from compose.scoring.tokens import encode_continuation

WEIGHTS = np.array([[1.0, 0.0, 0.0], [0.5, -0.7, 1.3], [0.0, 0.0, 0.0]])
ROWS = Examples(
    (
        Example("abcde ", "edc", ("edc", "a", "ab cd")),
        Example("fgh", "h", ("i", "h")),
        Example("abc jih", "jijijij", ("ij", "ijij", "jijijij")),
    )
)


class Fixed:
    """A few-shot loss scorer with given losses per row and 2 tokens each."""

    adapter_names, method, method_params = ("a",), "lorahub", {}

    def __init__(self, losses: list[float]) -> None:
        self._losses = losses
        self.token_counts = np.full(len(losses), 2)

    def example_losses(self, weights: np.ndarray) -> np.ndarray:
        return np.array([self._losses] * len(weights))

    def predictions(self, weights: np.ndarray) -> list[list[str]]:
        raise AssertionError(f"choices are ranked, not written: {weights}")


def ranked(losses: list[float], choices: tuple[str, ...], gold: str, normalise: Any) -> ChoiceScorer:
    rows = Examples((Example("x", gold, choices),))
    return ChoiceScorer(lambda _: Fixed(losses), examples=rows, normalise=normalise)


@pytest.mark.parametrize(
    ("normalise", "best"),
    # sums -2, -3 and -5 over 1, 2 and 5 characters, of 1, 6 and 5 bytes
    [("acc", "a"), ("acc_norm", "ccccc"), ("acc_bytes", "語文")],
)
def test_options_are_ranked_by_sum_per_character_and_per_byte(normalise: str, best: str) -> None:
    scorer = ranked([1.0, 1.5, 2.5], ("a", "語文", "ccccc"), "a", normalise)
    assert scorer.predictions(np.zeros((1, 1))) == [[best]]
    np.testing.assert_array_equal(scorer.values(np.zeros((1, 1))), [[float(best == "a")]])


def test_a_wrong_choice_costs_one_and_the_cross_entropy_breaks_ties() -> None:
    right = ranked([1.0, 1.5], ("a", "b"), "a", "acc").example_losses(np.zeros((1, 1)))[0, 0]
    surer = ranked([1.0, 9.5], ("a", "b"), "a", "acc").example_losses(np.zeros((1, 1)))[0, 0]
    wrong = ranked([1.5, 1.0], ("a", "b"), "a", "acc").example_losses(np.zeros((1, 1)))[0, 0]
    assert 0 < surer < right < 0.5 and 1 < wrong < 1.5
    soft = ChoiceScorer(
        lambda _: Fixed([1.0, 1.5]), examples=Examples((Example("x", "a", ("a", "b")),)), normalise="acc", soft=True
    )
    assert soft.example_losses(np.zeros((1, 1)))[0, 0] == pytest.approx(np.log(1 + np.exp(-1)))


def test_the_log_likelihood_of_an_option_is_the_model_s_own_without_an_end_token(generating_family: Any) -> None:
    base = generating_family.base()
    adapters = generating_family.adapters(base.model, scalings=(2.0, 0.5, 1.0))
    scorer = ChoiceScorer(
        lambda rows: make_scorer(base, examples=rows, adapters=adapters, ends=False), examples=ROWS, normalise="acc"
    )
    found = scorer.log_likelihoods(WEIGHTS)
    for k, row in enumerate(WEIGHTS):
        with merged_into(base.model, adapters, row):
            for e, example in enumerate(ROWS):
                expected = [log_likelihood(base, example.input, choice) for choice in example.choices]
                np.testing.assert_allclose(found[k][e], expected, rtol=0, atol=1e-9)


def merged_into(model: Any, adapters: Any, row: np.ndarray) -> Any:
    """The base with the dense change of a mix in its weights, one at a time."""
    merged = merge(adapters, row.tolist()).adapter

    class Changed:
        def __enter__(self) -> None:
            self.add(1)

        def __exit__(self, *_: object) -> None:
            self.add(-1)

        def add(self, sign: int) -> None:
            for path, factors in merged.modules.items():
                weight = model.get_submodule(path).weight
                delta = factors.scaling * factors.B @ factors.A
                weight += sign * (delta if weight.shape == delta.shape and not hasattr(
                    model.get_submodule(path), "nf") else delta.T)  # fmt: skip

    return Changed()


def log_likelihood(base: Any, context: str, option: str) -> float:
    """One forward of one row; white space at the context's end goes to the option (as the harness does)."""
    kept = context.rstrip()
    option = context[len(kept) :] + option
    prompt, labels = (base.tokenizer(kept).input_ids, base.tokenizer(option).input_ids)
    with torch.no_grad():
        if base.kind == "seq2seq":
            start = [base.model.config.decoder_start_token_id]
            logits = base.model(
                input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([start + labels[:-1]])
            ).logits[0]
        else:
            logits = base.model(input_ids=torch.tensor([prompt + labels])).logits[0, len(prompt) - 1 : -1]
    return float(logits.log_softmax(-1)[range(len(labels)), labels].sum())


def test_an_option_is_encoded_as_what_follows_its_context() -> None:
    """Encoded alone it could be cut into other tokens; a tokenizer that joins "ab" shows it."""

    class Joining:
        eos_token_id = 9

        def __call__(self, text: str = "", text_target: str = "", **_: Any) -> Any:
            ids = [5 if part == "_" else 6 for part in (text or text_target).replace("ab", "_")]
            return type("Encoded", (), {"input_ids": [*ids, 9] if text else ids})

    assert encode_continuation(Joining(), "x ", "ab", joined=True) == ([6], [6, 5])
    assert encode_continuation(Joining(), "x", "ab", joined=False) == ([6, 9], [5])


def test_labels_become_the_options_of_rows_that_name_none() -> None:
    rows = Examples((Example("x", "pos"), Example("y", "b", ("a", "b"))))
    filled = with_choices(rows, {"pos": "good", "neg": "bad"})
    assert filled.rows == (Example("x", "good", ("good", "bad")), rows.rows[1])
    with pytest.raises(BadExamples, match="example 1: its output 'pos' is none of the labels"):
        with_choices(rows, {"up": "good", "down": "bad"})
    with pytest.raises(BadExamples, match="two labels have the same text"):
        with_choices(rows, {"pos": "good", "neg": "good"})


def test_rows_without_choices_are_refused() -> None:
    with pytest.raises(BadExamples, match="example 1 names no choices"):
        ChoiceScorer(lambda _: Fixed([1.0]), examples=Examples((Example("x", "y"),)), normalise="acc")
