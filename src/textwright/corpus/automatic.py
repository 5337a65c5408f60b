"""Options of a corpus that are left to be chosen → those that suit what its files hold.

Only a sample is read, so a large file takes no longer than a small one. Each choice comes with a
line that says what was chosen and how to change it.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import islice

from textwright.corpus.columns import columns_of, text_column, title_column
from textwright.corpus.documents import CorpusOptions, Template
from textwright.corpus.json_values import Record
from textwright.corpus.lines import why_running
from textwright.corpus.plain_text import Stretches
from textwright.corpus.readers import read_records
from textwright.corpus.sources import SourceFile
from textwright.errors import CorpusError

_RECORDS = 1000  # of a table
_CHARACTERS = 4_000_000  # of these records together, where they are long
_PLACES = 16  # in plain text, a stretch apart, or each in a file of its own
_PLACE = 1 << 16  # characters read at each place: enough lines to judge by


def choose_options(
    options: CorpusOptions, files: Sequence[SourceFile], like: CorpusOptions | None = None
) -> tuple[CorpusOptions, list[str]]:
    """The options with a template and a unit for each that is `auto`, and a line about each choice.

    like: options of the run whose weights a training begins from; its template and unit are kept
    if the files can have them. Raises CorpusError where no column of a table holds text.
    """
    texts = [file for file in files if file.format == "text"]
    template, unit = options.template, str(options.unit)
    said = []
    if unit == "auto":
        unit, line = _choose_unit(texts, options, like)
        said.append(line)
    if template == "auto":
        template, line = ("", "") if texts else _choose_template(files, options, like)
        said.append(line)
    chosen = options.model_copy(update={"template": template, "unit": unit})
    return chosen, [line for line in said if line]


def refuse_columns(file: SourceFile, columns: Sequence[str], why: str = "") -> CorpusError:
    """The error for a table whose text has to be named."""
    example = ": ".join(f"{{{name}}}" for name in columns[:2])
    return CorpusError(
        f"{file.path} has the columns {', '.join(columns)}{why}: name the one that holds the text "
        f"with --text COLUMN, or several with --template '{example}'."
    )


# The text of a table


def _choose_template(
    files: Sequence[SourceFile], options: CorpusOptions, like: CorpusOptions | None
) -> tuple[str, str]:
    records = _sample_records(files, options)
    columns = columns_of(records)
    if not columns:
        return "", ""
    if like and like.template and set(Template(like.template).fields) <= {*columns}:
        return like.template, (
            f"Template: {like.template}, as in the run that training begins from. Choose another "
            "with --text COLUMN or --template TEMPLATE."
        )
    if len(columns) == 1:
        return "{" + columns[0] + "}", ""
    text = "text" if "text" in columns else text_column(records)
    if len(records) == 1 and text and text != "text":
        lengths = {name: len(str(value)) for name, value in records[0].items()}
        if 2 * lengths[text] < sum(lengths.values()):
            raise CorpusError(
                f"{files[0].path} holds one record with {len(columns)} texts: make it a list of "
                "them, or name the one to read with --text COLUMN."
            )
    if text is None:
        raise refuse_columns(files[0], columns, ", none of which seems to hold text")
    title = title_column(records, text)
    return "{" + text + "}", (
        f"Text column: {text} (of {len(columns)} columns). Choose another with --text COLUMN or "
        f"--template '{{{title}}}: {{{text}}}'."
    )


def _sample_records(files: Sequence[SourceFile], options: CorpusOptions) -> list[Record]:
    sample, characters = [], 0
    for record in islice(_records(files, options), _RECORDS):
        sample.append(record)
        characters += sum(len(str(value)) for value in record.values())
        if characters > _CHARACTERS:
            break
    return sample


def _records(files: Sequence[SourceFile], options: CorpusOptions) -> Iterator[Record]:
    for file in files:
        yield from read_records(file, encoding=options.encoding)


# The unit of plain text


def _choose_unit(
    texts: Sequence[SourceFile], options: CorpusOptions, like: CorpusOptions | None
) -> tuple[str, str]:
    if not texts:
        return "file", ""
    if like and not like.template:  # that run was trained on plain text too
        return like.unit, (
            f"Documents: one a {like.unit}, as in the run that training begins from. Change with "
            "--unit."
        )
    read = texts[:: math.ceil(len(texts) / _PLACES)]
    reason = why_running([_sample_lines(file, options, _PLACES // len(read)) for file in read])
    if reason:
        return "file", (
            f"Documents: one a file (running text: {reason}). Change with --unit line or --unit "
            "block."
        )
    return "line", "Documents: one a line (a list of short lines). Change with --unit file."


def _sample_lines(file: SourceFile, options: CorpusOptions, most: int) -> list[str]:
    """Whole lines from up to so many places of a plain text."""
    lines: list[str] = []
    records = read_records(file, encoding=options.encoding, unit="file")
    text = next(records)["text"]
    places = text if isinstance(text, Stretches) else [text]
    for at, place in enumerate(islice(places, most)):
        found = place[:_PLACE].split("\n")
        # The first line may have begun, and the last one may end, elsewhere.
        lines += found[at > 0 : -1 if len(place) > _PLACE else None]
    while lines and not lines[-1].strip():
        lines.pop()
    return lines
