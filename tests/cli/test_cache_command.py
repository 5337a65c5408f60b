"""`textwright cache`: what it lists, what it clears, and what stays."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.filesize import decimal

from textwright.corpus import Corpus
from textwright.evaluation.kept import KeptResults
from textwright.tokenizer import Tokenizer, TokenizerOptions
from textwright.training.cache import encode_corpus, list_cache


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A cache that holds the corpus of four.txt and others."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TEXTWRIGHT_CACHE", str(folder))
    texts = tmp_path / "texts"
    texts.mkdir()
    for name in ("one", "two", "three", "four"):
        (texts / f"{name}.txt").write_text(f"the text of {name}, again and again\n" * 30, "utf-8")
    corpus = Corpus(texts)
    encode_corpus(corpus, Tokenizer.train(TokenizerOptions(kind="char"), corpus.documents("train")))
    return folder


@pytest.fixture
def tw(tw):
    """`textwright cache`, which succeeds → stdout."""

    def run(*argv):
        code, out, _ = tw("cache", *argv)
        assert code == 0
        return out

    return run


def test_the_cache_is_listed(tw, home):
    (entry,) = list_cache()
    title, row, last = tw().splitlines()
    assert title.split() == ["corpus", "documents", "tokens", "size", "last", "used"]
    assert row.startswith("four.txt, one.txt, three.txt and 1 more ")
    for shown in (f" {entry.documents} ", f" {entry.tokens:,} ", decimal(entry.bytes)):
        assert shown in row
    assert last == f"1 encoded corpus, {decimal(entry.bytes)}, in {home}"


def test_the_cache_is_listed_as_json(tw, home):
    (entry,) = list_cache()
    found = json.loads(tw("--json"))
    (corpus,) = found["corpora"]
    age = datetime.now(UTC) - datetime.fromisoformat(corpus.pop("used"))
    assert timedelta(0) <= age < timedelta(minutes=5)
    assert corpus == {
        "folder": entry.folder.name,
        "files": ["four.txt", "one.txt", "three.txt", "two.txt"],
        "documents": entry.documents,
        "tokens": entry.tokens,
        "bytes": entry.bytes,
    }
    assert (found["folder"], found["bytes"], found["freed"]) == (str(home), entry.bytes, 0)


def test_clearing_frees_what_is_printed(tw, home):
    (entry,) = list_cache()
    assert tw("--clear") == f"Freed {decimal(entry.bytes)} in {home}.\n"
    assert list(home.iterdir()) == []
    assert tw() == f"0 encoded corpora, 0 bytes, in {home}\n"


def test_clearing_removes_bytecode_too(tw, home):
    tw("--clear")
    (kept := home / "bytecode" / "torch").mkdir(parents=True)
    (kept / "__init__.pyc").write_bytes(b"compiled")
    assert tw("--clear") == f"Freed 8 bytes in {home}.\n"
    assert list(home.iterdir()) == []


def test_results_of_long_work_are_listed_and_cleared(tw, home):
    KeptResults.in_cache().recall(int, lambda: 7)
    (file,) = (home / "results").iterdir()
    size = file.stat().st_size
    assert f", and 1 part of results, {decimal(size)}, in {home}" in tw()
    assert json.loads(tw("--json"))["results"] == {"parts": 1, "bytes": size}
    tw("--clear")
    assert list(home.iterdir()) == []


def test_clearing_gives_json(tw, home):
    (entry,) = list_cache()
    freed = json.loads(tw("--clear", "--json"))
    assert freed == {
        **{"folder": str(home), "corpora": [], "bytes": 0, "freed": entry.bytes},
        "results": {"parts": 0, "bytes": 0},
    }


def test_what_cannot_be_removed_is_listed(tw, home, monkeypatch):
    def refuse(self, target):
        raise PermissionError(13, "in use")

    monkeypatch.setattr(Path, "rename", refuse)
    (entry,) = list_cache()
    _, row, left, freed = tw("--clear").splitlines()
    assert row.startswith("four.txt")
    size = decimal(entry.bytes)
    assert (
        left == f"1 encoded corpus, {size}, in {home} cannot be removed now: in use, or not yours."
    )
    assert freed == f"Freed 0 bytes in {home}."


def test_what_an_older_version_kept_is_listed_without_names(tw, home):
    (old := home / f"{'0' * 16}-{'1' * 16}-1").mkdir()
    (old / "meta.json").write_text("{}")
    assert "(damaged, or of an older version)" in tw()
    assert "2 encoded corpora" in tw()


def test_an_empty_cache_needs_no_folder(tw, monkeypatch, tmp_path):
    monkeypatch.setenv("TEXTWRIGHT_CACHE", str(tmp_path / "none"))
    assert tw() == f"0 encoded corpora, 0 bytes, in {tmp_path / 'none'}\n"
    assert not (tmp_path / "none").exists()
