"""Templates as data: documents written around given fields, and parsed back into fields.

A template such as `{country} : {variety} : {description}` names the fields and the separators
between them, and a model that was trained with it writes the separators too. So a document begins
as the template does. The tokens of a given field are forced; any other field is written by the
model, until it writes the separator that the template puts after the field.
"""

import re
from collections import deque
from collections.abc import Mapping
from functools import partial
from itertools import pairwise

from textwright.corpus.documents import Cleaner, CorpusOptions, Template
from textwright.errors import GenerationError
from textwright.tokenizer import Tokenizer
from textwright.tokenizer.treatment import finder
from textwright.writing.prompt import Prompt
from textwright.writing.text import overlap


class Form:
    """A template as the model has learned it: cleaned as its corpus was, read by its tokenizer.

    `fields` are the names, in the order of the template. Raises GenerationError where there is no
    template, or where the tokenizer keeps nothing of what stands between two fields.
    """

    def __init__(self, options: CorpusOptions, tokenizer: Tokenizer) -> None:
        if not options.template:
            raise GenerationError(
                "The run was trained without a template, so it has no fields: leave them out."
            )
        template = Template(options.template)
        self.stop_id = tokenizer.stop_id
        # Whether tokens spell the separators of the template, letter by letter.
        self.spells = tokenizer.kind in ("char", "bpe") and not tokenizer.treatment.lowercase
        self._tokenizer = tokenizer
        self._clean = Cleaner(options, template).trim
        self.fields = template.fields
        self.slots = template.slots
        self.literals = [self._clean(literal) for literal in template.literals]
        start, *ends = [finder(literal, tokenizer.treatment) for literal in self.literals]
        for pair, end in zip(pairwise(self.slots), ends, strict=False):
            if end is None:
                raise GenerationError(
                    f"The fields {' and '.join(pair)} cannot be separated: the tokenizer keeps "
                    "nothing of what stands between them in the template."
                )
        self._start = start or re.compile("")
        # The last slot ends with the text, whether or not what the template puts there is written.
        last = ends.pop() or re.compile("")
        self.ends = [*filter(None, ends), re.compile(rf"(?:{last.pattern})?\Z", last.flags)]

    def check(self, given: Mapping[str, str]) -> dict[str, str]:
        """The given values, cleaned.

        Raises GenerationError for an unknown or empty field, for a value that contains the
        separator after it, and where no field is left to the model.
        """
        values = {}
        for name, value in given.items():
            if name not in self.fields:
                raise GenerationError(
                    f"There is no field {name!r}: the template has {', '.join(self.fields)}."
                )
            values[name] = self._clean(value).strip()
            if not values[name]:
                raise GenerationError(
                    f"The field {name} is empty: give it a value, or leave it to the model."
                )
        if len(values) == len(self.fields):
            raise GenerationError("Every field is given: leave one for the model to write.")
        for name, literal, end in zip(self.slots, self.literals[1:], self.ends[:-1], strict=False):
            if name in values:
                value = values[name]
                found = end.search(value + literal)
                if found is None or found.start() < len(value):
                    raise GenerationError(
                        f"The field {name} cannot be {value!r}: the template puts "
                        f"{literal.strip()!r} after it, so its end could not be found."
                    )
        return values

    def render(self, values: Mapping[str, str], slot: int = 0) -> tuple[str, int]:
        """The document from this slot to the first one without a value, and that slot's number."""
        text = "" if slot else self.literals[0]
        while slot < len(self.slots) and (name := self.slots[slot]) in values:
            slot += 1
            text += values[name] + self.literals[slot]
        return text, slot

    @property
    def kind(self) -> str:
        """The tokenizer's kind."""
        return self._tokenizer.kind

    def gap(self, slot: int) -> str:
        """The white space at the end of what follows a slot."""
        literal = self.literals[slot + 1]
        return literal[len(literal.rstrip()) :]

    def encode(self, text: str) -> list[int]:
        """The ids of a text that a word will follow.

        Byte-level tokens begin a word with the space before it, or with a tab as Llama 3 cuts, so
        a last one is left to the model. How they cut other white space depends on what follows.
        """
        if not text[-1:].isspace():
            return self._tokenizer.encode(text).tolist()
        last = len(text) - text.endswith(" ")
        spans = self._tokenizer.spans(text + "a")
        return [token_id for token_id, start, end in spans if start < last and end <= len(text)]

    def prompt(self, given: Mapping[str, str]) -> Prompt:
        """What a document with these fields begins with, and the guide to the rest of it.

        Forced tokens are new tokens: they count as such, and the draws of their places are not
        used. Raises GenerationError where a field cannot be given.
        """
        values = self.check(given)
        start, _ = self.render(values)
        unknown = [word for value in values.values() for word in self._tokenizer.unknown(value)]
        return Prompt(start, self.encode(start), unknown, partial(Filler, self, values))

    def parse(self, text: str) -> dict[str, str | None]:
        """The fields of a document; None for one that is empty or has no end.

        All fields after one without an end are None too, because their beginnings are unknown.
        """
        values: dict[str, str | None] = dict.fromkeys(self.fields)
        before = self._start.match(text)
        for name, end in zip(self.slots, self.ends, strict=True):
            if before is None:
                break
            after = end.search(text, before.end())
            if after and not values[name]:
                values[name] = text[before.end() : after.start()].strip() or None
            before = after
        return values


