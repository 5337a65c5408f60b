"""Models side by side on one held-out text: bits per character with intervals, paired differences,
what easy looks like, speed, size, diversity, adherence to fields, and texts from equal prompts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from functools import partial
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np

from textwright.comparison.completions import CompletionServer
from textwright.comparison.easy import measure_easy
from textwright.comparison.run_subject import RunSubject
from textwright.comparison.subjects import Measured, Subject, Writing, Written
from textwright.corpus import FEW_DOCUMENTS, CorpusOptions
from textwright.errors import EvaluationError, GenerationError
from textwright.evaluation.adherence import Adherence, adherence
from textwright.evaluation.diversity import Diversity, measure_diversity, word_spans
from textwright.evaluation.held_out import HeldOutText, choose_text, evenly_spaced
from textwright.evaluation.kept import NOTHING_KEPT, KeptResults
from textwright.evaluation.scores import BLOCK_CHARACTERS, RESAMPLES, caution, redrawn_interval
from textwright.progress import OnStage, silent
from textwright.run import Run
from textwright.wording import counted
from textwright.writing.form import Form

PROMPT_WORDS = 5
PROMPT_CHARACTERS = 40  # that so many words take, about
SHOWN = 4  # of the texts that are written, unless prompts are named
_SPACE = re.compile(r"\s")
Interval = tuple[float, float]


@dataclass(frozen=True)
class Score:
    """Bits per character and per byte of the held-out text · interval: 95 % of resampled bits per
    character · bytes_charged: of the documents that were paid for, checked to be the text's."""

    bits_per_character: float
    bits_per_byte: float
    interval: Interval
    tokens: int
    bytes_charged: int

    @classmethod
    def of(cls, measured: Measured) -> Score:
        bits, characters = measured.units()
        charged = int(measured.text.bytes.sum())
        return cls(
            float(bits.sum() / max(1.0, characters.sum())),
            float(bits.sum() / max(1, charged)),
            redrawn_interval(bits, characters),
            measured.tokens,
            charged,
        )


@dataclass(frozen=True)
class Model:
    """One model of a comparison.

    context, remarks: see `Subject` · written: what speed and diversity are measured on · texts: one
    for each prompt of the comparison · copying: shares of new 8-token sequences, as its training
    measured them, if it did · curve: (minutes of training, held-out bits per character).
    """

    name: str
    kind: str
    score: Score
    context: str
    remarks: list[str]
    parameters: int | None
    bytes: int | None
    written: Written
    texts: list[str]
    diversity: Diversity
    adherence: Adherence | None = None
    copying: dict[str, object] | None = None
    curve: list[tuple[float, float]] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        score = asdict(self.score)
        return {
            "run": self.name,
            "kind": self.kind,
            **score,
            "interval": list(self.score.interval),
            "tokens_per_second": self.written.tokens_per_second,
            "characters_per_second": self.written.characters_per_second,
            "parameters": self.parameters,
            "bytes": self.bytes,
            "diversity": self.diversity.to_json(),
            "memorisation": self.copying,
            "adherence": self.adherence.to_json() if self.adherence else None,
            "context": self.context,
            "remarks": self.remarks,
            "texts": self.texts,
        }


@dataclass(frozen=True)
class EasyModel:
    """Counting or compressing. what: how it was made."""

    name: str
    what: str
    score: Score

    def to_json(self) -> dict[str, object]:
        score = {**asdict(self.score), "interval": list(self.score.interval)}
        return {"name": self.name, "what": self.what, **score}


@dataclass(frozen=True)
class Pair:
    """Bits per character of a less those of b, with the interval of the difference: the same
    documents are drawn for both."""

    a: str
    b: str
    difference: float
    interval: Interval

    def to_json(self) -> dict[str, object]:
        return {**asdict(self), "interval": list(self.interval)}


@dataclass(frozen=True)
class Comparison:
    """All of it. prompts: of the texts that are shown · real: the diversity of how the held-out
    documents go on themselves · left_out: a sentence for each thing that could not be had."""

    held_out: HeldOutText
    writing: Writing
    prompts: list[str]
    models: list[Model]
    pairs: list[Pair]
    easy: list[EasyModel]
    real: Diversity
    left_out: list[str]

    def protocol(self) -> dict[str, str]:
        """How the scores were made, in words: they mean nothing without."""
        rule = (
            f"temperature {self.writing.temperature:g}, top-p {self.writing.top_p:g}, nothing "
            f"else; from the first {PROMPT_WORDS} words of {self.real.texts:,} stretches of "
            "held-out text, or from nothing where a document has no more words; at most "
            f"{self.writing.characters:,} characters each, seed {self.writing.seed}"
        )
        return {**protocol_of(self.held_out), "writing": rule}

    def to_json(self) -> dict[str, object]:
        """What `textwright compare --json` prints."""
        return {
            "held_out": self.held_out.to_json(),
            "protocol": self.protocol(),
            "runs": [model.to_json() for model in self.models],
            "pairs": [pair.to_json() for pair in self.pairs],
            "easy": [model.to_json() for model in self.easy],
            "real_text": {"diversity": self.real.to_json()},
            "prompts": self.prompts,
            "left_out": self.left_out,
        }


