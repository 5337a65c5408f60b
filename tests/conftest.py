"""What every test may use: the real corpora, and a skip that says what is missing."""

import os
from pathlib import Path

import pytest

# No test may reach the network; huggingface_hub reads this when it is first imported.
os.environ["HF_HUB_OFFLINE"] = "1"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("corpora") and not os.environ.get("TEXTWRIGHT_CORPORA"):
        pytest.skip("reads the real corpora: set TEXTWRIGHT_CORPORA to the folder that holds them")
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.accelerator.is_available():
            pytest.skip("needs an accelerator, and torch finds none on this machine")


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of the real corpora. A test that asks for it carries the mark `corpora`."""
    if "TEXTWRIGHT_CORPORA" not in os.environ:
        pytest.fail("This test reads the real corpora: mark it with @pytest.mark.corpora.")
    folder = Path(os.environ["TEXTWRIGHT_CORPORA"])
    if not folder.is_dir():
        pytest.fail(f"TEXTWRIGHT_CORPORA names {folder}, which is no folder.")
    return folder
