"""What a search minimises, by name: the few-shot loss, a ranking of choices, or a metric of generated answers.

An objective is a `Scorer`, (K, N) weights -> (K, E) losses, so a search needs to know nothing of it. All are made from
few-shot loss scorers (`make`), which run in this process or elsewhere (`ray_scorer.py`).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from ..errors import BaseModelError, SearchError
from ..examples import Examples
from .choices import ChoiceScorer, with_choices
from .custom import find_metric, installed_objectives
from .harness_task import PREFIX, harness_metric
from .metric_scorer import Metric, MetricScorer, per_example
from .protocol import Scorer
from .text_metrics import TEXT_METRICS

LOSS = "loss"
MakeScorer = Callable[..., Scorer]
"""`make(examples=..., labels=..., ends=...)`: the few-shot loss scorer of these rows (`loading.make_scorer`)."""

# name -> (normalised how, cross-entropy alone)
CHOICES: Mapping[str, tuple[Literal["acc", "acc_norm", "acc_bytes"], bool]] = MappingProxyType(
    {
        "acc": ("acc", False),
        "acc_norm": ("acc_norm", False),
        "acc_bytes": ("acc_bytes", False),
        "choice_loss": ("acc", True),
    }
)


def built_in_objectives() -> list[str]:
    return [LOSS, *CHOICES, *TEXT_METRICS]


def check_objective(name: str) -> None:
    """`SearchError` for a name that no objective has, before anything is loaded; one with a colon is imported."""
    if name in built_in_objectives() or name.startswith(PREFIX):
        return
    if ":" not in name and name not in installed_objectives():
        known = [*built_in_objectives(), *installed_objectives()]
        near = difflib.get_close_matches(name, known, n=1)
        raise SearchError(
            f"there is no objective {name!r}",
            remedy=f"did you mean {near[0]}?" if near else f"use one of {', '.join(known)}, or package.module:function",
        )
    find_metric(name)


def uses_choices(name: str) -> bool:
    return name in CHOICES


def objective_scorer(
    name: str,
    make: MakeScorer,
    *,
    examples: Examples,
    kind: Literal["seq2seq", "causal", "encoder"],
    labels: Mapping[str, str] | None = None,
    stop: Sequence[str] = (),
) -> Scorer:
    """The scorer of objective `name` on a base of this kind.

    `labels` (label -> text) are the options of rows that name none; a text encoder always chooses among them. `stop`
    cuts generated texts. Errors: `SearchError` for an unknown name, `BadExamples` for rows that do not fit,
    `BaseModelError` when the objective needs a model that writes text, `MissingExtra`.
    """
    if name == LOSS:
        return make(examples=examples, labels=labels)
    if name in CHOICES:
        return _choices(name, make, examples=examples, kind=kind, labels=labels)
    metric = _metric(name)
    if kind == "encoder" and name in TEXT_METRICS and name != "exact_match":
        raise BaseModelError(
            f"the objective {name} measures written texts, and this base is a text encoder",
            remedy="use --objective acc or loss",
        )
    return MetricScorer(make(examples=examples, labels=labels), metric, examples=examples, name=name, stop=stop)


def _metric(name: str) -> Metric:
    if name.startswith(PREFIX):
        return harness_metric(name)
    return per_example(TEXT_METRICS[name]) if name in TEXT_METRICS else find_metric(name)


def _choices(name: str, make: MakeScorer, *, examples: Examples, kind: str, labels: Mapping[str, str] | None) -> Scorer:
    normalise, soft = CHOICES[name]
    if kind != "encoder":
        rows = with_choices(examples, labels)
        return ChoiceScorer(lambda rows: make(examples=rows, ends=False), examples=rows, normalise=normalise, soft=soft)
    if normalise != "acc":
        raise BaseModelError(
            f"{name} divides log-likelihoods by lengths, and a text encoder compares embeddings",
            remedy="use --objective acc",
        )
    matching = make(examples=examples, labels=labels)
    if soft:
        return matching  # its loss is the cross-entropy over the labels
    exact: Any = per_example(lambda prediction, reference: float(prediction == reference))
    return MetricScorer(matching, exact, examples=examples, name=name)
