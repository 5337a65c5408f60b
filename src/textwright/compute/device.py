"""Device, precision and threads of a computation."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from pathlib import Path

import torch

from textwright.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """`auto` takes CUDA, else Apple's MPS, else the processor. Raises ConfigError if absent."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"{name!r} is no device; use auto, cpu, cuda, cuda:1 or mps.") from None
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(device.type, False):
        raise ConfigError(f"This machine has no device {name!r}; choose cpu.")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bf16 if the hardware multiplies it fast, else fp32."""
    if name == "auto":
        name = "bf16" if computes_bf16(device) else "fp32"
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]


def computes_bf16(device: torch.device) -> bool:
    """True if bf16 products are faster than fp32 ones on this device (CUDA from Ampere, AMX, AMD's
    processors from Zen 4), not only possible."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "cpu":
        # AMD's AVX-512 multiplies bf16 twice as fast as fp32, Intel's its tile unit (AMX) alone.
        with contextlib.suppress(OSError):
            processor = Path("/proc/cpuinfo").read_text()
            by_vectors = "AuthenticAMD" in processor and "avx512_bf16" in processor
            return by_vectors or "amx_bf16" in processor
    return False


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """A context with bf16 products of fp32 weights; without effect for fp32."""
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def product_dtype(x: torch.Tensor) -> torch.dtype:
    """The type of products with x: that of the context it is in, else its own."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def set_threads(count: int) -> int:
    """Use this many processor threads (0: PyTorch's choice, one per core) → the number in use."""
    if count:
        torch.set_num_threads(count)
    return torch.get_num_threads()
