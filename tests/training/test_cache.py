"""The cache of encoded corpora: found again, never stale, never damaged, never in the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from textwright.corpus import PARTS, Corpus
from textwright.corpus.documents import CorpusOptions
from textwright.errors import CorpusError
from textwright.tokenizer import Tokenizer, TokenizerOptions
from textwright.training import cache
from textwright.training.cache import (
    clear_cache,
    encode_corpus,
    encode_privately,
    list_cache,
    remove_abandoned,
)
from textwright.training.encoded import open_encoded

# Encodes a corpus of lines, and stops after its first part, ready to be killed.
PROGRAM = """
import sys, time
from textwright.corpus import Corpus
from textwright.corpus.documents import CorpusOptions
from textwright.tokenizer import Tokenizer, TokenizerOptions
from textwright.training.cache import encode_corpus

def stop(stage, done, total):
    print("encoding", flush=True)
    time.sleep(60)

corpus = Corpus(sys.argv[1], CorpusOptions(unit="line"))
tokenizer = Tokenizer.train(TokenizerOptions(kind="char"), corpus.documents("train"))
encode_corpus(corpus, tokenizer, stop)
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("TEXTWRIGHT_CACHE", str(folder))
    return folder


@pytest.fixture
def poems(tmp_path):
    path = tmp_path / "poems.txt"
    path.write_text("".join(f"poem {i} of many, by {i % 7}\n" for i in range(600)), "utf-8")
    return path


def read(path):
    corpus = Corpus([path], CorpusOptions(unit="line"))
    options = TokenizerOptions(kind="word", vocab_size=300)
    return corpus, Tokenizer.train(options, corpus.documents("train"))


def encoded(path, on_progress=lambda stage, done, total: None):
    corpus, tokenizer = read(path)
    return corpus, tokenizer, encode_corpus(corpus, tokenizer, on_progress)


def contents(parts):
    """The parts without their maps."""
    return {part: (parts[part].ids.tolist(), parts[part].starts.tolist()) for part in PARTS}


# What is encoded, and found again


def test_encoded_documents_are_those_of_the_corpus(poems):
    corpus, tokenizer, parts = encoded(poems)
    for part in PARTS:
        texts = list(corpus.documents(part))
        assert len(parts[part]) == len(texts) > 0
        for index, text in enumerate(texts):
            assert parts[part][index].tolist() == tokenizer.encode(text).tolist()


@pytest.mark.parametrize(("count", "whole"), [(25, False), (3, True)])
def test_texts_whose_ends_are_held_out_end_with_a_whole_line_or_word(tmp_path, count, whole):
    folder = tmp_path / "texts"
    folder.mkdir()
    for n in range(count):
        lines = f"Poem {n} has its words\nand lines\n" * 8
        joke = "a short joke of one line, whose end is held out: longwordthere"
        (folder / f"{n:02}.txt").write_text(lines if n else joke)
    corpus = Corpus(folder, CorpusOptions(unit="file"))
    tokenizer = Tokenizer.train(TokenizerOptions(kind="char"), corpus.documents("train"))
    documents = encode_corpus(corpus, tokenizer)
    read = [tokenizer.decode(ids.tolist()) for ids in documents["train"]]
    texts = [*corpus.documents("train")]
    assert (read == texts) is whole
    if not whole:
        assert read[0] == "a short joke of one line, whose end is held out:"
        assert all(text.endswith(("has its words", "and lines")) for text in read[1:])
        assert all(text.startswith(short) for short, text in zip(read, texts, strict=True))
    held = [tokenizer.decode(ids.tolist()) for ids in documents["valid"]]
    assert held == [*corpus.documents("valid")]


def test_ids_are_kept_in_the_narrowest_type_and_memory_mapped(poems):
    _, _, parts = encoded(poems)
    assert parts["train"].ids.dtype == np.uint16
    assert isinstance(parts["train"].ids, np.memmap)


