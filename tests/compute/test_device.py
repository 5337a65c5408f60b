"""The type of products that a processor is given."""

from pathlib import Path

import pytest
import torch

from textwright.compute.device import choose_dtype


@pytest.mark.parametrize(
    ("processor", "dtype"),
    [
        ("vendor_id : GenuineIntel\nflags : avx2 avx512f avx512_bf16", torch.float32),
        ("vendor_id : GenuineIntel\nflags : avx2 avx512_bf16 amx_bf16", torch.bfloat16),
        ("vendor_id : AuthenticAMD\nflags : avx2", torch.float32),
        ("vendor_id : AuthenticAMD\nflags : avx2 avx512f avx512_bf16", torch.bfloat16),
    ],
)
def test_products_are_in_bf16_where_they_are_faster(processor, dtype, monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda path: processor)
    assert choose_dtype("auto", torch.device("cpu")) == dtype
    assert choose_dtype("fp32", torch.device("cpu")) == torch.float32


def test_a_system_that_does_not_describe_its_processor_gets_float32(monkeypatch):
    def refuse(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", refuse)
    assert choose_dtype("auto", torch.device("cpu")) == torch.float32
