"""A frozen base model that computes K mixes of adapters in ONE forward.

The batch is candidate-major: rows 0..R-1 belong to candidate 0, rows R..2R-1 to candidate 1, and so on. A forward hook
on every adapted module adds each candidate's delta to that candidate's rows, by one batched product. Only the module's
input and output are used, never its weight, so any layer that is a Linear or a Conv1D underneath will do, quantised or
not.

Ownership: while a mix is attached the model is changed for everybody who calls it; one thread per model at a time.
Knows nothing of losses, tokens or how the mixes were made (`mixed_factors.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from .cross_attention import CrossAttention
from .errors import IncompatibleAdapters
from .mixed_factors import MixedFactors


class BatchedModel:
    """The adapted modules of `model`, found and checked once. `module_shapes`: path -> (out_features, in_features).

    Error: `IncompatibleAdapters` naming the module when the base lacks it or has it in another shape or kind.
    """

    def __init__(
        self, model: nn.Module, module_shapes: Mapping[str, tuple[int, int]], *, base_name: str = "the base model"
    ) -> None:
        self.model = model
        self._modules = {path: _find(model, path, shape, base_name) for path, shape in module_shapes.items()}
        self._across = CrossAttention(model)
        self.one_at_a_time = any(".experts." in path for path in module_shapes)
        """An expert layer sees the tokens that were routed to it, in an order that hides whose they are."""

    @contextmanager
    def mixed(self, mixes: Mapping[str, MixedFactors], *, candidates: int) -> Iterator[nn.Module]:
        """Attach `candidates` mixes; they are detached on leaving, whatever happened inside."""
        with ExitStack() as attached:
            attached.enter_context(self._across.reordered(mixes, candidates=candidates))
            for path, factors in mixes.items():
                handle = self._modules[path].register_forward_hook(_hook(path, factors, candidates))
                attached.callback(handle.remove)
            yield self.model


def _find(model: nn.Module, path: str, shape: tuple[int, int], base_name: str) -> nn.Module:
    remedy = "use adapters that were trained on this base, or name their base with --base"
    try:
        module = model.get_submodule(path)
    except AttributeError as error:
        raise IncompatibleAdapters(
            f"the adapters change {path}, which {base_name} ({type(model).__name__}) does not have", remedy=remedy
        ) from error
    found = _features(module)
    if found is None:
        raise IncompatibleAdapters(
            f"the adapters change {path}, which in {base_name} is a {type(module).__name__}, not a linear layer",
            remedy=remedy,
        )
    if found != shape:
        raise IncompatibleAdapters(
            f"the adapters change {path} as {shape[0]}x{shape[1]} (out x in), but in {base_name} it is "
            f"{found[0]}x{found[1]}",
            remedy=remedy,
        )
    return module


def _features(module: nn.Module) -> tuple[int, int] | None:
    """(out_features, in_features) of a Linear-like layer or a Conv1D, from what it says, not from its weight."""
    out_features, in_features = getattr(module, "out_features", None), getattr(module, "in_features", None)
    if out_features is None and type(module).__name__ == "Conv1D":
        out_features, in_features = getattr(module, "nf", None), getattr(module, "nx", None)
    return (int(out_features), int(in_features)) if out_features is not None and in_features is not None else None


Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]


def _hook(path: str, factors: MixedFactors, candidates: int) -> Hook:
    placed: dict[tuple[torch.device, torch.dtype], MixedFactors] = {}

    def add_delta(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = inputs[0]
        if x.shape[0] % candidates:
            raise IncompatibleAdapters(
                f"{path} sees {x.shape[0]} rows, which cannot be shared out among {candidates} candidates",
                remedy="score one candidate at a time",
            )
        x = x.to(output.device)  # at the border between two devices of a spread base
        kind = (x.device, x.dtype)
        if kind not in placed:  # rounded once per mix, not once per forward
            placed[kind] = factors.to(*kind)
        return _add_delta(placed[kind], candidates, x, output)

    return add_delta


def _add_delta(factors: MixedFactors, candidates: int, x: Tensor, output: Tensor) -> Tensor:
    """`output` (K*rows, ..., out) plus each candidate's delta applied to `x` (K*rows, ..., in)."""
    a, b = factors.A, factors.B
    if candidates == 1 and a.ndim == 3:
        a, b = a[0], b[0]
    per_candidate = x.reshape(candidates, -1, x.shape[-1])
    inner = functional.linear(per_candidate, a) if a.ndim == 2 else torch.bmm(per_candidate, a.transpose(1, 2))
    if factors.diagonal is not None:
        inner = inner * factors.diagonal.unsqueeze(1)
    if b.ndim == 2:
        return _added(output.reshape(-1, output.shape[-1]), inner.flatten(0, 1), b.T).view_as(output)
    return _added(output.reshape(candidates, -1, output.shape[-1]), inner, b.transpose(1, 2)).view_as(output)


def _added(output: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """output + left @ right; in place where no gradient is wanted, as `output` is the layer's own fresh result."""
    left, right = left.to(output.dtype), right.to(output.dtype)
    if output.ndim == 2:
        return torch.addmm(output, left, right) if torch.is_grad_enabled() else output.addmm_(left, right)
    return torch.baddbmm(output, left, right) if torch.is_grad_enabled() else output.baddbmm_(left, right)