def test_the_cache_is_found_again_and_never_stale(poems, home):
    encoded(poems)
    (first,) = home.iterdir()
    stages = []
    encoded(poems, lambda stage, done, total: stages.append(stage))
    assert list(home.iterdir()) == [first]
    assert stages == []
    poems.write_text(poems.read_text("utf-8").replace("poem", "verse"), "utf-8")
    _, tokenizer, parts = encoded(poems)
    assert len(list(home.iterdir())) == 2
    every = np.concatenate([parts[part].ids for part in parts])
    assert tokenizer.id_of("verse") in every


def test_another_way_to_encode_is_another_entry(poems, home, monkeypatch):
    encoded(poems)
    monkeypatch.setattr(cache, "ENCODING_VERSION", cache.ENCODING_VERSION + 1)
    encoded(poems)
    assert len(list(home.iterdir())) == 2


def test_the_cache_needs_no_torch():
    code = "import sys; sys.modules['torch'] = None; import textwright.training.cache"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_full_disk_is_reported_and_leaves_nothing(poems, home, monkeypatch):
    def refuse(folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "sync_tree", refuse)
    with pytest.raises(CorpusError, match=r"Cannot keep .*No space left.*TEXTWRIGHT_CACHE"):
        encoded(poems)
    assert list(home.iterdir()) == []


def test_what_others_may_read_is_up_to_the_umask(poems, home):
    before = os.umask(0o027)
    try:
        encoded(poems)
    finally:
        os.umask(before)
    (folder,) = home.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o750


# What is damaged


def halve(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 4 * 2])


def cut_to_odd(file):
    file.write_bytes(file.read_bytes()[:-1])


def empty(file):
    file.write_bytes(b"")


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def delete(file):
    file.unlink()


@pytest.mark.parametrize("name", ["train.ids", "valid.ids", "train.starts.npy", "test.starts.npy"])
@pytest.mark.parametrize("harm", [halve, cut_to_odd, empty, flip, delete])
def test_a_damaged_file_is_noticed_and_the_corpus_encoded_again(poems, home, name, harm):
    before = contents(encoded(poems)[2])
    (folder,) = home.iterdir()
    harm(folder / name)
    stages = []
    _, _, after = encoded(poems, lambda stage, done, total: stages.append(stage))
    assert contents(after) == before
    assert list(home.iterdir()) == [folder]
    assert set(stages) == {f"Encoding again, because {name} in the cache is damaged"}
    encoded(poems, lambda stage, done, total: pytest.fail(stage))


@pytest.mark.parametrize("harm", [halve, cut_to_odd, empty, flip, delete])
def test_a_damaged_record_is_noticed_and_the_corpus_encoded_again(poems, home, harm):
    before = contents(encoded(poems)[2])
    (folder,) = home.iterdir()
    harm(folder / "meta.json")
    stages = []
    _, _, after = encoded(poems, lambda stage, done, total: stages.append(stage))
    assert contents(after) == before
    # It is written last: without it there is nothing to find.
    assert stages[0].startswith("Encoding again, because" if harm is not delete else "Encoding")


@pytest.mark.parametrize(
    ("starts", "reason"),
    [
        (np.array([0, 5, 3, 9]), "its numbers do not increase from 0"),
        (np.array([1, 3, 5, 9]), "its numbers do not increase from 0"),
        (np.array([0, 3, 5, 9], np.int32), "it holds int32 of shape (4,)"),
        (np.array([[0, 9]]), "it holds int64 of shape (1, 2)"),
        (np.array([], np.int64), "it holds int64 of shape (0,)"),
        (np.array([0, 3, 5, 8]), "it has 18 bytes instead of 16"),
    ],
)
def test_starts_that_cannot_be_are_named(poems, home, starts, reason):
    _, tokenizer, _ = encoded(poems)
    (folder,) = home.iterdir()
    (folder / "valid.ids").write_bytes(bytes(18))
    np.save(folder / "valid.starts.npy", starts)
    with pytest.raises(CorpusError) as caught:
        open_encoded(folder, tokenizer)
    assert f"is damaged ({reason}); delete its folder" in str(caught.value)


