"""Number formats by device; what happens to the process's setting of TF32."""

from __future__ import annotations

import pytest
import torch

from compose import device
from compose.errors import BaseModelError


def test_tf32_is_refused_where_no_gpu_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BaseModelError, match="cpu has no TF32") as caught:
        device.scoring_dtype("tf32", "cpu")
    assert "--dtype float32" in caught.value.remedy
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for capability, has in (((7, 5), False), ((8, 0), True), ((9, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device, found=capability: found)
        assert device.has_tf32("cuda:1") is device.has_tf32("auto") is has
        assert not device.has_tf32("cpu")
    assert device.scoring_dtype("tf32", "cuda") == "tf32"


@pytest.mark.parametrize("before", ["highest", "high"])
def test_products_are_as_asked_for_and_the_setting_is_put_back(before: str) -> None:
    torch.set_float32_matmul_precision(before)
    try:
        with device.products(tf32=True):
            assert torch.get_float32_matmul_precision() == "high"
        with pytest.raises(ZeroDivisionError), device.products(tf32=False):
            assert torch.get_float32_matmul_precision() == "highest"
            raise ZeroDivisionError
        assert torch.get_float32_matmul_precision() == before
    finally:
        torch.set_float32_matmul_precision("highest")
