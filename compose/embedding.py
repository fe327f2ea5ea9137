"""Texts as points by a local sentence encoder: mean of the last hidden states over real tokens, of unit length
(Reimers and Gurevych 2019, arXiv 1908.10084)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from .device import input_device
from .errors import BaseModelError
from .scoring.loading import load_base
from .scoring.tokens import pad_rows, pad_token

MOST_TOKENS = 256
BATCH = 32


def embed(texts: Sequence[str], directory: Path, *, device: str = "cpu") -> NDArray[np.float64]:
    """(n, width): a row of unit length for each text, by the encoder in `directory`; long texts are cut.

    `BaseModelError` when the folder holds no encoder.
    """
    encoder = load_base(directory, device=device)
    if encoder.kind != "encoder":
        raise BaseModelError(f"{directory} generates text, an encoder is needed", remedy="give a sentence encoder")
    rows = [list(encoder.tokenizer(text or " ", truncation=True, max_length=MOST_TOKENS).input_ids) for text in texts]
    found = []
    with torch.inference_mode():
        for start in range(0, len(rows), BATCH):
            padded = pad_rows(
                rows[start : start + BATCH], value=pad_token(encoder.tokenizer), device=input_device(encoder.model)
            )
            hidden = encoder.model(input_ids=padded.ids, attention_mask=padded.mask).last_hidden_state.double()
            weight = padded.mask.unsqueeze(-1).double()
            mean = (hidden * weight).sum(1) / weight.sum(1)
            found.append(torch.nn.functional.normalize(mean, dim=-1).cpu())
    return torch.cat(found).numpy()