def test_a_bracket_in_a_header_that_is_never_closed_is_damage_too(poems, home):
    """numpy raises an error of Python's tokenizer there."""
    _, tokenizer, _ = encoded(poems)
    (folder,) = home.iterdir()
    file = folder / "train.starts.npy"
    file.write_bytes(file.read_bytes().replace(b"'shape': (", b"'shape':(("))
    with pytest.raises(CorpusError, match=r"train\.starts\.npy is damaged"):
        open_encoded(folder, tokenizer)


# Several processes


def test_many_that_encode_the_same_corpus_at_once_all_get_it(poems, home):
    """They share a process id, as processes of several containers may."""
    corpora = [read(poems) for _ in range(4)]
    for corpus, _ in corpora:
        corpus.scan()
    found, meet = [], threading.Barrier(4, timeout=20)

    def work(corpus, tokenizer):
        def wait(stage, done, total):
            if done == total:
                meet.wait()  # all have encoded it, none has published it

        found.append(contents(encode_corpus(corpus, tokenizer, wait)))

    threads = [threading.Thread(target=work, args=each) for each in corpora]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(each == found[0] for each in found)
    assert len(list(home.iterdir())) == 1


def test_a_damaged_copy_that_two_replace_at_once_is_whole_in_the_end(poems, home, monkeypatch):
    before = contents(encoded(poems)[2])
    (folder,) = home.iterdir()
    halve(folder / "train.ids")
    publish = cache._publish

    def outrun(*args):
        monkeypatch.setattr(cache, "_publish", publish)
        encoded(poems)  # another process is faster
        publish(*args)

    monkeypatch.setattr(cache, "_publish", outrun)
    assert contents(encoded(poems)[2]) == before
    assert list(home.iterdir()) == [folder]


