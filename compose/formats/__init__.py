"""One file per adapter family: the tensors of one module -> its factors. The literal table says which family is whose.

Every converter takes `parts` (part name -> float32 tensor, see peft_keys.py; VeRA's shared ones among them), the
module's checked `shape` and the `config`, and gives factors of just that shape. Shapes are checked before
(module_shapes.py). A family that needs the base gets its weight (out, in) from the reader: dora.py, moved_base.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from ..adapter import Factors
from ..module_shapes import ModuleShape
from ..peft_config import PeftConfig
from .adalora import adalora
from .loha import loha
from .lokr import lokr
from .lora import lora
from .vera import vera

Converter = Callable[[Mapping[str, Tensor], ModuleShape, PeftConfig], Factors]

CONVERTERS: dict[str, Converter] = {
    "LORA": lora,
    "ADALORA": adalora,
    "LOHA": loha,
    "LOKR": lokr,
    "VERA": vera,
}
