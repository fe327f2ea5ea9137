"""Metrics of texts: 0 to 1, with the normalisation of their source."""

from __future__ import annotations

import sys

import pytest

from compose.errors import MissingExtra
from compose.scoring import text_metrics
from compose.scoring.text_metrics import TEXT_METRICS, exact_match, f1, squad_em


@pytest.mark.parametrize("name", TEXT_METRICS)
def test_the_same_text_is_worth_one_and_another_one_less(name: str) -> None:
    metric = TEXT_METRICS[name]
    assert metric("the cat sat on the mat", "the cat sat on the mat") == pytest.approx(1)
    partly = metric("the cat stood on a mat", "the cat sat on the mat")
    assert 0 <= metric("zzz", "the cat sat on the mat") <= partly < 1


def test_exact_match_forgives_white_space_at_the_ends_only() -> None:
    assert exact_match(" Paris\n", "Paris") == 1
    assert exact_match("paris", "Paris") == exact_match("Paris.", "Paris") == 0


def test_squad_forgives_case_articles_and_punctuation() -> None:
    assert squad_em("the Eiffel-Tower!", "eiffeltower") == 1
    assert squad_em("Eiffel", "Eiffel Tower") == 0


def test_f1_is_that_of_the_squad_script() -> None:
    # 2 of 3 found words are among the 2 wanted: precision 2/3, recall 1
    assert f1("big Eiffel Tower", "the Eiffel Tower") == pytest.approx(0.8)
    assert f1("", "the") == 1 and f1("", "tower") == 0


def test_rouge_l_is_the_longest_common_subsequence() -> None:
    # police ... the gunman: 3 words in order of 4 and 4 (Lin 2004, section 3.1)
    assert TEXT_METRICS["rougeL"]("police kill the gunman", "police killed the gunman") == pytest.approx(1)  # stemmed
    assert TEXT_METRICS["rougeL"]("the gunman police ended", "police ended the gunman") == pytest.approx(0.5)


def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.chrf", None)
    text_metrics._chrf.cache_clear()
    with pytest.raises(MissingExtra, match=r"sacrebleu\n.*mixhub\[metrics\]"):
        TEXT_METRICS["chrf"]("a", "b")
    text_metrics._chrf.cache_clear()
