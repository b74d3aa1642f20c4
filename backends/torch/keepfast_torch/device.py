"""Devices by the names that users give them."""

from __future__ import annotations

from typing import Any

import torch

from keepfast import InvalidValue
from keepfast.errors import as_given


def parse_device(device: Any) -> torch.device | None:
    """Return the device that users name.

    Args:
        device: a ``torch.device``, a name such as ``"cpu"``, ``"cuda"`` or ``"cuda:1"``, the number of an accelerator,
            or None, which is returned as it is.

    Raises:
        InvalidValue: if there is no such device; lists what there is.
    """
    if device is None:
        return None
    try:
        named = torch.device(device)
        _reach(named)
    except Exception as cause:
        raise InvalidValue(f"there is no device `{_shown(device)}`; known: {', '.join(_known())}") from cause
    return named


def _shown(device: Any) -> str:
    return str(device) if isinstance(device, str | torch.device) else as_given(device)


def _reach(device: torch.device) -> None:
    """Raise an error of PyTorch if tensors cannot be made on a device."""
    if device.type != "cuda":
        torch.empty(0, device=device)
    elif (device.index or 0) >= torch.cuda.device_count():  # a tensor would tie the process to it, and forbid forking
        raise RuntimeError("PyTorch finds no such CUDA device")


def _known() -> list[str]:
    accelerators = [f"{kind}:{each}" for kind in ("cuda", "xpu") for each in range(getattr(torch, kind).device_count())]
    return ["cpu", *accelerators, *(["mps"] if torch.backends.mps.is_available() else [])]
