"""Records → documents: template, cleaning, split, fingerprint, and the sentence of each error."""

import gzip
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from textwright.corpus import PARTS, Corpus, CorpusOptions, plain_text
from textwright.corpus.documents import Template
from textwright.corpus.readers import read_records
from textwright.corpus.tally import hash_document
from textwright.errors import CorpusError


def write(path: Path, records: list) -> Path:
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


def write_lines(path: Path, count: int, start: int = 0) -> Path:
    path.write_text("".join(f"document {n}\n" for n in range(start, start + count)), "utf-8")
    return path


def clean(tmp_path: Path, records: list, **options) -> tuple[list[str], dict[str, int]]:
    """The documents of a few records, joined over all parts, and the counts of dropped ones."""
    corpus = Corpus(write(tmp_path / "r.json", records), CorpusOptions(**options))
    summary = corpus.scan()
    halves = [list(corpus.documents(part)) for part in PARTS]
    assert summary.parts == {part: len(half) for part, half in zip(PARTS, halves, strict=True)}
    whole = ["".join(text) for text in zip(*halves, strict=True)]
    return whole, summary.dropped


def refusal(call, *args, **options) -> str:
    with pytest.raises(CorpusError) as refused:
        call(*args, **options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_table_among_plain_texts_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("A text.")
    (tmp_path / "more.csv").write_text("id,text\n1,More text.\n")
    assert Corpus([tmp_path]).scan().documents == 2
    for name in ("about.csv", "0.csv"):
        (tmp_path / name).write_text("id,author\n1,Ann\n")
        found = refusal(Corpus, [tmp_path])
        assert f"{name} is a table without a column text among plain texts" in found
        (tmp_path / name).unlink()


# Template


def test_a_template_joins_lists_and_drops_records_without_a_named_field(tmp_path):
    # Ten characters at least, so that each part of a split by position has some.
    full = {"title": "Soup of beans", "steps": ["Soak overnight.", "Boil.", "Salt 100 % {x}."]}
    records = [
        full,
        {"title": "Nothing to do", "steps": []},
        {"title": None, "steps": ["x"]},
        {"title": " ", "steps": ["x"]},
        {"steps": ["x"]},
        {"title": "No steps"},
    ]
    documents, dropped = clean(tmp_path, records, template="{{100 %}} {title} | {steps}")
    assert documents == ["{100 %} Soup of beans | Soak overnight. Boil. Salt 100 % {x}."]
    assert dropped == {"no steps": 2, "no title": 3}


def test_values_are_rendered_as_they_were_written(tmp_path):
    records = [{"a": 1.50, "b": True, "c": ["x", None, 2], "d": "007"}]
    (document,), _ = clean(tmp_path, records, template="{a} {b} {c} {d} and {a} once more")
    assert document == "1.5 true x 2 007 and 1.5 once more"


@pytest.mark.parametrize("text", ["no field", "{a", "a}", "{}", "{{a}}"])
def test_a_template_without_fields_or_with_a_lone_brace_is_refused(text):
    assert text in refusal(Template, text)


@pytest.mark.parametrize("template", ["auto", ""])
def test_without_a_template_the_only_column_or_text_is_taken(tmp_path, template):
    (document,), _ = clean(tmp_path, [{"story": "once upon a time there was"}], template=template)
    assert document == "once upon a time there was"
    records = [{"id": "7", "longer": "x" * 99, "text": "once upon a time there was"}]
    (document,), _ = clean(tmp_path, records, template=template)
    assert document == "once upon a time there was"


def test_without_a_choice_a_table_of_several_columns_is_refused(tmp_path):
    path = write(tmp_path / "r.json", [{"id": 7, "story": "once upon a time"}])
    sentence = refusal(Corpus, path, CorpusOptions(template=""))
    assert "id, story" in sentence
    assert "--text COLUMN" in sentence
    assert "--template '{id}: {story}'" in sentence


def test_an_unknown_field_is_reported_with_the_existing_ones(tmp_path):
    path = write(tmp_path / "r.json", [{"title": "x", "text": "y"}])
    for options in (
        {"template": "{titel}"},
        {"template": "{title}", "drop_where": ["titel=x"]},
        {"template": "{title}", "split_by": ["titel"]},
    ):
        sentence = refusal(Corpus(path, CorpusOptions(**options)).scan)
        assert "titel" in sentence
        assert "title, text" in sentence


def test_a_field_that_holds_an_object_is_refused(tmp_path):
    path = write(tmp_path / "r.json", [{"text": {"en": "x"}}])
    assert "text" in refusal(Corpus(path).scan)


# Cleaning


def test_every_cleaning_step_drops_or_trims_and_is_counted(tmp_path):
    texts = {
        "No synopsis has been added": 'begins with "No synopsis"',
        "This is an ADAPTATION of a book": 'contains "adaptation"',
        "Short one": "fewer than 4 words",
        "One two three four five six seven eight nine": "more than 8 words",
        "é é é é é": "fewer than 4 words",
        "Short one cut (Source: an encyclopedia of long notes)": "fewer than 4 words",
    }
    kept = "A naïve «hero» sets out. [Written by an adaptation of a person]"
    records = [{"t": text, "g": "Drama, Action"} for text in [*texts, kept]]
    documents, dropped = clean(
        tmp_path,
        records,
        template="{t}",
        drop_prefixes=["No synopsis"],
        cut_from=["(Source", "[Written"],
        drop_phrases=["adaptation"],
        min_words=4,
        max_words=8,
        ascii_only=True,
        strip_symbols=".,",
    )
    assert documents == ["A nave hero sets out"]
    reasons = list(texts.values())
    assert dropped == {reason: reasons.count(reason) for reason in reasons}


def test_records_are_dropped_by_a_value_or_by_an_item_of_a_list(tmp_path):
    genres = ["Kids", "Drama, Kids", '["Drama", "Kids"]', "['Kids']", ["Drama", "Kids"]]
    spared = ["Kids and parents", "", None, ["Drama"]]
    records = [{"t": f"document number {n}", "g": g} for n, g in enumerate([*genres, *spared])]
    documents, dropped = clean(tmp_path, records, template="{t}", drop_where=["g~Kids"])
    assert [int(text.split()[-1]) for text in documents] == [5, 6, 7, 8]
    assert dropped == {"g~Kids": 5}
    _, dropped = clean(tmp_path, records, template="{t}", drop_where=["g=Kids"])
    assert dropped == {"g=Kids": 1}
    assert "column=value" in refusal(clean, tmp_path, records, drop_where=["g"], template="{t}")


def test_a_limit_of_one_word_is_reported_in_the_singular(tmp_path):
    records = [{"t": "-"}, {"t": "one two"}, {"t": "unquestionably-long"}]
    _, dropped = clean(tmp_path, records, min_words=1, max_words=1, strip_symbols="-")
    assert dropped == {"fewer than 1 word": 1, "more than 1 word": 1}


def test_a_placeholder_is_found_inside_a_template_too(tmp_path):
    records = [{"n": "Name", "t": "No synopsis yet."}, {"n": "Name", "t": "A real synopsis."}]
    documents, _ = clean(tmp_path, records, template="{n}: {t}", drop_prefixes=["No synopsis"])
    assert documents == ["Name: A real synopsis."]


def test_words_are_stemmed_and_lower_cased_on_request(tmp_path):
    records = [{"t": "Running QUICKLY, the cats' dishes"}]
    assert clean(tmp_path, records, stem=True)[0] == ["run quick, the cat' dish"]
    assert clean(tmp_path, records, lowercase=True)[0] == ["running quickly, the cats' dishes"]


def test_line_breaks_and_broken_surrogates_become_plain_text(tmp_path):
    records = [{"t": "one\r\ntwo\rthree \ud83d four \ud83c\udf75"}]
    assert clean(tmp_path, records)[0] == ["one\ntwo\nthree \ufffd four 🍵"]


def test_if_no_document_is_left_the_sentence_gives_the_reasons(tmp_path):
    path = write(tmp_path / "r.json", [{"t": "a b"}, {"t": ""}])
    sentence = refusal(Corpus(path, CorpusOptions(min_words=9)).scan)
    assert "no t: 1" in sentence
    assert "fewer than 9 words: 1" in sentence
    for blank in ("", " \n\n"):
        (tmp_path / "empty.txt").write_text(blank, "utf-8")
        assert "no text in" in refusal(Corpus(tmp_path / "empty.txt").scan)
    (tmp_path / "header.csv").write_text("a,b\n", "utf-8")
    options = CorpusOptions(template="{a}")
    assert "no record" in refusal(Corpus(tmp_path / "header.csv", options).scan)


# Long documents


@pytest.mark.parametrize("extra", [{}, {"max_words": 10_000}])
def test_a_long_text_file_comes_in_pieces_that_join_to_its_parts(tmp_path, monkeypatch, extra):
    monkeypatch.setattr(plain_text, "STRETCH", 64)
    monkeypatch.setattr("textwright.corpus.corpus.STRETCH", 64)
    text = " ".join(f"Wörter{n}" for n in range(500)) + "\n"
    (tmp_path / "a.txt").write_text(text, "utf-8")
    corpus = Corpus(tmp_path / "a.txt", CorpusOptions(lowercase=True, **extra))
    summary = corpus.scan()
    bounds = [0, int(0.90 * len(text)), int(0.95 * len(text)), len(text)]
    for part, start, stop in zip(PARTS, bounds, bounds[1:], strict=False):
        pieces = list(corpus.pieces(part))
        assert "".join(piece.text for piece in pieces) == text.lower()[start:stop]
        assert [piece.last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
        assert max(len(piece.text) for piece in pieces) <= 4 * 64
    assert (summary.documents, summary.characters, summary.words) == (1, len(text), 500)
    train = "".join(piece.text for piece in corpus.pieces("train"))
    assert summary.train_hashes.tolist() == [hash_document(train)]


_PEAKS = """
import re, sys
from pathlib import Path
from textwright.corpus import Corpus, CorpusOptions

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

for path in sys.argv[1:]:
    corpus = Corpus(path, CorpusOptions(unit="file", lowercase=True))
    peak = 0
    def watch(done, total):
        global peak
        peak = max(peak, anonymous())
    summary = corpus.scan(watch)
    for at, piece in enumerate(corpus.pieces("train")):
        if at % 5000 == 0 or not piece.last:
            watch(0, 0)
    print(peak // 10**6, summary.characters)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads anonymous memory from /proc")
@pytest.mark.parametrize("name", ["one.txt", "list.json"])
def test_memory_does_not_grow_with_the_corpus(tmp_path, name):
    line = "The quick brown fox jumps over the lazy dog, and nothing else happens today.\n" * 10

    def write_blocks(count):
        path = tmp_path / f"{count}-{name}"
        block = line * 100 if name == "one.txt" else json.dumps([{"text": line}] * 100)[1:-1]
        with open(path, "w", encoding="utf-8") as handle:
            handle.write("[" * (name == "list.json"))
            for at in range(count):
                handle.write((", " if at and name == "list.json" else "") + block)
            handle.write("]" * (name == "list.json"))
        return path

    # The same process reads a small corpus first: its peak holds all that does not grow (modules,
    # buffers, the allocator's own pools), which differs between machines.
    paths = [write_blocks(count) for count in (50, 450)]
    more = paths[1].stat().st_size - paths[0].stat().st_size
    done = subprocess.run(
        [sys.executable, "-c", _PEAKS, *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
    )
    small, large = (tuple(map(int, line.split())) for line in done.stdout.splitlines())
    assert (small[1], large[1]) == (5_000 * len(line), 45_000 * len(line))
    assert more > 30_000_000
    assert (large[0] - small[0]) * 10**6 < more / 2  # 3 MB seen


# Split


def test_the_split_is_by_hash_in_the_stated_shares_and_stays_when_documents_join(tmp_path):
    few = Corpus(write_lines(tmp_path / "a.txt", 4000), CorpusOptions(unit="line"))
    more = Corpus(write_lines(tmp_path / "b.txt", 5000), CorpusOptions(unit="line"))
    for part, share in (("train", 0.90), ("valid", 0.05), ("test", 0.05)):
        before, after = set(few.documents(part)), set(more.documents(part))
        assert before == {text for text in after if int(text.split()[-1]) < 4000}
        # Six standard deviations: a false alarm once in 10^9.
        assert abs(len(before) - 4000 * share) < 6 * (4000 * share * (1 - share)) ** 0.5
    assert few.scan().parts == {part: len(list(few.documents(part))) for part in PARTS}
    salted = CorpusOptions(unit="line", split_salt="other")
    assert set(Corpus(tmp_path / "a.txt", salted).documents("test")) != set(few.documents("test"))


def test_a_template_can_change_without_changing_the_split(tmp_path):
    records = [{"a": f"first {n}", "b": f"second {n}"} for n in range(300)]
    path = write(tmp_path / "r.json", records)
    held = {}
    for template in ("{a} {b}", "{b}: {a}"):
        corpus = Corpus(path, CorpusOptions(template=template))
        held[template] = {text.split()[-1] for text in corpus.documents("valid")}
    assert held["{a} {b}"] == held["{b}: {a}"]
    by_a = Corpus(path, CorpusOptions(template="{b}", split_by=["a"]))
    only_a = Corpus(path, CorpusOptions(template="{a}"))
    numbers = [{t.split()[-1] for t in corpus.documents("test")} for corpus in (by_a, only_a)]
    assert numbers[0] == numbers[1]


def test_equal_documents_share_a_side_even_if_only_cleaning_makes_them_equal(tmp_path):
    random_ = random.Random(7)
    words = [f"Word{random_.randrange(10**6)}" for _ in range(400)]
    path = tmp_path / "a.txt"
    # Each text three times: as it is twice, and in capitals, which hash elsewhere.
    path.write_text("\n".join(words + words + [word.upper() for word in words]), "utf-8")
    corpus = Corpus(path, CorpusOptions(unit="line", lowercase=True))
    summary = corpus.scan()
    train = set(corpus.documents("train"))
    for part in ("valid", "test"):
        assert train.isdisjoint(corpus.documents(part))
    leaked = summary.dropped["also in training"]
    kept = [text for part in PARTS for text in corpus.documents(part)]
    assert leaked > 0
    assert summary.documents == len(kept) == 1200 - leaked
    assert summary.characters == sum(map(len, kept))
    assert summary.words == len(kept)
    assert summary.duplicates == len(kept) - len(set(kept))
    assert summary.train_hashes.dtype == np.uint64
    assert summary.train_hashes.tolist() == sorted(
        hash_document(text) for text in corpus.documents("train")
    )


def test_fewer_than_200_documents_are_split_by_position_within_each(tmp_path):
    options = CorpusOptions(unit="line")
    by_position = Corpus(write_lines(tmp_path / "a.txt", 199), options)
    texts = [f"document {n}" for n in range(199)]
    for part, start, stop in (("train", 0, 0.90), ("valid", 0.90, 0.95), ("test", 0.95, 1)):
        expected = [t[int(start * len(t)) : int(stop * len(t))] for t in texts]
        held = list(by_position.documents(part))
        if part == "train":
            assert held == expected
        else:
            assert held == [text for text in expected if text]
    by_hash = Corpus(write_lines(tmp_path / "b.txt", 200), options)
    assert "document 7" in [t for part in PARTS for t in by_hash.documents(part)]
    assert by_hash.scan().split["by"] == "hash"
    assert by_position.scan().split["by"] == "position"


@pytest.mark.parametrize(
    ("count", "length", "told"),
    [(60, 300, True), (60, 9_000, False), (3, 300, False), (250, 300, False)],
)
def test_held_out_parts_too_short_to_judge_by_are_told(tmp_path, count, length, told):
    for number in range(count):
        (tmp_path / f"{number:03}.txt").write_text(f"{number} " + "a word of it " * (length // 13))
    notes = Corpus(tmp_path, CorpusOptions(unit="file")).scan().notes
    assert len(notes) == told
    held = tmp_path / "held.txt"
    held.write_text("Another text.\n\n" * 30)
    given = Corpus(sorted(tmp_path.glob("0*.txt")), CorpusOptions(unit="file"), valid=held)
    assert not given.scan().notes
    if told:
        assert notes[0].startswith("Held out: the ends of 60 documents, 15 characters on average")


@pytest.mark.parametrize("stretch", [64, 1 << 20])
def test_by_position_symbols_stay_whole_where_they_must(tmp_path, monkeypatch, stretch):
    monkeypatch.setattr(plain_text, "STRETCH", stretch)
    monkeypatch.setattr("textwright.corpus.corpus.STRETCH", stretch)
    symbols = [f"C{n}#" * (1 + n % 4) for n in range(300)]
    path = tmp_path / "a.txt"
    path.write_text(" ".join(symbols), "utf-8")
    corpus = Corpus(path, whole_symbols=True)
    parts = ["".join(corpus.documents(part)) for part in PARTS]
    assert "".join(parts) == " ".join(symbols)
    assert [symbol for part in parts for symbol in part.split()] == symbols
    for part, share in zip(parts, (0.9, 0.05, 0.05), strict=True):
        assert len(part) == pytest.approx(share * len(" ".join(symbols)), abs=30)
    pieces = list(corpus.pieces("valid"))
    assert [piece.last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    elsewhere = Corpus(path)
    assert corpus.fingerprint != elsewhere.fingerprint
    assert parts[0] not in elsewhere.documents("train")


@pytest.mark.parametrize("count", [50, 300])
@pytest.mark.parametrize("given", [{}, {"valid": "v.txt"}])
def test_parts_that_are_read_together_equal_those_read_alone(tmp_path, monkeypatch, count, given):
    write_lines(tmp_path / "v.txt", 20, start=900)
    given = {role: tmp_path / name for role, name in given.items()}
    corpus = Corpus(write_lines(tmp_path / "a.txt", count), CorpusOptions(unit="line"), **given)
    alone = {part: list(corpus.documents(part)) for part in PARTS}
    opened = []
    monkeypatch.setattr(
        "textwright.corpus.corpus.read_records",
        lambda file, **how: opened.append(file.path.name) or read_records(file, **how),
    )
    together = {part: [] for part in PARTS}
    for part, text in corpus.documents_of(*PARTS):
        together[part].append(text)
    assert together == alone
    assert opened == ["a.txt", "v.txt"][: 1 + len(given)]


def test_a_source_that_is_also_held_out_is_told(tmp_path):
    """It is cut by position, so no part of it has the hash of the whole."""
    file = tmp_path / "novel.txt"
    file.write_text("A sentence of the novel. " * 400)
    summary = Corpus(file, CorpusOptions(unit="file"), valid=file).scan()
    assert summary.repeated == {"valid": 1}
    (note,) = summary.notes
    assert note.startswith("Of the documents given with --valid, 1 of 1 are trained on too")


@pytest.mark.parametrize("count", [50, 1000])
def test_given_files_are_held_out_as_they_are(tmp_path, count):
    options = CorpusOptions(unit="line")
    sources = write_lines(tmp_path / "a.txt", count)
    valid = write_lines(tmp_path / "v.txt", 30, start=20)  # 30 documents of the sources
    test = write_lines(tmp_path / "t.txt", 7, start=9000)
    both = Corpus(sources, options, valid=valid, test=test)
    assert list(both.documents("train")) == [f"document {n}" for n in range(count)]
    assert list(both.documents("valid")) == [f"document {n}" for n in range(20, 50)]
    assert len(list(both.documents("test"))) == 7
    assert both.scan().repeated == {"valid": 30, "test": 0}
    assert both.scan().documents == count + 37
    one = Corpus(sources, options, valid=[valid])
    assert len(list(one.documents("valid"))) == 30
    trained = {*one.documents("train")}  # of 1,000 lines, some are held out to test
    shared = 30 if count == 50 else sum(text in trained for text in one.documents("valid"))
    assert one.scan().repeated == {"valid": shared}
    parts = one.scan().parts
    if count == 50:
        text = "document 7"
        assert text[: int(0.95 * len(text))] in list(one.documents("train"))
    else:
        assert parts["train"] + parts["test"] == 1000
        assert 0 < parts["test"] < 100


def test_a_given_file_without_documents_is_refused(tmp_path):
    (tmp_path / "v.txt").write_text("", "utf-8")
    corpus = Corpus(write_lines(tmp_path / "a.txt", 9), valid=tmp_path / "v.txt")
    assert "v.txt" in refusal(corpus.scan)


# Fingerprint and summary


def test_the_fingerprint_follows_content_and_options_and_not_the_place(tmp_path):
    path = write_lines(tmp_path / "a.txt", 300)
    first = Corpus(path).fingerprint
    (tmp_path / "elsewhere").mkdir()
    moved = path.rename(tmp_path / "elsewhere" / "b.txt")
    assert Corpus(moved).fingerprint == Corpus([str(moved)]).fingerprint == first
    assert Corpus(moved, CorpusOptions(unit="line")).fingerprint != first
    assert Corpus(moved, CorpusOptions(drop_phrases=["x"])).fingerprint != first
    assert Corpus(moved, valid=moved).fingerprint != first
    assert Corpus(moved, valid=moved).fingerprint != Corpus(moved, test=moved).fingerprint
    assert Corpus([moved, moved]).fingerprint != first
    # The name sets the format.
    renamed = moved.rename(tmp_path / "b.csv")
    assert Corpus(renamed).fingerprint != first
    renamed.write_text(renamed.read_text("utf-8").replace("299", "298"), "utf-8")
    back = renamed.rename(tmp_path / "a.txt")
    assert Corpus(back).fingerprint != first


SENTENCE = r"a\.txt changed while it was read: start again\."


@pytest.mark.parametrize("line", ["same text, same length", "a text of another length"])
def test_a_file_that_changes_between_two_passes_is_refused(tmp_path, line):
    path = tmp_path / "a.txt"
    path.write_text("some text, same length\n" * 300, "utf-8")
    os.utime(path, (1, 1))
    corpus = Corpus(path, CorpusOptions(unit="line"))
    path.write_text(f"{line}\n" * 300, "utf-8")
    with pytest.raises(CorpusError, match=SENTENCE):
        corpus.scan()


@pytest.mark.parametrize("unit", ["line", "file"])
def test_a_file_that_changes_during_a_pass_is_refused(tmp_path, unit, monkeypatch):
    monkeypatch.setattr(plain_text, "STRETCH", 1000)
    path = write_lines(tmp_path / "a.txt", 30_000)
    corpus = Corpus(path, CorpusOptions(unit=unit))
    corpus.scan()
    pieces = corpus.pieces("train")
    next(pieces)
    with path.open("r+b") as file:  # in place, no byte more or less
        file.seek(path.stat().st_size // 2)
        file.write(b"x")
    with pytest.raises(CorpusError, match=SENTENCE):
        list(pieces)


def test_a_file_is_said_to_have_changed_rather_than_to_be_broken(tmp_path):
    path = tmp_path / "a.json"
    records = [{"text": f"a record of some length, number {n}"} for n in range(50_000)]
    path.write_text(json.dumps(records), "utf-8")
    corpus = Corpus(path)
    corpus.scan()
    pieces = corpus.pieces("train")
    next(pieces)
    path.write_text(json.dumps(records)[:2_000_000] + "]", "utf-8")
    with pytest.raises(CorpusError, match=r"a\.json changed while it was read"):
        list(pieces)


def test_a_file_that_is_replaced_by_another_as_old_and_as_long_is_refused(tmp_path):
    path = write_lines(tmp_path / "a.txt", 300)
    corpus = Corpus(path, CorpusOptions(unit="line"))
    (other := tmp_path / "other").write_bytes(path.read_bytes().swapcase())
    os.utime(other, ns=(0, path.stat().st_mtime_ns))
    other.replace(path)
    with pytest.raises(CorpusError, match=SENTENCE):
        corpus.scan()


def test_a_file_that_is_only_touched_or_copied_over_is_read_on(tmp_path):
    path = write_lines(tmp_path / "a.txt", 300)
    corpus = Corpus(path, CorpusOptions(unit="line"))
    os.utime(path, (1, 1))
    assert corpus.scan().documents == 300
    (copy := tmp_path / "copy").write_bytes(path.read_bytes())
    copy.replace(path)
    assert list(corpus.documents("train"))


def test_a_file_that_changes_after_a_pass_that_stopped_early_is_refused_when_asked(tmp_path):
    path = write_lines(tmp_path / "a.txt", 300)
    corpus = Corpus(path, CorpusOptions(unit="line"))
    next(corpus.documents("train"))
    corpus.refuse_changed()
    write_lines(path, 299)
    with pytest.raises(CorpusError, match=SENTENCE):
        corpus.refuse_changed()
    path.unlink()
    with pytest.raises(CorpusError, match="cannot be read"):
        corpus.refuse_changed()


def test_the_summary_goes_into_json_and_progress_reaches_the_end(tmp_path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"one\ntwo\n" * 200))
    corpus = Corpus(path, CorpusOptions(unit="line"))
    seen: list[tuple[int, int]] = []
    summary = corpus.scan(lambda done, total: seen.append((done, total)))
    size = path.stat().st_size
    assert seen[-1] == (size, size)
    assert corpus.scan() is summary
    written = json.loads(json.dumps(summary.to_json()))
    assert written["documents"] == 400 - written["dropped"].get("also in training", 0)
    assert written["duplicates"] == written["documents"] - 2
    assert written["files"][0]["bytes"] == size
    assert written["files"][0]["path"] == str(path)
    assert written["fingerprint"] == corpus.fingerprint
    assert written["template"] == "{text}"
    assert written["options"]["unit"] == "line"
    assert "train_hashes" not in written


@pytest.mark.corpora
def test_the_recipes_are_those_of_their_description(corpora):
    options = CorpusOptions(template="Recipe for {title} | {directions}")
    summary = Corpus(corpora / "epicurious_recipes.json.gz", options).scan()
    assert (summary.documents, summary.duplicates) == (18_691, 45)
    assert summary.dropped == {"no directions": 13}
    prefix = len("Recipe for ")
    assert round(summary.characters - prefix * 18_691, -5) == 17_100_000


@pytest.mark.corpora
def test_the_wine_reviews_are_those_of_their_description(corpora):
    template = "wine review : {country} : {province} : {variety} : {description}"
    path = corpora / "winemag-data-130k-v2_first10001.csv.gz"
    summary = Corpus(path, CorpusOptions(template=template)).scan()
    assert (summary.documents, summary.dropped) == (9_996, {"no country": 5})


@pytest.mark.corpora
def test_the_novel_is_split_by_position_to_the_character(corpora):
    corpus = Corpus(corpora / "nietzsche.txt")
    text = (corpora / "nietzsche.txt").read_text("utf-8")
    assert [next(corpus.documents(part)) for part in PARTS] == [
        text[: int(0.90 * len(text))],
        text[int(0.90 * len(text)) : int(0.95 * len(text))],
        text[int(0.95 * len(text)) :],
    ]