def protocol_of(text: HeldOutText) -> dict[str, str]:
    """How scores of this text are made, in words."""
    few = len(text.documents) < FEW_DOCUMENTS
    unit = f"blocks of {BLOCK_CHARACTERS:,} characters" if few else "documents"
    return {
        "text": (
            f"{text.source}: {counted(len(text.documents), 'document')}, "
            f"{text.characters:,} characters, {text.bytes:,} bytes"
        ),
        "score": "bits to send the documents as they are, over their characters",
        "bytes charged": (
            f"{text.bytes:,}: each model's tokens were put together again and gave every document "
            "back, or it would not stand here"
        ),
        "isolation": "each document is read alone, after the model's own start token",
        "stride": "every token is predicted once; the end of a document too",
        "interval": (
            f"the middle 95 % of {RESAMPLES:,} resamples of {unit}; for a difference the same "
            "ones are drawn for both models"
        ),
    }


def open_subject(
    name: str | Path, device: str = "auto", kept: KeptResults = NOTHING_KEPT
) -> Subject:
    """A run folder, a folder of transformers, or a server by its URL. Raises a TextwrightError if
    it is none of them."""
    if "://" in str(name):
        return CompletionServer(str(name))
    path = Path(name)
    if not path.exists():
        raise EvaluationError(
            f"There is no {path}; name a run, a folder with a model of transformers, or the URL of "
            "a server."
        )
    if (path / "config.toml").exists():
        return RunSubject(Run.load(path), device, kept)
    from textwright.comparison.model_folder import ModelFolder

    return ModelFolder(path, device, kept)


def compare_models(
    names: Sequence[str | Path],
    corpus: Sequence[str | Path] = (),
    *,
    part: str = "test",
    options: CorpusOptions | None = None,
    documents: int = 0,
    writing: Writing | None = None,
    prompts: Sequence[str] = (),
    easy: bool = True,
    device: str = "auto",
    on_progress: OnStage = silent,
    kept: KeptResults = NOTHING_KEPT,
) -> Comparison:
    """Score models on one held-out text and let them write.

    names: run folders, folders of transformers, URLs of servers.
    corpus: text that is new to all of them; none is what the first run holds out.
    part: the held-out part of the first run, test or valid.
    options: how the corpus is read if none of the names is a run.
    documents: score so many, evenly spaced; 0 scores all.
    writing: how all of them write.
    prompts: of the texts that are shown; none is beginnings of held-out documents.
    easy: score counting and compressors too.
    kept: where finished parts are.

    Raises EvaluationError where a comparison would be unfair or something cannot be scored.
    """
    writing = writing or Writing()
    subjects = [open_subject(name, device, kept) for name in names]
    runs = [subject.run for subject in subjects if isinstance(subject, RunSubject)]
    on_progress("Reading the held-out text", 0, 0)
    text = choose_text(runs, corpus, part, options).sampled(documents)
    if not text.characters:
        raise EvaluationError(f"All documents of {text.source} are empty; name another corpus.")
    begun = beginnings(text.documents, writing.texts, writing.characters)
    starts = [prompt for prompt, _ in begun]
    shown = list(prompts) or starts[:SHOWN]
    results = []
    for subject in subjects:
        on_progress(f"Scoring {subject.name}", 0, 0)
        found = measure(subject, text, on_progress)
        on_progress(f"Writing with {subject.name}", 0, 0)
        tokens = writing.tokens(found)
        written = write(subject, starts, writing, tokens)
        texts = write(subject, shown, writing, tokens).texts if prompts else written.texts[:SHOWN]
        results.append((subject, found, written, texts))
    easy_models: list[EasyModel] = []
    left_out = [doubt] if (doubt := caution(len(results[0][1].units()[0]))) else []
    if easy and runs:
        rows = measure_easy(runs[0], text.documents, on_progress, kept)
        left_out += rows.left_out
        easy_models = [EasyModel(r.name, r.what, Score.of(r.measured)) for r in rows.rows]
    elif easy:
        left_out.append(
            "Unigrams, n-grams and compressors are left out: no run says what to train them on."
        )
    real, *diversities = measure_diversity(
        [[rest for _, rest in begun], *(written.texts for _, _, written, _ in results)]
    )
    models = [
        _model(*result, diversity, text, writing, left_out)
        for result, diversity in zip(results, diversities, strict=True)
    ]
    named = [(subject.name, found) for subject, found, _, _ in results]
    pairs = [_pair(a, b) for a, b in combinations(named, 2)]
    return Comparison(text, writing, shown, models, pairs, easy_models, real, left_out)


