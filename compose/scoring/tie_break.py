"""A loss as the tie-break of a metric that knows few values, so that a search can tell equally good mixes apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def with_tie_break(metric_losses: Floats, losses: Floats) -> Floats:
    """(K, E) metric losses in [0, 1] plus (K, E) losses from 0 up, squeezed: metric + loss / (1 + loss) / (E + 1).

    All tie-breaks of a candidate together are less than 1, the weight of one example: of two candidates, the one with
    more right answers always has the lower mean; only among equals does the loss decide.
    """
    squeezed = 1 - 1 / (1 + losses)  # an infinite loss is 1, not NaN
    return np.asarray(metric_losses + squeezed / (losses.shape[1] + 1))
