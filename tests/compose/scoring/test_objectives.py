"""Objectives by name: each is a scorer that a search takes as it is; the loss breaks the ties of what is counted."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compose.errors import BaseModelError, SearchError
from compose.examples import Example, Examples
from compose.scoring import custom, make_scorer
from compose.scoring.metric_scorer import MetricScorer, cut, per_example
from compose.scoring.objectives import built_in_objectives, check_objective, objective_scorer
from compose.scoring.text_metrics import exact_match
from compose.scoring.tie_break import with_tie_break
from compose.search import search

WEIGHTS = np.array([[1.0, 0.0, 0.0], [0.5, -0.7, 1.3], [0.0, 0.0, 0.0]])


def maker(family: Any, base: Any) -> Callable[..., Any]:
    return partial(make_scorer, base, adapters=family.adapters(base.model, scalings=(2.0,)))


def with_answers_of(scorer: Any, examples: Examples, row: np.ndarray) -> Examples:
    """The same inputs; the outputs are what this mix writes, where it writes anything."""
    [texts] = scorer.predictions(row[None])
    return Examples(tuple(Example(e.input, t if t.strip() else "a") for e, t in zip(examples, texts, strict=True)))


def test_exact_match_finds_the_mix_that_wrote_the_answers(generating_family: Any, examples: Examples) -> None:
    base = generating_family.base()
    make = maker(generating_family, base)
    answers = with_answers_of(make(examples=examples, max_new_tokens=4), examples, WEIGHTS[1])
    rows = Examples(tuple(answers.rows[i] for i, e in enumerate(answers) if e.output != "a"))
    scorer = objective_scorer("exact_match", partial(make, max_new_tokens=4), examples=rows, kind=base.kind)
    values = scorer.values(WEIGHTS)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(values[1], np.ones(len(rows)))
    assert values[0].mean() < 1
    losses = scorer.example_losses(WEIGHTS).mean(axis=1)
    assert losses.argmin() == 1 and losses[1] < 1 / len(rows)


@pytest.mark.parametrize("name", [name for name in built_in_objectives() if name not in ("acc_norm", "acc_bytes")])
def test_every_objective_can_be_searched(families: Any, name: str) -> None:
    rows = Examples(tuple(Example(t, o, ("ab", "cd")) for t, o in (("abcde", "ab"), ("fgh", "cd"), ("jih", "cd"))))
    base = families["llama"].base()
    scorer = objective_scorer(name, maker(families["llama"], base), examples=rows, kind="causal")
    assert scorer.example_losses(WEIGHTS).shape == (3, 3)
    result = search(scorer.adapter_names, scorer, budget=9, optimizer="Cobyla", gate=False)
    assert result.evaluations == 9 and np.isfinite(result.loss)
    assert result.baselines is not None and result.loss <= result.baselines.lowest_loss


def test_a_text_encoder_ranks_its_labels_and_writes_nothing(families: Any) -> None:
    rows = Examples((Example("abcde", "a"), Example("fgh", "b"), Example("jih", "b")))
    base, labels = families["bert"].base(), {"a": "abc", "b": "hij"}
    make = maker(families["bert"], base)
    plain = make(examples=rows, labels=labels)
    acc = objective_scorer("acc", make, examples=rows, kind="encoder", labels=labels)
    right = np.array([[text == e.output for text, e in zip(t, rows, strict=True)] for t in plain.predictions(WEIGHTS)])
    np.testing.assert_array_equal(
        acc.example_losses(WEIGHTS), with_tie_break(1.0 - right, plain.example_losses(WEIGHTS))
    )
    soft = objective_scorer("choice_loss", make, examples=rows, kind="encoder", labels=labels)
    np.testing.assert_array_equal(soft.example_losses(WEIGHTS), plain.example_losses(WEIGHTS))
    for name, words in (("chrf", "text encoder"), ("acc_norm", "compares embeddings")):
        with pytest.raises(BaseModelError, match=words):
            objective_scorer(name, make, examples=rows, kind="encoder", labels=labels)


def test_one_more_right_answer_outweighs_every_tie_break() -> None:
    worse = with_tie_break(np.array([[1.0, 1.0, 0.0]]), np.zeros((1, 3)))
    better = with_tie_break(np.array([[1.0, 0.0, 0.0]]), np.full((1, 3), np.inf))
    assert better.mean() < worse.mean()
    tied = with_tie_break(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[1.0, 2.0], [1.0, 1.0]])).mean(axis=1)
    assert tied[1] < tied[0]


def test_texts_end_at_the_first_stop_string() -> None:
    assert cut("one\nQ: two###", ["###", "\nQ:"]) == "one"
    assert cut("one", ["\n"]) == "one" and cut("one", []) == "one"


class Writes:
    """A scorer whose candidates all write the same texts."""

    adapter_names, method, method_params = ("a",), "lorahub", {}

    def __init__(self, *texts: str) -> None:
        self.texts, self.token_counts = list(texts), np.ones(len(texts), dtype=np.int64)

    def example_losses(self, weights: np.ndarray) -> np.ndarray:
        return np.zeros((len(weights), len(self.texts)))

    def predictions(self, weights: np.ndarray) -> list[list[str]]:
        return [self.texts] * len(weights)


def test_stop_strings_cut_what_is_measured() -> None:
    rows = Examples((Example("x", "yes"),))
    assert MetricScorer(
        Writes("yes\nQ: and"), per_example(exact_match), examples=rows, name="exact_match", stop=("\n",)
    ).values(np.zeros((2, 1))).tolist() == [[1.0], [1.0]]


@pytest.fixture
def module_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """A module of the user's own: `module_of(source)` -> its name."""

    def make(source: str) -> str:
        (tmp_path / "my_objectives.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "my_objectives", raising=False)
        return "my_objectives"

    return make


def test_a_function_of_one_s_own_is_an_objective(module_of: Callable[[str], str]) -> None:
    module = module_of("def short(predictions, examples):\n    return [1 / (1 + len(p)) for p in predictions]\n")
    check_objective(f"{module}:short")
    rows = Examples((Example("x", "y"), Example("z", "y")))
    scorer = objective_scorer(f"{module}:short", lambda **_: Writes("", "abc"), examples=rows, kind="causal")
    np.testing.assert_allclose(scorer.example_losses(np.zeros((1, 1))), [[0.0, 0.75]])


@pytest.mark.parametrize(
    "returned", ["[1.0]", "[2.0, 0.0]", "[float('nan'), 0.0]", "'ab'", "['a', 'b']", "None", "[[1.0], [1.0, 0.0]]"]
)
def test_a_function_that_returns_something_else_is_named(module_of: Callable[[str], str], returned: str) -> None:
    module = module_of(f"def bad(predictions, examples):\n    return {returned}\n")
    rows = Examples((Example("x", "y"), Example("z", "y")))
    scorer = objective_scorer(f"{module}:bad", lambda **_: Writes("", "abc"), examples=rows, kind="causal")
    with pytest.raises(SearchError, match="my_objectives:bad gave"):
        scorer.example_losses(np.zeros((1, 1)))


def test_a_function_that_raises_is_named_with_what_it_was_given_and_the_cause(module_of: Callable[[str], str]) -> None:
    module = module_of("def bad(predictions, examples):\n    return 1 / 0\n")
    rows = Examples((Example("x", "y"), Example("z", "y")))
    scorer = objective_scorer(f"{module}:bad", lambda **_: Writes("", "abc"), examples=rows, kind="causal")
    with pytest.raises(SearchError, match=r"my_objectives:bad failed for 2 predictions.*ZeroDivisionError") as caught:
        scorer.example_losses(np.zeros((1, 1)))
    assert isinstance(caught.value.__cause__, ZeroDivisionError) and "(predictions, examples)" in caught.value.remedy


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def bad(predictions): ...", r"cannot be called with \(predictions, examples\): it takes \(predictions\)"),
        ("def bad(predictions, examples, *, more): ...", r"cannot be called.*more"),
        ("1 / 0", "cannot load the objective my_objectives:bad: ZeroDivisionError"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused_before_anything_is_loaded(
    module_of: Callable[[str], str], source: str, words: str
) -> None:
    with pytest.raises(SearchError, match=words):
        check_objective(f"{module_of(source)}:bad")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("acc_nrm", "did you mean acc_norm"),
        ("nothing_like_it", "use one of loss, acc"),
        ("no.such.module:f", "cannot load the objective no.such.module:f"),
        ("math:nothing", "cannot load"),
        ("math:pi", "is a float, not a function"),
    ],
)
def test_an_objective_that_is_none_is_refused_before_anything_is_loaded(name: str, words: str) -> None:
    with pytest.raises(SearchError, match=words):
        check_objective(name)


def test_an_installed_package_can_offer_objectives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{custom.GROUP}]\ntheirs = their_module:score\n")
    (tmp_path / "their_module.py").write_text("def score(predictions, examples):\n    return [1.0] * len(examples)\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert custom.installed_objectives() == ["theirs"]
    check_objective("theirs")
    assert custom.find_metric("theirs")([""], [Example("x", "y")]) == [1.0]