def beginnings(documents: Sequence[str], count: int, characters: int) -> list[tuple[str, str]]:
    """(first words, what follows): of evenly spaced documents or, if they are few, of stretches
    that are evenly spaced over them, begin at a word and do not overlap.

    Words are those of diversity. Of a document that has no more of them than a prompt, all is what
    follows. Fewer than `count` where there is too little text.
    """
    per_document = max(1, math.ceil(count / max(1, len(documents))))
    room = characters + PROMPT_CHARACTERS
    found = []
    for document in evenly_spaced(documents, count):
        stretches = min(per_document, max(1, len(document) // room))
        borders = np.linspace(0, len(document), stretches + 1).astype(int).tolist()
        for start, end in pairwise(borders):
            # A script without spaces has words that begin anywhere.
            space = _SPACE.search(document, start, start + PROMPT_CHARACTERS) if start else None
            stretch = document[space.end() if space else start : end][: 2 * room]
            words = word_spans(stretch)
            at = words[PROMPT_WORDS - 1][1] if len(words) > PROMPT_WORDS else 0
            rest = stretch[at : at + characters]
            if rest.strip():
                found.append((stretch[:at], rest))
    return found[:count] or [("", documents[0][:characters])]


def measure(subject: Subject, text: HeldOutText, on_progress: OnStage) -> Measured:
    """What a model pays for the text. Raises EvaluationError if it is charged for another one."""
    stage = f"Scoring {subject.name}"
    found = subject.kept.recall(
        Measured,
        lambda: subject.measure(text.documents, partial(on_progress, stage)),
        part="measured",
        text=text.fingerprint,
    )
    if int(found.text.bytes.sum()) != text.bytes:
        raise EvaluationError(
            f"{subject.name} was charged for {int(found.text.bytes.sum()):,} bytes of the "
            f"{text.bytes:,} of the text. Please report this."
        )
    return found


def write(subject: Subject, prompts: list[str], writing: Writing, max_new_tokens: int) -> Written:
    """What a model writes after the prompts."""
    return subject.kept.recall(
        Written,
        lambda: subject.write(prompts, writing, max_new_tokens),
        part="written",
        prompts=prompts,
        rule=[*astuple(writing), max_new_tokens],
    )


def _model(
    subject: Subject,
    found: Measured,
    written: Written,
    texts: list[str],
    diversity: Diversity,
    text: HeldOutText,
    writing: Writing,
    left_out: list[str],
) -> Model:
    model = Model(
        subject.name,
        subject.kind,
        Score.of(found),
        subject.context(),
        subject.remarks(),
        subject.parameters(),
        subject.bytes(),
        written,
        texts,
        diversity,
    )
    if not isinstance(subject, RunSubject):
        return model
    return replace(
        model,
        adherence=_adherence(subject, text, writing, left_out),
        copying=_copied(subject.run),
        curve=_curve(subject.run),
    )


def _adherence(
    subject: RunSubject, text: HeldOutText, writing: Writing, left_out: list[str]
) -> Adherence | None:
    """None if the run has no template of several fields or, with a sentence in `left_out`, if its
    tokens do not separate them."""
    run = subject.run
    if not run.config.corpus.template:
        return None
    try:
        form = Form(run.config.corpus, run.tokenizer)
    except GenerationError as error:
        left_out.append(f"How {subject.name} keeps to its fields is left out: {error}")
        return None
    if len(form.fields) < 2:
        return None
    rule = {"temperature": writing.temperature, "top_p": writing.top_p, "no_copy": 0}
    options = run.config.sample.model_copy(update=rule)
    return subject.kept.recall(
        Adherence,
        lambda: adherence(
            subject.predictor.score, subject.generator, form, text.documents, options
        ),
        part="adherence",
        text=text.fingerprint,
        sample=options.model_dump(mode="json"),
    )


def _copied(run: Run) -> dict[str, object] | None:
    """What the training recorded of copying, if anything."""
    events = [event for event in run.metrics() if event["event"] == "copied"]
    return {k: v for k, v in events[-1].items() if k not in ("event", "step")} if events else None


def _curve(run: Run) -> list[tuple[float, float]]:
    """(minutes of training, held-out bits per character) of each evaluation."""
    if run.config.model.counted:
        return []
    seconds, points = 0.0, []
    for event in run.metrics():
        if event["event"] == "step":
            seconds = float(event.get("seconds", seconds))
        elif event["event"] == "evaluation" and event["step"]:
            points.append((seconds / 60, float(event["scores"]["bits_per_character"])))
    return points


def _pair(one: tuple[str, Measured], other: tuple[str, Measured]) -> Pair:
    (a, of_a), (b, of_b) = one, other
    (bits_a, characters), (bits_b, _) = of_a.units(), of_b.units()
    difference = float((bits_a - bits_b).sum() / max(1.0, characters.sum()))
    return Pair(a, b, difference, redrawn_interval(bits_a - bits_b, characters))