class Filler:
    """Guides one text along a form: given fields are forced, the others are the model's.

    What is shown reads as the template does. Given values are those that `Form.check` returned.
    """

    def __init__(self, form: Form, given: Mapping[str, str]) -> None:
        self._form = form
        self._values = dict(given)
        self._forced: deque[int] = deque()
        _, self._slot = form.render(given)  # where the model writes
        self._last = max((slot for slot, name in enumerate(form.slots) if name in given), default=0)
        self._written = ""  # what it has written there that is not shown
        self._value = ""  # and what is
        self._given = ""  # what the forced ids stand for that is not shown
        self._begun = False  # whether some of it is shown
        self._certain = False  # whether the last id was forced

    def forced_id(self) -> int | None:
        """The next id of a given field, of what stands around it, or of the end of the form."""
        return self._forced[0] if self._forced else None

    @property
    def waits(self) -> bool:
        """Whether a given field has yet to come."""
        return self._slot < self._last

    def push(self, text: str) -> str:
        """Show what is certain of a field, and what its ending token and forced ids stand for.

        The last field, which nothing follows, is shown as it comes.
        """
        self._certain = bool(self._forced)
        if self._certain:
            self._forced.popleft()
            return self._show_given(len(text))
        self._written += text
        if self._slot == len(self._form.slots) - 1:
            return self._show()
        end = self._form.ends[self._slot].search(self._written)
        return self._show_field() if end is None or self._is_open(end) else self._go_on(end)

    def flush(self, text: str) -> str:
        """Show what the model has written of a field that did not end."""
        self._written += "" if self._certain else text  # what a forced id stands for is given
        return self._show()

    def _is_open(self, end: re.Match[str]) -> bool:
        """Whether what comes may still show that a separator is none, as in 10:30: the white space
        at its end is missing. It is waited for, unless it may be a part of a given value's token.
        """
        form = self._form
        if form.kind not in ("char", "bpe") or end.end() < len(self._written):
            return False
        given = form.slots[self._slot + 1] in self._values
        return not end[0].endswith(form.gap(self._slot)) and (form.kind == "char" or not given)

    def _show_field(self) -> str:
        """What can be no part of the separator. Words are shown when the field has ended."""
        form, text = self._form, self._written
        if not form.spells:
            return ""
        held = overlap(text, form.literals[self._slot + 1])
        certain = text[: len(text) - held].rstrip()
        self._written = text[len(certain) :]
        shown = certain if self._begun else certain.lstrip()
        self._value += shown
        self._begun = self._begun or bool(shown)
        return shown

    def _show_given(self, count: int) -> str:
        """So many characters of what is given, or the rest with the last of its ids."""
        if not self._forced or self._forced[0] == self._form.stop_id:
            count = len(self._given)
        shown, self._given = self._given[:count], self._given[count:]
        return shown

    def _show(self) -> str:
        text = self._written if self._begun else self._written.lstrip()
        self._written, self._begun = "", self._begun or bool(text)
        return text

    def _go_on(self, end: re.Match[str]) -> str:
        """Go from the end of a field to where the model writes next; return what the token that
        ended the field stands for."""
        form = self._form
        left, rest = self._written[: end.start()].rstrip(), self._written[end.end() :]
        left = left if self._begun else left.lstrip()
        literal, gap = form.literals[self._slot + 1], form.gap(self._slot)
        self._values[form.slots[self._slot]] = self._value + left
        known, self._slot = form.render(self._values, self._slot + 1)
        # The token that ended the field may hold more text. A given value replaces that text.
        self._written, self._value, self._begun = "" if known else rest, "", False
        if known:
            missing = "" if end[0].endswith(gap) else gap
            literal = literal[: len(literal) - len(missing)]
            self._given = missing + known
            self._forced.extend(form.encode(self._given))
        if self._slot == len(form.slots):
            self._forced.append(form.stop_id)
        return left + literal + self._show_given(0)
