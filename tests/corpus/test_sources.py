"""Names → files: paths, folders, globs, hub data sets."""

import gzip
import json
import re
from pathlib import Path

import pytest

from textwright.corpus import Corpus, sources
from textwright.corpus.sources import find_files, leads_to_files, left_out
from textwright.errors import CorpusError


def touch(path: Path, content: str = "some text") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, "utf-8")
    return path


def names(*sources: str | Path, **options) -> list[str]:
    return [file.path.name for file in find_files(sources, **options)]


def refusal(*sources: str | Path) -> str:
    with pytest.raises(CorpusError) as refused:
        find_files(sources)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_files_folders_and_globs_are_expanded_in_order(tmp_path):
    for name in ("b.txt", "a.txt", "sub/c.csv", "sub/.hidden/d.txt", ".e.txt", "notes.pdf"):
        touch(tmp_path / name)
    assert names(tmp_path) == ["a.txt", "b.txt", "c.csv"]
    assert names(tmp_path / "b.txt", tmp_path / "a.txt") == ["b.txt", "a.txt"]
    assert names(tmp_path / "*.txt") == ["a.txt", "b.txt"]
    assert names(tmp_path / "**" / "*.csv") == ["c.csv"]
    assert names(tmp_path, format="text") == ["a.txt", "b.txt", "notes.pdf", "c.csv"]


def test_binary_files_beside_files_without_known_names_are_left_out(tmp_path):
    (tmp_path / "module.py").write_text("a = 1\n")
    (tmp_path / "module.pyc").write_bytes(b"\xa7\r\r\n\0\0\0\0")
    (tmp_path / "wide").write_text("a = 2\n", "utf-16")
    (tmp_path / "packed").write_bytes(gzip.compress(b"a = 3\n"))
    assert names(tmp_path) == ["module.py", "packed", "wide"]


def test_a_folder_of_files_without_known_names_is_taken_whole(tmp_path):
    for name in ("one", "two.story"):
        touch(tmp_path / name)
    assert names(tmp_path) == ["one", "two.story"]


@pytest.mark.parametrize(
    ("name", "content", "format"),
    [
        ("a.CSV.GZ", b"a,b", "csv"),
        ("a.ndjson", b"", "jsonl"),
        ("a", b'{"a": 1}\n{"a": 2}\n', "jsonl"),
        ("a", b'["a", "b"]\n["c"]\n', "jsonl"),
        ("a", b'\xef\xbb\xbf[{"a": 1},\n{"a": 2}]', "json"),
        ("a", b'{\n"a": 1}', "json"),
        ("a", b"PAR1", "parquet"),
        ("a", gzip.compress(b'[\n{"a": 1}]', mtime=0), "json"),
        ("a", b"Plain text, [with] {brackets}", "text"),
        ("a", b"[Verse 1]\nHello\n", "text"),
        ("a", b"[12:03] <ann> hi\n[12:04] <bob> hello\n", "text"),
        ("a", b"[2024-01-01] started\n", "text"),
        ("a", b"[1] A paper, by its author\n", "text"),
        ("a", b"[] to do\n", "text"),
        ("a", b"[-1.5e3,\n2]", "json"),
        ("a", b"[12]\n[13]\n", "jsonl"),
        ("a", b"{\\rtf1 A letter}", "text"),
        ("a", b"", "text"),
    ],
)
def test_the_format_is_detected_by_name_then_by_content(tmp_path, name, content, format):
    (tmp_path / name).write_bytes(content)
    (file,) = find_files([tmp_path / name])
    assert file.format == format


def test_a_missing_file_is_answered_with_close_names(tmp_path):
    touch(tmp_path / "recipes.json")
    assert "recipes.json is meant" in refusal(tmp_path / "recipe.jsn")
    assert "no folder" in refusal(tmp_path / "nowhere" / "a.txt")
    assert "*.csv" in refusal(tmp_path / "*.csv")
    (tmp_path / "empty").mkdir()
    assert "no files" in refusal(tmp_path / "empty")
    assert "No corpus" in refusal()


def test_a_run_in_a_folder_is_not_part_of_its_corpus(tmp_path):
    touch(tmp_path / "a.txt")
    touch(tmp_path / "config.toml")
    run = tmp_path / "runs" / "a"
    for name in ("config.toml", "samples.md", "plots/loss.csv"):
        touch(run / name)
    (run / "config.toml").write_text("format_version = 3\n")
    assert [file.path for file in find_files([tmp_path])] == [tmp_path / "a.txt"]
    assert "is a run, not a corpus" in refusal(run)


def test_a_mistyped_path_in_a_folder_is_not_looked_up_on_the_hub(tmp_path, monkeypatch):
    touch(tmp_path / "data" / "recipes.json")
    monkeypatch.chdir(tmp_path)
    assert "data/recipes.json is meant" in refusal("data/recipe.json")
    assert "hub" not in refusal("data/sub/recipe.json")
    assert "hub" not in refusal("dat/recipes.json")


def test_texts_that_are_left_out_of_a_folder_are_told(tmp_path):
    for name in ("README.md", "a.py", "b/c.py", "b/d.js", "b/e.png"):
        path = tmp_path / "code" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x89PNG\0" if name.endswith("png") else b"text\n")
    told = left_out([tmp_path / "code"], "auto")
    assert told.startswith("Left out: 3 files of other endings (.py, .js). Name them to read them:")
    (pattern,) = re.findall("'(.*)'", told)
    assert [file.path.name for file in find_files([pattern])] == ["a.py", "c.py"]
    assert left_out([tmp_path / "code" / "b"], "auto") == ""
    assert left_out([tmp_path / "code"], "text") == left_out([pattern], "auto") == ""


