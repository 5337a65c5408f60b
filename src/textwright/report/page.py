"""A page of results: titled sections of paragraphs, tables, figures and texts, as HTML or Markdown.

The HTML is one file that asks the network for nothing, reads in light and dark, on a phone, on
paper and by keyboard. A section is a title and a list of blocks, each of which shows itself in
both forms; `templates/` holds the frame and the style that all pages share.
"""

from __future__ import annotations

import errno
import html
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from textwright import __version__
from textwright.errors import ReportError
from textwright.files import write_text

FORMS = (".html", ".md")
SENTENCE = 40  # characters; a column with longer cells needs room on a phone too
NAME = 14  # characters; a longer name of a row may be broken
NUMBER, PROSE = ' class="number"', ' class="prose"'
_NUMBER = re.compile(r"([-+−±]?[\d.,]+( ?%| ?[kMG]?B|×)?(?: to |$| (?=\()))+(\([^()]*\))?|[–—]|")
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|#])")


class Block(Protocol):
    """Something on a page."""

    def html(self) -> str:
        """It in HTML, with what comes from users escaped."""

    def markdown(self) -> str:
        """It in Markdown, without a line break at its end."""


@dataclass(frozen=True)
class Paragraph:
    """Plain text."""

    text: str

    def html(self) -> str:
        return f"<p>{html.escape(self.text)}</p>"

    def markdown(self) -> str:
        return in_markdown(self.text)


@dataclass(frozen=True)
class Heading:
    """The title of a part of a section."""

    text: str

    def html(self) -> str:
        return f"<h3>{html.escape(self.text)}</h3>"

    def markdown(self) -> str:
        return f"### {in_markdown(self.text)}"


@dataclass(frozen=True)
class Table:
    """A table of texts; the first cell of a row names it. Columns of numbers stand to the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    def html(self) -> str:
        kinds = self._kinds()
        head = "".join(
            f'<th scope="col"{kind}>{html.escape(name)}</th>' if name else "<td></td>"
            for name, kind in zip(self.columns, kinds, strict=True)
        )
        body = ""
        for name, *cells in self.rows:
            long = ' class="long"' if len(name) > NAME else ""
            body += f'<tr><th scope="row"{long}>{html.escape(name)}</th>'
            for cell, kind in zip(cells, kinds[1:], strict=True):
                body += f"<td{kind}>{html.escape(cell)}</td>"
            body += "</tr>\n"
        # Not a <caption>, which a wide table on a narrow page would stretch with it.
        caption = f'<p class="caption">{html.escape(self.caption)}</p>' if self.caption else ""
        label = html.escape(self.caption or "Table", quote=True)
        return (
            f'{caption}<div class="scroll" role="group" tabindex="0" aria-label="{label}"><table>'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>"
        )

    def markdown(self) -> str:
        rule = ["---:" if kind == NUMBER else "---" for kind in self._kinds()]
        lines = [self.columns, rule, *self.rows]
        table = "\n".join(
            f"| {' | '.join(cells if cells is rule else map(_cell, cells))} |" for cells in lines
        )
        return f"{in_markdown(self.caption)}\n\n{table}" if self.caption else table

    def _kinds(self) -> list[str]:
        """The attribute of each column: NUMBER where all its cells are numbers or empty, PROSE
        where one is a sentence; the first has none."""
        kinds = []
        for at, column in enumerate(zip(*self.rows, strict=True) if self.rows else self.columns):
            numeric = any(column) and all(_NUMBER.fullmatch(cell) for cell in column)
            long = max(map(len, column)) > SENTENCE
            kinds.append("" if not at else NUMBER if numeric else PROSE if long else "")
        return kinds


@dataclass(frozen=True)
class Figure:
    """A drawing, as HTML that holds inline SVG (see charts.py).

    words: what a reader without the drawing is told in its place.
    """

    drawing: str
    caption: str = ""
    words: str = ""

    def html(self) -> str:
        caption = f"<figcaption>{html.escape(self.caption)}</figcaption>" if self.caption else ""
        return f"<figure>{self.drawing}{caption}</figure>"

    def markdown(self) -> str:
        return "\n\n".join(in_markdown(text) for text in (self.caption, self.words) if text)


@dataclass(frozen=True)
class Excerpt:
    """A text with its heading. given: the prompt before it, shown quietly."""

    heading: str
    text: str
    given: str = ""


@dataclass(frozen=True)
class Excerpts:
    """Texts side by side."""

    texts: Sequence[Excerpt]

    def html(self) -> str:
        articles = "\n".join(
            f"<article><h3>{html.escape(text.heading)}</h3>"
            f'<p><span class="given">{html.escape(text.given)}</span>{html.escape(text.text)}</p>'
            "</article>"
            for text in self.texts
        )
        return f'<div class="excerpts">{articles}</div>'

    def markdown(self) -> str:
        return "\n\n".join(
            f"**{in_markdown(text.heading)}**\n\n" + _quoted(text.given + text.text)
            for text in self.texts
        )


@dataclass(frozen=True)
class Html:
    """HTML made elsewhere, which Markdown does without."""

    source: str

    def html(self) -> str:
        return self.source

    def markdown(self) -> str:
        return ""


@dataclass(frozen=True)
class Section:
    """A titled part of a page."""

    title: str
    blocks: Sequence[Block] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        """What links to the section name."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-") or "section"


