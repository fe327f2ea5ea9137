"""How much goes into one forward: which examples together, how many candidates at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..device import compute_devices

Lengths = Sequence[tuple[int, ...]]
"""Per example its lengths in tokens: (input, output) for an encoder-decoder, (input + output,) for a causal model."""

NO_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDA error: out of memory",
)
"""What torch says where it has no error of its own for it."""

CPU_TOKENS = 1024
"""Tokens per forward. On a CPU 500 to 1500 are best: smaller ones re-read the weights, larger ones leave the cache."""

GPU_TOKENS = (4096, 1 << 17)
"""The least and the most on a GPU, whatever its memory."""


GPU_FORWARD = 512
"""Tokens that a GPU computes while one more forward is launched and reads the weights."""

BESIDE = 8
"""A token whose keys and values are only kept takes this part of the memory of one that is computed."""


def default_token_budget(model: Any) -> int:
    """Tokens per forward on the devices of `model`: CPU_TOKENS, or what half of a GPU's free memory holds (of the
    fullest one), as a power of two, so that two runs on one machine cut alike."""
    gpus = [device for device in compute_devices(model) if device.type == "cuda"]
    if not gpus:
        return CPU_TOKENS
    return tokens_within(min(map(_free_memory, gpus)) // 2, model)


def _free_memory(device: torch.device) -> int:
    """Bytes; torch's own cache is free for torch."""
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + cached


def tokens_within(memory: int, model: Any) -> int:
    """How many tokens of hidden states and what a layer makes of them fit into `memory` bytes: about 16 times the
    widest layer's output per token. The logits of label tokens are few and not counted."""
    widest: int = max((p.shape[0] for p in model.parameters() if p.ndim == 2 and p.shape[0] < 1 << 16), default=1024)
    per_token: int = 16 * widest * next(model.parameters()).element_size()
    fitting = max(1, memory // per_token)
    least, most = GPU_TOKENS
    return max(least, min(most, 1 << (fitting.bit_length() - 1)))


def at_once(candidates: int, lengths: Lengths, token_budget: int) -> int:
    """How many of the candidates to run now, so that the longest example stays within the budget (one in any case) and
    the chunks come out equal: 16 at 5 a time are four times 4."""
    most = max(1, token_budget // max(sum(length) for length in lengths))
    chunks = -(-candidates // most)
    return -(-candidates // chunks)


def out_of_memory(error: Exception) -> bool:
    """Whether a device, or the CPU's allocator, had no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or any(said in str(error) for said in NO_MEMORY)


def forward_cost(parameters: int, *, gpu: bool = False) -> int:
    """What one more forward costs, in tokens: reading the weights once, and Python's share of a small model. A GPU
    computes many tokens in that time (estimated, not measured)."""
    return GPU_FORWARD if gpu else 24 + int(2e8 / max(parameters, 1))


def group_examples(
    lengths: Lengths, *, candidates: int, token_budget: int, forward_cost: int, pad: bool = True, kept: int = 0
) -> list[list[int]]:
    """Cut the examples, sorted by length, into groups that are padded to their longest: the cheapest such cut.

    The cost of a group is candidates x size x padded length, plus `forward_cost` for being a forward of its own. With
    many candidates that gives exact lengths and no padding; with one, few forwards. A group stays within the token
    budget unless it is a single example; each row also has `kept` tokens before it, of which only states are kept.
    """
    order = sorted(range(len(lengths)), key=lambda example: lengths[example])
    best: list[tuple[int, int]] = [(0, 0)]  # best[j]: cost of the first j examples, and where their last group starts
    for end in range(1, len(order) + 1):
        options = []
        widest = lengths[order[end - 1]]
        for start in range(end - 1, -1, -1):
            length = lengths[order[start]]
            if not pad and length != lengths[order[end - 1]]:
                break
            widest = tuple(map(max, widest, length))
            tokens = candidates * (end - start) * sum(widest)
            memory = tokens + candidates * (end - start) * kept // BESIDE
            if memory > token_budget and start < end - 1:
                break
            options.append((best[start][0] + tokens + forward_cost, start))
        best.append(min(options))
    groups = []
    end = len(order)
    while end:
        start = best[end][1]
        groups.append(order[start:end])
        end = start
    return groups[::-1]
