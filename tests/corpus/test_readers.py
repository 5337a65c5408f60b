"""Files of every format → raw records, and a sentence for every file that cannot be read."""

import csv
import gzip
import io
import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from textwright.corpus import json_values, plain_text
from textwright.corpus.plain_text import Stretches
from textwright.corpus.readers import read_records
from textwright.corpus.sources import find_files
from textwright.errors import CorpusError

RECORDS = [
    {"id": "007", "text": "two\nlines, and a comma"},
    {"id": "08", "text": 'a "quote" — naïve 日本語 🍵'},
]


def encode(kind: str, records: list[dict[str, str]] = RECORDS) -> bytes:
    if kind == "json":
        return json.dumps(records, indent=1).encode()
    if kind == "jsonl":
        return "\n".join(json.dumps(record, ensure_ascii=False) for record in records).encode()
    if kind == "parquet":
        sink = io.BytesIO()
        parquet.write_table(pyarrow.Table.from_pylist(records), sink)
        return sink.getvalue()
    sink = io.StringIO(newline="")
    table = csv.DictWriter(sink, records[0], delimiter="\t" if kind == "tsv" else ",")
    table.writeheader()
    table.writerows(records)
    return sink.getvalue().encode()


def read(path: Path, **options) -> list[dict]:
    (file,) = find_files([path], options.pop("format", "auto"))
    records = []
    for record in read_records(file, **options):
        if isinstance(record.get("text"), Stretches):
            record = {"text": "".join(record["text"])}
        records.append(record)
    return records


def refusal(path: Path, content: bytes, **options) -> str:
    path.write_bytes(content)
    with pytest.raises(CorpusError) as refused:
        read(path, **options)
    sentence = str(refused.value)
    assert "\n" not in sentence
    assert path.name in sentence
    return sentence


def test_quotes_of_a_tsv_may_stand_for_themselves(tmp_path):
    spoken = ['"Hi," she said.', '"I am tired.', 'So am I."', 'A 12" record']
    file = tmp_path / "spoken.tsv"
    file.write_text("".join(f"{line}\n" for line in ["id\ttext", *(f"1\t{t}" for t in spoken)]))
    assert [record["text"] for record in read(file)] == spoken
    quoted = tmp_path / "quoted.tsv"
    quoted.write_text('id\ttext\n1\t"Two\nlines, a ""word"" and a\ttab"\n2\t"All of it"\n')
    assert [record["text"] for record in read(quoted)] == [
        'Two\nlines, a "word" and a\ttab',
        "All of it",
    ]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_that_of_the_header(tmp_path, separator):
    file = tmp_path / "table.csv"
    file.write_text(f"id{separator}text\n1{separator}Soup. Bread\n")
    assert read(file) == [{"id": "1", "text": "Soup. Bread"}]


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_every_format_gives_the_values_as_they_were_written(tmp_path, kind, zipped):
    path = tmp_path / (f"data.{kind}" + ".gz" * zipped)
    path.write_bytes(gzip.compress(encode(kind)) if zipped else encode(kind))
    assert read(path) == RECORDS


@pytest.mark.parametrize("kind", ["json", "jsonl", "parquet"])
def test_the_format_is_detected_by_content_where_the_name_has_no_ending(tmp_path, kind):
    path = tmp_path / "data"
    path.write_bytes(gzip.compress(encode(kind)))
    assert read(path) == RECORDS


def test_a_given_format_wins_over_the_name(tmp_path):
    path = tmp_path / "data.txt"
    path.write_bytes(encode("csv"))
    assert read(path, format="csv") == RECORDS


@pytest.mark.parametrize(
    ("unit", "documents"),
    [
        ("file", ["a b\n\nc\n d\n"]),
        ("line", ["a b", "", "c", " d"]),
        ("block", ["a b", "c\n d"]),
    ],
)
def test_plain_text_is_one_document_a_file_line_or_block(tmp_path, unit, documents):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfa b\r\n\r\nc\r\n d\r\n")  # byte-order mark and CRLF
    assert [record["text"] for record in read(path, unit=unit)] == documents


@pytest.mark.parametrize("unit", ["file", "line", "block"])
@pytest.mark.parametrize("text", ["word " * 40 + "end", "x" * 200, "ab\n" * 70 + "c"])
def test_a_long_document_comes_in_stretches_that_join_to_the_whole(
    tmp_path, monkeypatch, unit, text
):
    monkeypatch.setattr(plain_text, "STRETCH", 16)
    path = tmp_path / "a.txt"
    path.write_text(text + "\n\n" + text, encoding="utf-8")
    expected = {
        "file": [text + "\n\n" + text],
        "line": [*text.split("\n"), "", *text.split("\n")],
        "block": [text, text],
    }
    assert [record["text"] for record in read(path, unit=unit)] == expected[unit]
    (file,) = find_files([path])
    for record in read_records(file, unit=unit):
        if isinstance(record["text"], Stretches):
            stretches = list(record["text"])
            assert max(map(len, stretches)) <= 3 * 16
            if " " in text:
                assert all(each.endswith((" ", "\n")) for each in stretches[:-1])


