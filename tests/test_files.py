"""Files and folders are replaced whole or not at all, and what a kill left is put in order."""

import os

import pytest

from textwright.files import UNFINISHED, filling, is_empty, remove_folder, replacing, settle


def made(folder, text):
    folder.mkdir()
    (folder / "inside.txt").write_text(text)
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_keeps_its_content_when_the_new_one_cannot_take_its_name(tmp_path, monkeypatch):
    folder = made(tmp_path / "kept", "old")
    replace = os.replace

    def fail(source, target):
        if ".part" in str(source):
            raise OSError("the disk is gone")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="gone"), replacing(folder) as beside:
        made(beside, "new")
    assert (folder / "inside.txt").read_text() == "old"
    assert names(tmp_path) == ["kept"]


def test_a_file_does_not_take_the_place_of_a_folder(tmp_path):
    folder = made(tmp_path / "kept", "old")
    with pytest.raises(IsADirectoryError, match="kept"), replacing(folder) as beside:
        beside.write_text("new")
    assert (folder / "inside.txt").read_text() == "old"
    assert names(tmp_path) == ["kept"]


def test_a_folder_that_a_kill_left_without_its_name_gets_it_back(tmp_path):
    """The kill fell between the two renames of a replacement."""
    made(tmp_path / ".kept.old", "old")
    (tmp_path / ".kept.part").mkdir()
    made(tmp_path / ".kept.part" / "kept", "new")
    settle(tmp_path / "kept")
    assert (tmp_path / "kept" / "inside.txt").read_text() == "old"
    assert names(tmp_path) == ["kept"]


def test_what_a_kill_left_beside_a_file_is_removed(tmp_path):
    (tmp_path / "kept.txt").write_text("old")
    left = made(tmp_path / ".kept.txt.part", "a library's own temporary file")
    (left / "kept.txt").write_text("half")
    settle(tmp_path / "kept.txt")
    assert names(tmp_path) == ["kept.txt"]
    assert (tmp_path / "kept.txt").read_text() == "old"


def test_a_file_is_written_where_a_temporary_file_beside_it_is_not_left(tmp_path):
    """As safetensors writes: to a name of its own beside the one that it was given."""
    with replacing(tmp_path / "kept.txt") as written:
        written.with_name(".tmp123456").write_text("half")
        written.write_text("new")
    assert names(tmp_path) == ["kept.txt"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_folder_that_cannot_be_filled_is_empty_again(tmp_path, monkeypatch, error):
    replace, moved = os.replace, []

    def fail(source, target):
        if moved:
            raise error
        moved.append(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(error), filling(tmp_path) as written:
        (written / "one.txt").write_text("new")
        made(written / "two", "new")
    assert moved and is_empty(tmp_path) and names(tmp_path) == []


def test_what_a_kill_left_in_a_folder_that_was_being_filled_goes(tmp_path):
    made(tmp_path / UNFINISHED, "half")
    assert is_empty(tmp_path)
    with filling(tmp_path) as written:
        (written / "one.txt").write_text("new")
    assert names(tmp_path) == ["one.txt"]


def test_an_interrupted_deletion_leaves_no_folder_of_that_name(tmp_path, monkeypatch):
    folder = made(tmp_path / "gone", "old")
    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", lambda *_, **__: None)
        remove_folder(folder)
    assert names(tmp_path) == [".gone.part"]
    settle(folder)
    assert names(tmp_path) == []
