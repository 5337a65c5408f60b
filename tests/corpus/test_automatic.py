"""What is chosen for a corpus whose template and unit are not given, and what is said about it."""

import csv
import gzip
import json
from pathlib import Path

import pytest

from textwright import grammar
from textwright.corpus import Corpus, CorpusOptions, plain_text
from textwright.errors import CorpusError

NOTES = [*grammar.documents(300, seed=4)]


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return path


def write_table(path: Path, records: list[dict]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, records[0])
        writer.writeheader()
        writer.writerows(records)
    return path


@pytest.fixture
def dishes(tmp_path) -> Path:
    return write_table(
        tmp_path / "dishes.csv",
        [
            {"ID": n, "Dish": f"Dish {chr(97 + n % 26)}{chr(97 + n // 26)}", "Note": t}
            for n, t in enumerate(NOTES)
        ],
    )


def test_a_text_column_is_chosen_and_said_with_the_flags_that_change_it(dishes):
    corpus = Corpus(dishes)
    assert corpus.options == CorpusOptions(template="{Note}", unit="file")
    assert corpus.choices == [
        "Text column: Note (of 3 columns). Choose another with --text COLUMN or --template "
        "'{Dish}: {Note}'."
    ]
    assert set(corpus.documents("valid")) <= {*NOTES}


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.tsv", "a.parquet"])
def test_a_text_column_is_chosen_in_every_kind_of_table(tmp_path, name):
    records = [{"id": str(n), "note": note} for n, note in enumerate(NOTES)]
    path = tmp_path / name
    if name == "a.json":
        path.write_text(json.dumps(records), "utf-8")
    elif name == "a.jsonl":
        write(path, [json.dumps(record) for record in records])
    elif name == "a.tsv":
        write(path, ["id\tnote", *("\t".join(record.values()) for record in records)])
    else:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(records), path)
    assert Corpus(path).options.template == "{note}"


def test_the_only_column_and_plain_strings_need_no_word(tmp_path):
    path = tmp_path / "a.json"
    for items in (NOTES, [{"story": note} for note in NOTES]):
        path.write_text(json.dumps(items), "utf-8")
        assert Corpus(path).choices == []
        assert Corpus(path).options.template in ("{text}", "{story}")


def test_a_table_without_text_is_refused_with_its_columns_and_the_flags(tmp_path):
    path = write_table(tmp_path / "a.csv", [{"ID": n, "Score": n * 1.5} for n in range(300)])
    with pytest.raises(CorpusError, match=r"a\.csv has the columns ID, Score, none of ") as caught:
        Corpus(path)
    assert "--text COLUMN" in str(caught.value)
    assert "--template '{ID}: {Score}'" in str(caught.value)


def test_one_record_of_many_texts_is_refused_in_a_sentence(tmp_path):
    path = tmp_path / "poems.json"
    path.write_text(json.dumps({f"poem {n}": note for n, note in enumerate(NOTES)}), "utf-8")
    with pytest.raises(
        CorpusError, match=r"poems\.json holds one record with 300 texts: make it a"
    ):
        Corpus(path)
    path.write_text(json.dumps({"title": "All notes", "body": " ".join(NOTES)}), "utf-8")
    assert Corpus(path).options.template == "{body}"


def test_a_list_is_read_by_line_and_running_text_by_file(tmp_path):
    listed = Corpus(write(tmp_path / "list.txt", NOTES))
    assert listed.options == CorpusOptions(template="", unit="line")
    (said,) = listed.choices
    assert said == "Documents: one a line (a list of short lines). Change with --unit file."
    assert listed.scan().documents + listed.scan().dropped.get("also in training", 0) == 300
    running = Corpus(write(tmp_path / "novel.txt", " ".join(NOTES).split(", ")))
    assert running.options == CorpusOptions(template="", unit="file")
    (said,) = running.choices
    assert said.startswith("Documents: one a file (running text: lines ")
    assert said.endswith(" Change with --unit line or --unit block.")


