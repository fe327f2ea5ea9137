"""What lies below the first adapted layer is the same for every mix: computed once, then replayed.

That is the layers below the lowest adapted one of a decoder-only model or a text encoder; of an encoder-decoder the
whole encoder when only the decoder is adapted (and the decoder's lower layers), else the encoder's lower layers. The
model's own forward runs on; only the modules concerned answer from memory instead of computing.

Ownership: while a replay is open the model answers from memory for everybody who calls it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

MEMORY_LIMIT = 1 << 29
"""Bytes of hidden states that are kept; what comes after is computed each time."""


class LowerLayers:
    """The modules of `model` that run before any module of `adapted` (paths), and what they gave for which input."""

    def __init__(self, model: nn.Module, adapted: Iterable[str]) -> None:
        self._model = model
        self._parts = _parts_before(model, list(adapted))
        self._known: dict[Hashable, list[object]] = {}
        self._bytes = 0

    @property
    def paths(self) -> tuple[str, ...]:
        """The modules that are replayed, in the order in which they run; none where nothing can be."""
        return tuple(path for part in self._parts for path in part)

    @property
    def share(self) -> float:
        """Of the layers of the whole model, how many are replayed; 0 where the model is not one stack."""
        layers = len(decoder_layers(self._model))
        return len(self.paths) / layers if layers else 0.0

    @contextmanager
    def idle(self) -> Iterator[None]:
        """While open, everything is computed."""
        parts, self._parts = self._parts, []
        try:
            yield
        finally:
            self._parts = parts

    def forget(self) -> None:
        """Never replay anything from now on."""
        self._parts, self._known = [], {}

    @contextmanager
    def replayed(
        self, key: Hashable, run: Callable[[], object], *, rows: int, candidates: int, generating: bool = False
    ) -> Iterator[None]:
        """While open, the lower layers give what they gave for the input `key`, repeated for each candidate.

        `run` calls the model on that input, `rows` rows without repeats; it is used once per key and cut short.
        `generating`: only the encoder's layers, which run once; a decoder's are called for each token, and leave keys
        and values behind for the next one."""
        parts = self._parts if not generating else self._parts[:1] if _encodes(self._model) else []
        outputs = self._known.get(key) or self._record(key, run) if parts else []
        with ExitStack() as stack:
            for part, output in zip(parts, outputs, strict=False):
                whole = _repeated(output, rows, candidates)
                for path in part:
                    stack.enter_context(_answering(self._model.get_submodule(path), whole))
            yield

    def _record(self, key: Hashable, run: Callable[[], object]) -> list[object]:
        if not self._parts or self._bytes > MEMORY_LIMIT:
            return []
        outputs: list[object] = []
        with ExitStack() as stack:
            for part in self._parts:
                module = self._model.get_submodule(part[-1])
                stack.callback(module.register_forward_hook(_recorder(outputs, len(self._parts))).remove)
            try:
                run()
            except _Recorded:
                self._known[key] = outputs
                self._bytes += sum(_bytes(output) for output in outputs)
        return self._known.get(key, [])


class _Recorded(Exception):
    """Everything that is wanted has been computed; the rest of the forward is not needed."""


def _recorder(outputs: list[object], wanted: int) -> Callable[..., None]:
    def record(_module: nn.Module, _inputs: object, output: object) -> None:
        outputs.append(output)
        if len(outputs) == wanted:
            raise _Recorded

    return record


@contextmanager
def _answering(module: nn.Module, output: object) -> Iterator[None]:
    """`module(...)` gives `output` and computes nothing."""
    before = module.__dict__.get("forward")
    module.forward = lambda *_, **__: output
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before


def _repeated(output: Any, rows: int, candidates: int) -> Any:
    """Tensors that have a row per input row, wherever they are inside `output`, once per candidate."""
    if candidates == 1:
        return output
    if isinstance(output, Tensor):
        whole = output.ndim >= 2 and output.shape[0] == rows
        return repeat_rows(output, candidates) if whole else output
    if isinstance(output, Mapping):  # transformers' ModelOutput
        return type(output)(**{name: _repeated(value, rows, candidates) for name, value in output.items()})
    if isinstance(output, tuple):
        return tuple(_repeated(value, rows, candidates) for value in output)
    return output


def _bytes(output: Any) -> int:
    if isinstance(output, Tensor):
        return output.nbytes
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple) else ()
    return sum(_bytes(part) for part in parts)


def _parts_before(model: nn.Module, adapted: Sequence[str]) -> list[list[str]]:
    """Runs of modules without an adapted one inside, in the order in which the model calls them. All modules of a run
    stand for its last one: nobody else reads what they give."""
    head = _name_of(model, _call(model, "get_output_embeddings"))
    adapted = [path for path in adapted if path != head]
    if not _encodes(model):
        return _lower(model, adapted)
    encoder = _name_of(model, _call(model, "get_encoder"))
    if encoder is None:
        return []
    inside = [path for path in adapted if path.startswith(f"{encoder}.")]
    if inside:
        return _lower(model, inside)
    return [[encoder], *_lower(model, adapted)]


def _encodes(model: nn.Module) -> bool:
    """Whether an encoder runs before the decoder; the first of the runs is then the encoder's."""
    return bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))


def _lower(model: nn.Module, adapted: Sequence[str]) -> list[list[str]]:
    """The layers below the lowest adapted one, as one run; none where adapted modules lie outside the one stack."""
    places = [_layer_of(model, path) for path in adapted]
    known = [place for place in places if place is not None]
    if len(known) < len(places) or len({stack for stack, _ in known}) != 1:
        return []
    stack, lowest = min(known)
    return [[f"{stack}.{i}" for i in range(lowest)]] if lowest else []


def _layer_of(model: nn.Module, path: str) -> tuple[str, int] | None:
    """(stack of layers, number) of the layer that the module at `path` belongs to."""
    match = re.match(r"(.+?)\.(\d+)\.", path)
    if match is None or not isinstance(model.get_submodule(match[1]), nn.ModuleList):
        return None
    return match[1], int(match[2])


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """The layers of a model that is one stack of them; empty where there are several stacks or none."""
    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return list(stacks[0]) if len(stacks) == 1 else []


def _call(model: nn.Module, name: str) -> object:
    found: Any = getattr(model, name, None)
    return found() if found is not None else None


def _name_of(model: nn.Module, wanted: object) -> str | None:
    return next((name for name, module in model.named_modules() if name and module is wanted), None)


def repeat_rows(value: Tensor, candidates: int) -> Tensor:
    """(rows, ...) -> (K * rows, ...), candidate-major."""
    return value if candidates == 1 else value.repeat(candidates, *(1 for _ in value.shape[1:]))