def test_stretches_that_are_not_read_do_not_reach_the_next_document(tmp_path, monkeypatch):
    monkeypatch.setattr(plain_text, "STRETCH", 16)
    path = tmp_path / "a.txt"
    path.write_text("long " * 20 + "\nshort\n", encoding="utf-8")
    (file,) = find_files([path])
    records = read_records(file, unit="line")
    assert isinstance(next(records)["text"], Stretches)
    assert next(records) == {"text": "short"}


@pytest.mark.parametrize("window", [1, 2, 7, 64])
def test_a_json_list_reads_the_same_through_any_window(tmp_path, monkeypatch, window):
    monkeypatch.setattr(json_values, "_WINDOW", window)
    path = tmp_path / "a.json"
    records = [{"n": 1.50, "e": 10**30, "t": 'é\\"\u2028', "l": [1, None]}, {"n": True}] * 3
    path.write_text(json.dumps(records).replace("1.5", "1.50"), encoding="utf-8")
    first = {"n": "1.50", "e": str(10**30), "t": 'é\\"\u2028', "l": ["1", None]}
    assert read(path) == [first, {"n": True}] * 3


@pytest.mark.parametrize("content", ["[]", " [ ] \n", ""])
def test_an_empty_json_file_has_no_records(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    assert read(path) == []


def test_objects_that_follow_each_other_in_a_json_file_are_records(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a":\n "x"}\n{"a": "y"}\n', encoding="utf-8")
    assert read(path) == [{"a": "x"}, {"a": "y"}]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_lists_of_symbols_are_documents(tmp_path, name):
    path = tmp_path / name
    path.write_text(
        '[["C4", "E4", 3], ["rest"]]' if name == "a.json" else '["C4", "E4", 3]\n["rest"]\n',
        encoding="utf-8",
    )
    assert read(path) == [{"text": "C4 E4 3"}, {"text": "rest"}]


@pytest.mark.parametrize("symbol", ['"C 4"', '""', '"a\\n"', '["x"]', "null"])
def test_a_symbol_with_white_space_is_refused(tmp_path, symbol):
    assert "symbol" in refusal(tmp_path / "a.json", f'[["C4", {symbol}]]'.encode())


def test_a_list_of_texts_is_a_list_of_documents(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('["one two", "three"]', encoding="utf-8")
    assert read(path) == [{"text": "one two"}, {"text": "three"}]


def test_a_cell_may_be_long_and_a_short_row_lacks_its_last_cells(tmp_path):
    path = tmp_path / "a.csv"
    long = "word " * 100_000
    path.write_text(f'a,b\n"{long}",x\ny\n', encoding="utf-8")
    assert read(path) == [{"a": long, "b": "x"}, {"a": "y"}]


def test_a_semicolon_separates_where_the_header_has_no_comma(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a;b\n1,5;x\n", encoding="utf-8")
    assert read(path) == [{"a": "1,5", "b": "x"}]


def test_the_separator_is_the_mark_that_the_header_has_most_of(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('id;Titel;"a, b, c, d";Preis, EUR\n1;Suppe;x;2,50\n', "utf-8")
    assert read(path) == [{"id": "1", "Titel": "Suppe", "a, b, c, d": "x", "Preis, EUR": "2,50"}]


def test_a_first_line_may_name_the_separator(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("sep=;\r\na, b, c;d\r\n1;2\r\n", "utf-8")
    assert read(path) == [{"a, b, c": "1", "d": "2"}]
    path.write_text("sep=;\na;d\n1;2\n1;2;3\n", "utf-8")
    with pytest.raises(CorpusError, match=r"Line 4 of .* has 3 cells"):
        read(path)


def test_parquet_values_become_python_values(tmp_path):
    path = tmp_path / "a.parquet"
    rows = [{"l": ["a", "b"], "n": 7, "none": None}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert read(path) == rows
    assert read(path, columns=["n"]) == [{"n": 7}]


@pytest.mark.parametrize(
    ("content", "where", "advice"),
    [
        (b"caf\xe9 noir", "byte 3", "--set corpus.encoding=cp1252"),
        (b"x" * 3_000_000 + b"\xff", "byte 3,000,000", "cp1252"),
        ("日本".encode()[:-1], "byte 3", "encoding"),
        (gzip.compress(b"ab\xe9 ", mtime=0), "byte 2", "cp1252"),
        ("plain".encode("utf-16"), "byte 0", "--set corpus.encoding=utf-16."),
        ("plain".encode("utf-16-le"), "byte 0", "utf-16-le"),
        ("plain".encode("utf-16-be"), "byte 0", "utf-16-be"),
    ],
)
def test_a_wrong_encoding_is_named_with_its_place(tmp_path, content, where, advice):
    sentence = refusal(tmp_path / "a.txt", content)
    assert where in sentence
    assert advice in sentence


@pytest.mark.parametrize("encoding", ["utf-16", "cp1251", "shift_jis"])
def test_another_encoding_can_be_given(tmp_path, encoding):
    text = "日本" if encoding == "shift_jis" else "Привет"
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode(encoding))
    assert read(path, encoding=encoding) == [{"text": text}]


def test_an_encoding_without_the_mark_it_needs_is_refused(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("plain text", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"is not utf-16 .* such as utf-8 or utf-16-le"):
        read(path, encoding="utf-16")


def test_a_table_may_end_without_a_line_feed(tmp_path):
    path = tmp_path / "a.csv"
    for last in ("B,two", 'B,"two"', "B,two\r\n"):
        path.write_bytes(b"title,text\nA,one\n" + last.encode())
        assert read(path) == [{"title": "A", "text": "one"}, {"title": "B", "text": "two"}]
    assert "never closed" in refusal(tmp_path / "b.csv", b'title,text\nA,one\nB,"two')
    path.write_text("title,text")
    assert read(path) == []


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "parquet"])
def test_a_truncated_gzip_is_refused(tmp_path, kind):
    records = [{"text": str(n)} for n in range(9_999)]
    whole = gzip.compress(encode(kind, records))
    assert "cut short" in refusal(tmp_path / f"a.{kind}.gz", whole[: len(whole) // 2])
    assert "damaged" in refusal(tmp_path / f"a.{kind}.gz", whole[:-8] + b"\0" * 8)


def test_a_damaged_gzip_is_refused_where_its_name_does_not_tell_the_format(tmp_path):
    whole = gzip.compress(encode("jsonl") * 999, mtime=0)
    for at, damage in ((10, b"\xff" * 20), (2, b"\0")):  # in what is packed, and before it
        content = whole[:at] + damage + whole[at + len(damage) :]
        assert "damaged or cut short" in refusal(tmp_path / "a", content)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", b'a,b\n1,2\n3,"open\n4,5\n', "line 3"),
        ("a.csv", b"a,b\n1,2,3\n", "3 cells"),
        ("a.json", b'[{"a": 1}, {"a": 2}', "cut short"),
        ("a.json", b'[\n{"a": 1},\n{"a" 2}]' + b" " * 99, "line 3"),
        ("a.json", b'[{"a": 1}]\n[{"a": 2}]', "jsonl"),
        ("a.json", b'[{"a": 1} {"a": 2}]', "comma"),
        ("a.json", b"[" * 100_000, "nests too deeply"),
        ("a.json", b"not json", "line 1"),
        ("a.jsonl", b'{"a": 1}\n{"a": \n', "Line 2"),
        ("a.parquet", b"PAR1 no more", "Parquet"),
        ("a.txt", b"PK\x03\x04 zip", "a zip file: unpack it"),
        ("a.xlsx", b"PK\x03\x04 zip", "a spreadsheet: save its sheet as CSV"),
        ("a.DOCX", b"PK\x03\x04 zip", "word processor: save it as plain text"),
        ("a.rtf", b"{\\rtf1 text}", "save it as plain text"),
        ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1", "older Word or Excel"),
    ],
)
def test_a_damaged_file_is_refused_with_the_place(tmp_path, name, content, reason):
    assert reason in refusal(tmp_path / name, content)


def test_a_missing_column_is_named_beside_those_there_are(tmp_path):
    for kind in ("csv", "tsv", "parquet"):
        sentence = refusal(tmp_path / f"a.{kind}", encode(kind), columns=["txt"])
        assert "no column txt" in sentence
        assert "id, text" in sentence


def test_broken_json_is_refused_before_the_rest_is_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'[{"a": oops}' + b', {"a": 1}' * 400_000 + b"]")
    (file,) = find_files([path])
    seen = []
    with pytest.raises(CorpusError, match="line 1"):
        list(read_records(file, on_read=seen.append))
    assert sum(seen) < path.stat().st_size


def test_progress_counts_the_bytes_on_disk(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(encode("jsonl") * 999))
    (file,) = find_files([path])
    seen: list[int] = []
    records = read_records(file, on_read=seen.append)
    assert next(records) == RECORDS[0]
    records.close()
    assert sum(seen) == file.bytes == path.stat().st_size
