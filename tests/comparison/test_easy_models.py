"""Counting and compressors, beside which models are compared."""

import errno
import math
import os
import shutil
import signal

import numpy as np
import pytest

from textwright import grammar
from textwright.comparison import easy
from textwright.comparison.compressors import costs, primed_ppmd, primed_xz
from textwright.comparison.easy import measure_easy
from textwright.errors import EvaluationError
from textwright.run import Run
from textwright.run.recorded import recorded_corpus

pytestmark = pytest.mark.usefixtures("one_thread")


def test_counting_and_compressors_are_primed_with_the_training_text(counted):
    run = Run.load(counted)
    seen = next(recorded_corpus(run).documents("train"))
    new = next(run.held_out("test"))
    rows = {row.name: row for row in measure_easy(run, [seen, new], lambda *_: None).rows}
    assert list(rows) == ["unigrams", "5-grams", "PPMd", "xz"]
    for name, empty in {"PPMd": primed_ppmd(5, b""), "xz": primed_xz(b"", 1_000)}.items():
        known, unknown = (nats.sum() for nats in rows[name].measured.nats)
        unprimed = costs(empty, [new])[0][0].sum()
        assert unknown < 0.4 * unprimed, name
        assert known < 0.4 * unprimed, name
    assert known < 0.5 * unknown  # xz finds again what it has read
    unigrams, ngrams = (rows[name].measured.bits for name in list(rows)[:2])
    assert ngrams < 0.5 * unigrams


@pytest.mark.parametrize("name", ["PPMd", "xz"])
def test_a_stretch_costs_what_it_adds_to_all_before_it(name):
    known = "".join(f"{note}\n" for note in grammar.documents(20, seed=1)).encode()

    def primed():
        return primed_ppmd(5, known) if name == "PPMd" else primed_xz(known, 10_000)

    def size(data):
        compressor = primed()
        read = getattr(compressor, "encode", None) or compressor.compress
        return len(read(data)) + len(compressor.flush())

    text = "é".join(grammar.documents(60, seed=2))[:2_500]
    told = []
    [nats], [places] = costs(primed(), [text], lambda *said: told.append(said))
    assert places.tolist() == [0, 1_000, 2_000]
    ends = [text[:1_000], text[:2_000], text + "\0"]
    sizes = [size(b""), *(size(end.encode()) for end in ends)]
    assert (nats / math.log(2) / 8).tolist() == pytest.approx(np.diff(sizes).tolist())
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_document_is_read_stretch_by_stretch_and_nothing_of_it_twice():
    class OneStretch:
        def compress(self, data):
            assert len(data) <= 1_001
            return data

        def flush(self):
            return b""

    [nats], _ = costs(OneStretch(), ["a" * 3_000])
    assert (nats / math.log(2)).tolist() == pytest.approx([8_000, 8_000, 8_008])


def test_a_text_that_no_window_holds_is_refused():
    with pytest.raises(EvaluationError, match="1,610,612,736 are the most"):
        primed_xz(b"", 1 << 33)


def test_a_copy_that_the_system_ends_is_a_sentence():
    class Killed:
        def compress(self, data):
            if data:
                os.kill(os.getpid(), signal.SIGKILL)
            return data

        def flush(self):
            return b""

    with pytest.raises(EvaluationError, match="A copy of the process was ended"):
        costs(Killed(), ["text"])


def test_a_process_that_cannot_be_copied_is_a_sentence(monkeypatch):
    def full():
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(os, "fork", full)
    with pytest.raises(EvaluationError, match="cannot be copied: Cannot allocate memory"):
        costs(primed_xz(b"", 1_000), ["text"])


def test_only_what_finds_no_memory_is_left_out(counted, monkeypatch):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr(easy, "primed_ppmd", full)
    run = Run.load(counted)
    found = measure_easy(run, [next(run.held_out("test"))], lambda *_: None)
    assert [row.name for row in found.rows] == ["unigrams", "5-grams", "xz"]
    assert found.left_out == ["PPMd is left out: Memory ran out."]


def test_easy_rows_are_left_out_where_the_training_text_is_gone(trained, tmp_path):
    moved = tmp_path / "moved" / "deep" / "run"
    shutil.copytree(trained, moved)
    found = measure_easy(Run.load(moved), ["Take 3 onions."], lambda *_: None)
    assert not found.rows
    assert "are left out: " in found.left_out[0]
    assert "is gone" in found.left_out[0]