def write_page(title: str, sections: Sequence[Section], path: Path, lead: str = "") -> None:
    """Write sections as one file, in HTML or, where the name ends in .md, in Markdown.

    lead: a sentence below the title. Raises ReportError if the file cannot be written.
    """
    check_writable(path)
    text = render_markdown if path.suffix == ".md" else render_html
    try:
        write_text(path, text(title, sections, lead))
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else error.strerror or str(error)
        raise ReportError(f"Cannot write {path}: {reason}; name another file.") from None


def check_writable(path: Path) -> None:
    """Raise ReportError if a page cannot have this name, before the work for it begins."""
    if path.suffix not in FORMS:
        raise ReportError(f"{path} should end in .html or .md, which says what is written.")
    if path.is_dir():
        raise ReportError(f"{path} is a folder; name a file for the page.")
    beside = next(folder for folder in path.absolute().parents if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=beside):
            pass
    except OSError as error:
        raise ReportError(
            f"Cannot write to {beside}: {error.strerror or error}; name another place for the page."
        ) from None
    if path.suffix == ".html":
        _environment()


def render_html(title: str, sections: Sequence[Section], lead: str = "") -> str:
    """The page as HTML. Raises ReportError if jinja2 (`textwright[report]`) is not installed."""
    template = _environment().get_template("page.html")
    return template.render(title=title, sections=sections, lead=lead, version=__version__)


def render_markdown(title: str, sections: Sequence[Section], lead: str = "") -> str:
    """The page as Markdown."""
    parts = [f"# {in_markdown(title)}", in_markdown(lead)]
    for section in sections:
        parts += [f"## {in_markdown(section.title)}", *(b.markdown() for b in section.blocks)]
    return "\n\n".join(part for part in parts if part) + "\n"


def in_markdown(text: str) -> str:
    """Plain text with the signs that Markdown would take for its own escaped."""
    return _MARKDOWN.sub(r"\\\1", text)


def _environment() -> Any:
    try:
        import jinja2
    except ImportError:
        raise ReportError(
            "An HTML page needs jinja2; install it with: pip install 'textwright[report]'"
        ) from None
    return jinja2.Environment(
        loader=jinja2.PackageLoader("textwright.report"),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def _cell(text: str) -> str:
    return in_markdown(text).replace("\n", " ")


def _quoted(text: str) -> str:
    return "\n".join(f"> {in_markdown(line)}".rstrip() for line in text.splitlines() or [""])
