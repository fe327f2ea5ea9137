"""How good is a generated text? One function per metric: (prediction, reference) -> 0 (wrong) to 1 (the same).

exact_match   equal but for white space around them; case and punctuation count
squad_em      equal after SQuAD's normalisation: lower case, no punctuation, no articles (Rajpurkar et al. 2016)
f1            F1 over the normalised words (same source, `evaluate-v1.1.py`)
rouge1/2/L    F measure of ROUGE with stemming (Lin 2004), by the package rouge-score
chrf          sentence chrF2 / 100 (Popovic 2015), by the package sacrebleu
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable
from functools import cache
from types import MappingProxyType
from typing import Any

from ..errors import MissingExtra

TextMetric = Callable[[str, str], float]
"""(prediction, reference) -> 0 to 1, higher is better."""


def exact_match(prediction: str, reference: str) -> float:
    return float(prediction.strip() == reference.strip())


def squad_em(prediction: str, reference: str) -> float:
    return float(_normalised(prediction) == _normalised(reference))


def f1(prediction: str, reference: str) -> float:
    found, wanted = _normalised(prediction).split(), _normalised(reference).split()
    if not found or not wanted:
        return float(found == wanted)  # as SQuAD 2.0: no words only matches no words
    common = sum((Counter(found) & Counter(wanted)).values())
    return 2 * common / (len(found) + len(wanted))


def rouge(kind: str) -> TextMetric:
    """`kind` is rouge1, rouge2 or rougeL."""

    def score(prediction: str, reference: str) -> float:
        return float(_rouge_scorer(kind).score(target=reference, prediction=prediction)[kind].fmeasure)

    return score


def chrf(prediction: str, reference: str) -> float:
    return float(_chrf().sentence_score(prediction, [reference]).score) / 100


TEXT_METRICS = MappingProxyType(
    {
        "exact_match": exact_match,
        "squad_em": squad_em,
        "f1": f1,
        "rouge1": rouge("rouge1"),
        "rouge2": rouge("rouge2"),
        "rougeL": rouge("rougeL"),
        "chrf": chrf,
    }
)


def _normalised(text: str) -> str:
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


@cache
def _rouge_scorer(kind: str) -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise _missing("rouge-score", kind) from error
    return RougeScorer([kind], use_stemmer=True)


@cache
def _chrf() -> Any:
    try:
        from sacrebleu.metrics.chrf import CHRF
    except ImportError as error:
        raise _missing("sacrebleu", "chrf") from error
    return CHRF()


def _missing(package: str, metric: str) -> MissingExtra:
    return MissingExtra(f"the objective {metric} needs the package {package}", remedy='pip install "mixhub[metrics]"')
