"""How much memory is free."""

import pytest

from textwright.compute import memory


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
