"""Greedy answers without reuse: one mix at a time in PEFT, and our own former way, K mixes on whole prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig

from compose.scoring import LoadedBase
from compose.scoring.tokens import pad_rows

from .reference import ReferenceLoop


def _settings(steps: int) -> GenerationConfig:
    return GenerationConfig(
        do_sample=False, max_new_tokens=steps, eos_token_id=1, pad_token_id=0, decoder_start_token_id=0
    )


def _generated(model: Any, base: LoadedBase, prompts: Sequence[list[int]], *, candidates: int, steps: int) -> list[str]:
    causal = base.kind == "causal"
    rows = pad_rows(prompts, value=0, left=causal, device=base.model.device)
    ids, mask = (part.repeat(candidates, 1) for part in (rows.ids, rows.mask))
    with torch.inference_mode():
        found = model.generate(input_ids=ids, attention_mask=mask, generation_config=_settings(steps))
    texts: list[str] = base.tokenizer.batch_decode(
        found[:, rows.ids.shape[1] if causal else 0 :], skip_special_tokens=True
    )
    return texts


def reference_answers(
    reference: ReferenceLoop, base: LoadedBase, prompts: Sequence[list[int]], weights: Sequence[float], *, steps: int
) -> list[str]:
    """All examples as one batch, after the mix was made and loaded as in LoRAHub's loop."""
    reference.load(weights)
    return _generated(reference.model, base, prompts, candidates=1, steps=steps)


def former_answers(
    scorer: Any, base: LoadedBase, prompts: Sequence[list[int]], weights: np.ndarray, *, steps: int
) -> list[list[str]]:
    """What `scorer.predictions` did before it reused anything: groups of examples as if one forward made an answer."""

    def texts(group: Sequence[int], candidates: int) -> list[str]:
        return _generated(base.model, base, [prompts[i] for i in group], candidates=candidates, steps=steps)

    found: list[list[str]] = scorer._population.run(weights, [(len(prompt), steps) for prompt in prompts], texts)
    return found
