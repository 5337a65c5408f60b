"""How much memory is free."""

import subprocess
import sys
from platform import libc_ver

import pytest

from textwright.compute import memory

# Prints how many pages 128 MB take, four times one after another; given a word, what was freed is
# kept.
PAGES = """
import resource, sys
import torch
from textwright.freed import keep_freed_memory
if sys.argv[1:]:
    keep_freed_memory()
def pages():
    for _ in range(4):
        blocks = [torch.ones(1 << 21) for _ in range(16)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
pages()
print(-pages() + pages())
"""


def test_a_container_may_allow_less_than_the_machine_has(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "CONTAINER", tmp_path)
    machine = memory.free_memory()
    written = {
        "memory.max": "max",
        "memory.current": "800",
        "memory.stat": "file 9\ninactive_file 50",
    }
    for name, text in written.items():
        (tmp_path / name).write_text(f"{text}\n")
    assert memory.free_memory() == pytest.approx(machine, rel=0.2)
    (tmp_path / "memory.max").write_text("1000\n")
    assert memory.free_memory() == 250


@pytest.mark.skipif(libc_ver()[0] != "glibc", reason="what glibc does")
def test_freed_memory_is_kept():
    def pages(*given):
        command = [sys.executable, "-c", PAGES, *given]
        return int(subprocess.run(command, capture_output=True, check=True).stdout)

    given_back = pages()
    if not given_back:
        pytest.skip("something lies above what was freed, so that glibc cannot give it back")
    assert pages("keep") < given_back / 4
