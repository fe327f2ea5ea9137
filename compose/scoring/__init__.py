"""Scorers: (K, N) weights -> (K, E) losses on few-shot examples, and predictions.

base = load_base(Path("models/flan-t5-small"))
scorer = make_scorer(base, examples=read_examples(Path("few.jsonl")), adapters=adapters)
losses = scorer.example_losses(weights)  # (K, N) -> (K, E)

Other objectives are scorers too, made from these: `objectives.objective_scorer("rougeL", partial(make_scorer, base,
adapters=adapters), examples=..., kind=base.kind)`.
"""

from .causal import CausalScorer
from .label_matching import LabelMatchingScorer
from .loading import LoadedBase, load_base, make_scorer
from .protocol import Scorer
from .seq2seq import Seq2SeqScorer

__all__ = [
    "CausalScorer",
    "LabelMatchingScorer",
    "LoadedBase",
    "Scorer",
    "Seq2SeqScorer",
    "load_base",
    "make_scorer",
]
