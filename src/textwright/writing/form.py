"""Templates as data: documents written around given fields, and parsed back into fields.

A template such as `{country} : {variety} : {description}` says what stands between the fields, and
a model that was trained with it has learned to write that too. So a document is begun from the
template; where a field is given, its tokens are forced; where it is not, the model writes until it
has written what the template puts after the field.
"""

import re
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from textwright.corpus.documents import Cleaner, CorpusOptions, Template
from textwright.errors import GenerationError
from textwright.tokenizer import Tokenizer
from textwright.tokenizer.treatment import finder
from textwright.writing.generator import Drawn, Generator, TextStream
from textwright.writing.sampling import SamplingOptions, uniforms


class Form:
    """A template as a model knows it: cleaned as its corpus was, seen as its tokenizer sees.

    `fields` are the names, in the order of the template. Raises GenerationError where there is no
    template, or nothing between two fields that the tokenizer keeps.
    """

    def __init__(self, options: CorpusOptions, tokenizer: Tokenizer) -> None:
        if not options.template:
            raise GenerationError(
                "The run was trained without a template, so it has no fields; leave out --field or "
                "--fields."
            )
        template = Template(options.template)
        self._clean = Cleaner(options, template).trim
        self.fields = template.fields
        self.slots = template.slots
        self.literals = [self._clean(literal) for literal in template.literals]
        start, *ends = [finder(literal, tokenizer.treatment) for literal in self.literals]
        for pair, end in zip(pairwise(self.slots), ends, strict=False):
            if end is None:
                raise GenerationError(
                    f"The fields {' and '.join(pair)} cannot be told apart: nothing that the "
                    "tokenizer keeps stands between them in the template."
                )
        self._start = start or re.compile("")
        # The last slot ends with the text, whether or not what the template puts there is written.
        last = ends.pop() or re.compile("")
        self.ends = [*filter(None, ends), re.compile(rf"(?:{last.pattern})?\Z", last.flags)]

    def check(self, given: Mapping[str, str]) -> dict[str, str]:
        """Given values, cleaned. Raises GenerationError where a document could not tell them."""
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
                        f"{literal.strip()!r} after it, so nobody could tell where it ends."
                    )
        return values

    def render(self, values: Mapping[str, str], slot: int = 0) -> tuple[str, int]:
        """A document from this slot on, up to the first whose value is not known, and that slot."""
        text = "" if slot else self.literals[0]
        while slot < len(self.slots) and (name := self.slots[slot]) in values:
            slot += 1
            text += values[name] + self.literals[slot]
        return text, slot

    def parse(self, text: str) -> dict[str, str | None]:
        """The fields of a document; None for one that is empty, or that nothing ends.

        What follows a field without an end is None too, for nobody can say where it begins.
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


class FormStream(TextStream):
    """The events of `num` documents with the given fields, as those of `Generator.stream`.

    Each reads as the template says, so that parsing it gives back what was given. Forced tokens
    are new tokens: they count, and the draws of their places go unused. Raises GenerationError
    where a field cannot be given, or beams are asked for.
    """

    def __init__(
        self,
        generator: Generator,
        form: Form,
        given: Mapping[str, str],
        options: SamplingOptions,
        num: int = 1,
        seed: int = 0,
        logprobs: bool = False,
    ) -> None:
        if options.beams > 1:
            raise GenerationError("Beams cannot be led by fields: give a prompt, or no beams.")
        self._form, self._given = form, form.check(given)
        start, _ = form.render(self._given)
        super().__init__(generator, [start], options, num, seed, logprobs)
        tokenizer = generator.tokenizer
        self._prompt_ids = [_opening(start, tokenizer)]
        self.unknown = [tokenizer.unknown(value) for value in self._given.values()]

    def _drawn(
        self, tokenizer: Tokenizer, options: SamplingOptions, seed: int
    ) -> Iterator["_Filled"]:
        (ids,) = self._prompt_ids
        for k in range(self.num):
            yield _Filled(k, ids, options, tokenizer, uniforms(seed, k), self._form, self._given)


class _Filled(Drawn):
    """A text that follows a form: ids may be certain, and what is shown reads as the template."""

    def __init__(
        self,
        sample: int,
        prompt_ids: list[int],
        options: SamplingOptions,
        tokenizer: Tokenizer,
        draws: np.random.Generator,
        form: Form,
        given: Mapping[str, str],
    ) -> None:
        super().__init__(sample, 0, prompt_ids, options, tokenizer, draws=draws)
        self._tokenizer = tokenizer
        self._form = form
        self._values = dict(given)
        self._forced: deque[int] = deque()  # the ids that come next, whatever the model says
        _, self._slot = form.render(given)  # where the model writes
        self._written = ""  # what it has written there that is not shown
        self._begun = False  # whether some of it is shown
        self._certain = False  # whether the last id was forced

    def choose(self, logits: NDArray[np.float32]) -> int:
        """The next id, given its logits (V,)."""
        if not self._forced:
            return super().choose(logits)
        self._draws.random()  # the draw of this place, so that others keep theirs
        return self._forced[0]

    def _decode(self, new_id: int) -> str:
        text = super()._decode(new_id)
        self._certain = bool(self._forced)
        if self._certain:
            self._forced.popleft()
            return ""  # shown already
        self._written += text
        if self._slot == len(self._form.slots) - 1:
            return self._show()
        end = self._form.ends[self._slot].search(self._written)
        return self._go_on(end) if end else ""

    def _decode_rest(self) -> str:
        rest = super()._decode_rest()  # of a forced id it is shown already
        self._written += "" if self._certain else rest
        return self._show()

    def _show(self) -> str:
        text = self._written if self._begun else self._written.lstrip()
        self._written, self._begun = "", self._begun or bool(text)
        return text

    def _go_on(self, end: re.Match[str]) -> str:
        """From the end of a field to where the model writes next: all that is certain till then."""
        value, rest = self._written[: end.start()].strip(), self._written[end.end() :]
        literal = self._form.literals[self._slot + 1]
        self._values[self._form.slots[self._slot]] = value
        known, self._slot = self._form.render(self._values, self._slot + 1)
        # The token that ended the field may hold more: where a value is given, that goes unheard.
        self._written, self._begun = "" if known else rest, False
        if known:
            gap = literal[len(literal.rstrip()) :]
            known_ids = _opening(("" if end[0].endswith(gap) else gap) + known, self._tokenizer)
            self._forced.extend(known_ids)
        if self._slot == len(self._form.slots):
            self._forced.append(self.stop_id)
        return value + literal + known


def _opening(text: str, tokenizer: Tokenizer) -> list[int]:
    """The ids of a text that a word will follow.

    Byte-level tokens begin a word with the space before it, so a last space is left to the model;
    other white space they cut by what follows.
    """
    if not text[-1:].isspace():
        return tokenizer.encode(text).tolist()
    end = len(text) - text.endswith(" ")
    return [token_id for token_id, start, _ in tokenizer.spans(text + "a") if start < end]
