"""A device that stands in for a GPU: its tensors lie in the CPU's memory, and may not be used as if they did.

A tensor on it says `device("standin", 0)` and holds a CPU tensor, on which every operation is run. It is as strict as
CUDA: an operation takes tensors of one device, save numbers (0-dim) from the CPU where it is element-wise, indices from
the CPU, and copies. `traffic` lists what a GPU's queue would have to be emptied for. Pinned memory, streams, graphs and
the devices' own kernels it does not show.

Made with `_setup_privateuseone_for_python_backend`, which older torch lacks (2.13 has it). Once it is imported torch
takes the device for this machine's accelerator, so that belongs into a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("standin")
DEVICE = torch.device("standin", 0)
CPU = torch.device("cpu")

COPIES = ("aten::copy_", "aten::_to_copy")
INDEXED = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
READS = (
    "aten::_local_scalar_dense",
    "aten::equal",
    "aten::nonzero",
    "aten::masked_select",
    "aten::repeat_interleave",
    "aten::_unique2",
    "aten::bincount",
)
"""What they give, or its shape, is known to the host only when the device has done all its work."""

_reads: list[str] = []
_uploads: list[str] = []


@contextmanager
def traffic() -> Iterator[tuple[list[str], list[str]]]:
    """Lists that fill while it is open: operations that the host waits for, and those that bring values of the host to
    the device."""
    _reads.clear()
    _uploads.clear()
    yield _reads, _uploads


class StandinTensor(Tensor):
    """A tensor on the device. `held` is its CPU tensor, of the same strides; views hold views."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> StandinTensor:
        with torch.inference_mode(held.is_inference()):  # a view of a normal tensor is one also in inference mode
            made = Tensor._make_wrapper_subclass(
                cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
                layout=held.layout, device=DEVICE,
            )  # fmt: skip
        made.held = held
        return made

    def __repr__(self) -> str:  # type: ignore[override]  # torch's takes an option
        return f"StandinTensor({self.held!r})"

    def tolist(self) -> Any:  # torch's own takes no subclass
        return self.cpu().tolist()

    def __deepcopy__(self, memo: dict[int, Any]) -> StandinTensor:
        with torch.no_grad():
            return memo.setdefault(id(self), self.clone())

    @classmethod
    def __torch_dispatch__(cls, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _is_composite(func):  # in inference mode taking it apart is left to us
            return func.decompose(*args, **kwargs)
        _refuse_two_devices(func, args, kwargs)
        _note(func, args, kwargs)
        found = func(*_each(_held, args), **_each(_held, kwargs))
        if func._schema.name == "aten::copy_":
            return args[0]
        if kwargs.get("device") == CPU:
            return found
        return return_and_correct_aliasing(func, args, kwargs, _each(_wrapped, found))


@cache
def _is_composite(func: Any) -> bool:
    return bool(func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd))


def _each(do: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_each(do, one) for one in value)
    if isinstance(value, dict):
        return {name: _each(do, one) for name, one in value.items()}
    return do(value)


def _held(value: Any) -> Any:
    if isinstance(value, torch.device):
        return CPU
    return value.held if isinstance(value, StandinTensor) else value


def _wrapped(value: Any) -> Any:
    return StandinTensor(value) if isinstance(value, Tensor) else value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _tensors(one)


def _refuse_two_devices(func: Any, args: Any, kwargs: Any) -> None:
    """As CUDA's kernels do."""
    name = func._schema.name
    if name in COPIES:
        return
    for number, argument in enumerate(func._schema.arguments):
        value = args[number] if number < len(args) else kwargs.get(argument.name)
        for tensor in _tensors(value):
            if isinstance(tensor, StandinTensor):
                continue
            written = argument.alias_info is not None and argument.alias_info.is_write
            takes_numbers = torch.Tag.pointwise in func.tags or name == "aten::fill_" or name in INDEXED[1:]
            if tensor.ndim == 0 and takes_numbers and not written:
                continue
            if name in INDEXED and argument.name == "indices":
                continue
            raise RuntimeError(
                f"{func.name()}: expected all tensors to be on {DEVICE}, but `{argument.name}` of shape "
                f"{tuple(tensor.shape)} is on {tensor.device}"
            )


def _note(func: Any, args: Any, kwargs: Any) -> None:
    name = func._schema.name
    if name in COPIES:
        source = args[-1] if name == "aten::_to_copy" else args[1]
        target = kwargs.get("device") or source.device if name == "aten::_to_copy" else args[0].device
        if source.numel() and source.device != target:
            (_reads if source.device == DEVICE else _uploads).append("copy")
        return
    masks = name in INDEXED and any(one.dtype in (torch.bool, torch.uint8) for one in _tensors(args[1]))
    if name in READS or masks:
        _reads.append(name)
    # elsewhere a number from the host is an argument of the kernel
    if (name in INDEXED or name == "aten::where") and any(one.device == CPU for one in _tensors(args)):
        _uploads.append(name)


# --- what torch calls without a tensor of ours, or with our dispatch switched off ------------------------------------


def _empty(size: Any, *, dtype: Any = None, memory_format: Any = None, **_: Any) -> StandinTensor:
    wanted = torch.contiguous_format if memory_format is None else memory_format
    return StandinTensor(torch.empty(size, dtype=dtype or torch.get_default_dtype(), memory_format=wanted))


def _empty_strided(size: Any, stride: Any, *, dtype: Any = None, **_: Any) -> StandinTensor:
    return StandinTensor(torch.empty_strided(size, stride, dtype=dtype or torch.get_default_dtype()))


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    return StandinTensor.__torch_dispatch__(torch.ops.aten.copy_.default, (), (target, source, non_blocking))


_library = torch.library.Library("aten", "IMPL")
_library.impl("empty.memory_format", _empty, "PrivateUse1")
_library.impl("empty_strided", _empty_strided, "PrivateUse1")
_library.impl("_copy_from", _copy_from, "PrivateUse1")
