"""Arithmetic in bfloat16 under autocast: whether it is on, a block without it, and processors on which it is no faster."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "amx_tile", "avx10_2", "sve_bf16", "bf16")
"""What a processor must have one of to multiply in bfloat16; others convert each number to float32 and back."""


def find_narrow_type(device: str) -> torch.dtype | None:
    """Find the type in which layers compute right now.

    Args:
        device: Kind of device, such as `cpu`.

    Returns:
        The type of autocast, such as bfloat16; None where it is off and layers compute in the type of their values.
    """
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


def compute_in_full(device: str) -> torch.autocast:
    """Compute in the type of the values inside the block, whatever is on around it.

    Args:
        device: Kind of device, such as `cpu`.

    Returns:
        The context.
    """
    return torch.autocast(device, enabled=False)


def choose_attention(images: Tensor) -> AbstractContextManager[None]:
    """Choose how attention is computed inside the block.

    On processors the way back through torch's blockwise attention takes twice as long in bfloat16 as the plain products.

    Args:
        images: Those of the pass.

    Returns:
        The context, which changes nothing elsewhere.
    """
    narrow = images.device.type == "cpu" and find_narrow_type("cpu") is not None
    return sdpa_kernel(SDPBackend.MATH) if narrow and torch.is_grad_enabled() else nullcontext()


def name_type(dtype: torch.dtype) -> str:
    """Name a type as settings do.

    Args:
        dtype: Such as `torch.bfloat16`.

    Returns:
        The name, such as `bfloat16`.
    """
    return str(dtype).removeprefix("torch.")


def doubt_speed(device: str, capabilities: Mapping[str, Any] | None = None) -> str:
    """Doubt that a device computes faster in bfloat16.

    Args:
        device: Kind of device, such as `cpu`.
        capabilities: Of the processor, as torch names them; None: those of this one.

    Returns:
        One sentence; empty where it has instructions for it, and where that cannot be told.
    """
    if device == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return ""
        what = "this GPU has no arithmetic for it"
    elif device == "cpu":
        if capabilities is None:
            capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        if not capabilities or any(capabilities.get(name) for name in BFLOAT16_INSTRUCTIONS):
            return ""
        what = "this processor has no instructions for it (avx512_bf16 or amx)"
    else:
        return ""
    return f"precision=bfloat16 makes passes slower here, not faster: {what}; leave it out"