def test_an_interrupted_encoding_leaves_nothing(poems, home):
    def interrupt(stage, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encoded(poems, interrupt)
    assert list(home.iterdir()) == []


@pytest.fixture
def builder(poems):
    """A process that is encoding the poems."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(poems)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "encoding\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_builds_is_not(
    poems, home, builder
):
    (build,) = home.iterdir()
    encoded(poems)
    assert build in home.iterdir()
    builder.send_signal(signal.SIGSTOP)  # alive, however long it has not written
    assert remove_abandoned() == 0
    assert build in home.iterdir()
    builder.kill()
    builder.wait()
    encoded(poems)
    (left,) = home.iterdir()
    assert left != build


def test_a_build_in_the_moment_before_it_is_locked_survives_the_removal(poems, home, monkeypatch):
    made = []

    def mkdtemp(**options):
        made.append(make(**options))
        if len(made) == 1:
            remove_abandoned()
        return made[-1]

    make = cache.tempfile.mkdtemp
    monkeypatch.setattr(cache.tempfile, "mkdtemp", mkdtemp)
    corpus, tokenizer = read(poems)
    with encode_privately(corpus, tokenizer) as folder:
        assert folder.parent.stat().st_mode & 0o077 == 0
        remove_abandoned()
        open_encoded(folder, tokenizer)
    assert list(home.iterdir()) == []


def test_where_locks_do_not_work_nothing_is_removed(poems, home, monkeypatch):
    class Lockless(cache.FileLock):
        def acquire(self, **options):
            raise OSError(95, "Operation not supported")

    monkeypatch.setattr(cache, "FileLock", Lockless)
    build = home / "building-of-another"
    build.mkdir(parents=True)
    encoded(poems)
    assert remove_abandoned() == 0
    assert build.is_dir()
    assert len(list(home.iterdir())) == 2


# Private


def test_a_private_copy_is_gone_while_it_is_read(poems, home):
    expected = contents(encoded(poems)[2])
    clear_cache()
    corpus, tokenizer = read(poems)
    with encode_privately(corpus, tokenizer) as folder:
        assert folder.parent.stat().st_mode & 0o077 == 0  # nobody else looks in meanwhile
        parts, others = (open_encoded(folder, tokenizer) for _ in range(2))
    assert list(home.iterdir()) == []
    assert contents(parts) == contents(others) == expected


def test_a_private_copy_is_gone_after_an_error(poems, home):
    with pytest.raises(KeyError), encode_privately(*read(poems)):
        raise KeyError
    assert list(home.iterdir()) == []


def test_a_private_training_uses_an_earlier_copy_and_adds_nothing(poems, home):
    corpus, tokenizer, parts = encoded(poems)
    (kept,) = home.iterdir()
    os.utime(kept / "meta.json", (1, 1))
    with encode_privately(corpus, tokenizer, lambda *done: pytest.fail("encoded")) as folder:
        assert folder == kept
    assert contents(open_encoded(kept, tokenizer)) == contents(parts)
    assert list_cache()[0].used == 1


def test_a_private_training_leaves_a_damaged_copy_alone(poems, home):
    before = contents(encoded(poems)[2])
    (kept,) = home.iterdir()
    halve(kept / "train.ids")
    corpus, tokenizer = read(poems)
    with encode_privately(corpus, tokenizer) as folder:
        assert folder != kept
        assert contents(open_encoded(folder, tokenizer)) == before
    assert list(home.iterdir()) == [kept]


def test_where_mapped_files_cannot_be_removed_they_are_at_the_end(poems, home, monkeypatch):
    at_end = []
    remove_tree = shutil.rmtree
    monkeypatch.setattr(cache.atexit, "register", lambda *call: at_end.append(call))
    monkeypatch.setattr(cache.shutil, "rmtree", lambda folder, ignore_errors: None)
    with encode_privately(*read(poems)):
        pass
    monkeypatch.setattr(cache.shutil, "rmtree", remove_tree)
    assert remove_abandoned() == 0  # it is still in use
    ((remove, *args),) = at_end
    remove(*args)
    assert list(home.iterdir()) == []


# Listing and clearing


def test_the_cache_is_listed_the_last_used_first(poems, home):
    assert list_cache() == []
    encoded(poems)
    (first,) = home.iterdir()
    os.utime(first / "meta.json", (1, 1))
    (more := poems.with_name("more.txt")).write_text(poems.read_text("utf-8") * 2, "utf-8")
    _, _, parts = encoded(more)
    newer, older = list_cache()
    assert (newer.files, older.files) == (["more.txt"], ["poems.txt"])
    assert newer.documents == sum(len(parts[part]) for part in PARTS)
    assert newer.tokens == sum(len(parts[part].ids) for part in PARTS)
    assert newer.bytes == sum(file.stat().st_size for file in newer.folder.iterdir())
    assert newer.used > time.time() - 60
    encoded(poems)
    assert [entry.files for entry in list_cache()] == [["poems.txt"], ["more.txt"]]


def test_what_an_older_version_kept_is_listed_and_cleared(home):
    folder = home / f"{'0' * 16}-{'1' * 16}-1"
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps({"corpus": "0" * 64}))
    (entry,) = list_cache()
    assert (entry.files, entry.documents, entry.tokens) == ([], None, None)
    assert clear_cache() == entry.bytes > 0
    assert list(home.iterdir()) == []


def test_clearing_removes_what_is_the_caches_and_nothing_else(poems, home, builder):
    (build,) = home.iterdir()
    encoded(poems)
    (home / "thesis").mkdir()
    (home / "thesis" / "chapter.txt").write_text("mine")
    (entry,) = list_cache()
    assert clear_cache() == entry.bytes
    assert {*home.iterdir()} == {build, home / "thesis"}
    assert (home / "thesis" / "chapter.txt").read_text() == "mine"


def test_a_training_reads_on_while_the_cache_is_cleared(poems):
    _, _, parts = encoded(poems)
    before = contents(parts)
    clear_cache()
    assert contents(parts) == before


def test_what_the_system_keeps_in_place_stays_whole(poems, monkeypatch):
    _, tokenizer, parts = encoded(poems)

    def refuse(self, target):
        raise PermissionError(13, "in use")

    with monkeypatch.context() as patched:
        patched.setattr(cache.Path, "rename", refuse)
        assert clear_cache() == 0
    (entry,) = list_cache()
    assert contents(open_encoded(entry.folder, tokenizer)) == contents(parts)