def test_what_is_given_is_kept_and_nothing_is_said(tmp_path, dishes):
    path = write(tmp_path / "list.txt", NOTES)
    for unit in ("file", "line", "block"):
        corpus = Corpus(path, CorpusOptions(unit=unit))
        assert (corpus.options.unit, corpus.choices) == (unit, [])
    given = CorpusOptions(template="{Dish} | {Note}")
    corpus = Corpus(dishes, given)
    assert (corpus.options.template, corpus.choices) == (given.template, [])
    write_table(dishes, [{"ID": n, "text": note} for n, note in enumerate(NOTES)])
    before = CorpusOptions(template="", unit="file")  # as runs of older versions keep it
    corpus = Corpus(dishes, before)
    assert (corpus.options, corpus.choices) == (before, [])
    assert {*corpus.documents("test")} <= {*NOTES}


def test_a_chosen_option_gives_the_same_corpus_as_the_option_given(tmp_path, dishes):
    path = write(tmp_path / "list.txt", NOTES)
    for source in (path, dishes):
        chosen = Corpus(source)
        again = Corpus(source, chosen.options)
        assert again.fingerprint == chosen.fingerprint
        assert list(again.documents("test")) == list(chosen.documents("test"))
        assert again.choices == []


def test_of_several_texts_one_that_runs_on_makes_them_all_files(tmp_path):
    write(tmp_path / "a.txt", NOTES)
    write(tmp_path / "b.txt", NOTES[::-1])
    assert Corpus(tmp_path).options.unit == "line"
    write(tmp_path / "c.txt", " ".join(NOTES).split(", "))
    assert Corpus(tmp_path).options.unit == "file"


def test_a_list_that_goes_over_into_a_novel_is_no_list(tmp_path, monkeypatch):
    monkeypatch.setattr(plain_text, "STRETCH", 20_000)
    monkeypatch.setattr("textwright.corpus.automatic._PLACE", 10_000)
    names = [" ".join(note.split()[:2]).title().strip(".,") for note in NOTES] * 3
    assert Corpus(write(tmp_path / "names.txt", names)).options.unit == "line"
    path = write(tmp_path / "both.txt", [*names, *" ".join(NOTES * 9).split(", ")])
    assert Corpus(path).options.unit == "file"


def test_a_gzipped_list_in_another_encoding_is_seen_as_a_list(tmp_path):
    path = tmp_path / "list.txt.gz"
    path.write_bytes(gzip.compress("\r\n".join(f"{note} Olé." for note in NOTES).encode("cp1252")))
    assert Corpus(path, CorpusOptions(encoding="cp1252")).options.unit == "line"


def test_text_beside_tables_is_taken_as_it_is(tmp_path, dishes):
    write(tmp_path / "a.txt", NOTES)
    assert Corpus(tmp_path / "a.txt", valid=dishes).options.template == ""
    write_table(dishes, [{"ID": n, "text": note} for n, note in enumerate(NOTES)])
    assert Corpus(tmp_path).options == CorpusOptions(template="", unit="line")


def test_a_run_to_begin_from_gives_its_template_and_unit_where_they_fit(tmp_path, dishes):
    formed = CorpusOptions(template="{Dish} | {Note}", unit="file")
    corpus = Corpus(dishes, like=formed)
    assert corpus.options == formed
    assert corpus.choices[0].startswith("Template: {Dish} | {Note}, as in the run that training ")
    path = write(tmp_path / "list.txt", NOTES)
    assert Corpus(path, like=formed).options == CorpusOptions(template="", unit="line")
    blocks = CorpusOptions(template="", unit="block")
    assert Corpus(path, like=blocks).options == blocks
    assert Corpus(dishes, like=blocks).options.template == "{Note}"
    assert Corpus(path, CorpusOptions(unit="line"), like=blocks).options.unit == "line"


@pytest.mark.corpora
@pytest.mark.parametrize(
    ("name", "template", "title"),
    [
        ("anime_synopses.csv.gz", "{sypnopsis}", "{Name}"),
        ("epicurious_recipes.json.gz", "{directions}", "{title}"),
        ("winemag-data-130k-v2_first10001.csv.gz", "{description}", "{title}"),
        ("nietzsche.txt", "", ""),
        ("tinyshakespeare.txt", "", ""),
    ],
)
def test_the_real_corpora_are_understood(corpora, name, template, title):
    corpus = Corpus(corpora / name)
    assert corpus.options == CorpusOptions(template=template, unit="file")
    (said,) = corpus.choices
    assert title + ": " + template in said