def test_what_is_left_out_is_named_in_the_folder_that_holds_it(tmp_path):
    for name in ("a/a.txt", "a/a.js", "b/b.txt", "b/b.py", "b/c.py"):
        touch(tmp_path / name)
    told = left_out([tmp_path / "a", tmp_path / "b"], "auto")
    assert told.startswith("Left out: 3 files of other endings (.py, .js).")
    (pattern,) = re.findall("'(.*)'", told)
    assert names(pattern) == ["b.py", "c.py"]


def test_an_unreadable_file_that_is_left_out_is_no_error(tmp_path, monkeypatch):
    for name in ("a.txt", "a.py", "closed.py"):
        touch(tmp_path / name)

    def refuse(path, *args, open=Path.open, **options):
        if path.name == "closed.py":
            raise PermissionError(13, "Permission denied", str(path))
        return open(path, *args, **options)

    monkeypatch.setattr(Path, "open", refuse)
    assert left_out([tmp_path], "auto").startswith("Left out: 1 file of other endings (.py).")


def test_a_name_that_no_path_can_have_is_refused_in_a_sentence():
    assert "cannot be read" in refusal("a" * 300)


def test_a_run_is_no_corpus(trained):
    assert f"{trained} is a run, not a corpus" in refusal(trained)


def test_the_home_of_nobody_is_refused_in_a_sentence():
    assert "There is no file ~no-such-user-here/a.txt" in refusal("~no-such-user-here/a.txt")
    assert not leads_to_files("~no-such-user-here/a.txt")


def test_a_folder_that_may_not_be_entered_is_named(tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refuse)
    assert "Permission denied" in refusal(tmp_path / "closed" / "a.txt")


def test_an_unreadable_file_is_named(tmp_path, monkeypatch):
    path = touch(tmp_path / "a.txt")

    def refuse(*args, **options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    sentence = refusal(path)
    assert "a.txt" in sentence
    assert "Permission denied" in sentence


def test_a_file_that_changes_while_it_is_hashed_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("once\n")

    def hash_and_change(path, hash_file=sources.hash_file):
        found = hash_file(path)
        path.write_text("twice\n")
        return found

    monkeypatch.setattr(sources, "hash_file", hash_and_change)
    with pytest.raises(CorpusError, match=r"a\.txt changed while it was read: start again"):
        find_files([path])


def test_a_name_leads_to_files_here_or_to_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").touch()
    here = ["texts", "texts/a.txt", "texts/*.txt", "**/a*", "~/texts", tmp_path / "texts"]
    assert all(map(sources.leads_to_files, here))
    assert not any(map(sources.leads_to_files, ["cook/soups", "cook/soups/*.csv", "texts/b.txt"]))


# A hub data set, from a copy in a cache folder as the hub's client lays it out.


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    data_set = tmp_path / "datasets--cook--soups"
    touch(data_set / "refs" / "main", "a" * 40)
    return data_set / "snapshots" / ("a" * 40)


def test_a_hub_data_set_is_read_by_name(hub):
    lines = "".join(json.dumps({"text": f"soup number {n}"}) + "\n" for n in range(3))
    touch(hub / "data" / "train.jsonl", lines)
    touch(hub / "data" / "test.jsonl", lines)
    touch(hub / "soups.csv", "text\nthe same once more")
    touch(hub / "README.md")
    touch(hub / "dataset_infos.json")
    assert names("cook/soups") == ["test.jsonl", "train.jsonl"]
    assert names("cook/soups/data/train*") == ["train.jsonl"]
    assert names("cook/soups/*.csv") == ["soups.csv"]
    touch(blob := hub.parents[1] / "blobs" / "0a1b", lines)  # where the client keeps the content
    (hub / "data" / "test.jsonl").unlink()
    (hub / "data" / "test.jsonl").symlink_to(blob)
    assert names("cook/soups") == ["test.jsonl", "train.jsonl"]
    corpus = Corpus("cook/soups")
    assert corpus.scan().documents == 6


def test_a_hub_data_set_that_is_not_here_is_refused_in_a_sentence(hub):
    sentence = refusal("cook/stews")
    assert "cook/stews" in sentence
    assert "connection" in sentence
    touch(hub / "pictures.zip")
    assert "no data file" in refusal("cook/soups")


class ClientError(Exception):
    """Like httpx's ConnectError: neither an OSError nor one of the hub client's own."""


def test_a_missing_network_gives_a_sentence_and_the_cache_still_works(hub, monkeypatch):
    import huggingface_hub

    def fail(*args, **options):
        raise ClientError("[Errno -3] Temporary failure in name resolution")

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", fail)
    touch(hub / "soups.csv", "text\nhot")
    assert names("cook/soups") == ["soups.csv"]
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    assert "connection" in refusal("cook/stews")


def test_a_list_that_fails_fetches_nothing(hub, monkeypatch):
    """The hub may answer again a moment later, and would then send every file there is."""
    import huggingface_hub

    def fail(*args, **options):
        raise ClientError("502 Bad Gateway")

    asked = []
    download = huggingface_hub.snapshot_download

    def watched(*args, **options):
        asked.append(options["local_files_only"])
        return download(*args, **options)

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", fail)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", watched)
    touch(hub / "soups.csv", "text\nhot")
    assert names("cook/soups") == ["soups.csv"]
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *_, **__: ["soups.csv"])
    assert names("cook/soups") == ["soups.csv"]
    assert asked == [True, False]


@pytest.mark.parametrize("name", ["cook/soups--", "cook/..soups", "c" * 99 + "/soups"])
def test_a_name_that_no_data_set_can_have_is_refused_in_a_sentence(hub, name):
    assert name in refusal(name)
