"""Documents from fields and back: what is forced, what is written, how well a model keeps to it."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from test_generator import RuleBackend
from tokenizers.pre_tokenizers import ByteLevel

from textwright.corpus import CorpusOptions
from textwright.errors import GenerationError
from textwright.evaluation.adherence import adherence, other_values
from textwright.evaluation.neural import score
from textwright.families import LSTMOptions
from textwright.models import TorchBackend, build
from textwright.tokenizer import Tokenizer, TokenizerOptions
from textwright.tokenizer.byte_level import rebuild
from textwright.tokenizer.treatment import BPE_STOP
from textwright.writing.form import Form
from textwright.writing.generator import Generator
from textwright.writing.sampling import uniforms
from textwright.writing.sampling_options import sampling_options
from textwright.writing.sampling_steps import draw
from textwright.writing.stream import Sample

WINE = "Review : {country} : {grape} : {text}"
COUNTRIES, GRAPES = ["Italy", "South Africa", "New-Land"], ["Pinot Noir", "Gamay", "Rosé"]
DOCUMENTS = [
    f"Review : {country} : {grape} : {grape} of 10:30, not bad (a fine one)."
    for country, grape in product(COUNTRIES, GRAPES)
]
KINDS = [
    {"kind": "word"},
    {"kind": "word", "lowercase": True},
    {"kind": "char"},
    {"kind": "bpe", "vocab_size": 300},
    {"kind": "bpe", "vocab_size": 300, "lowercase": True},
    {"kind": "symbols"},
]


def learn(documents: Sequence[str] = DOCUMENTS, **options) -> Tokenizer:
    return Tokenizer.train(TokenizerOptions(**options), documents)


def form(template: str, tokenizer: Tokenizer | None = None, **corpus) -> Form:
    return Form(CorpusOptions(template=template, **corpus), tokenizer or learn(kind="char"))


def recite(tokenizer: Tokenizer, *documents: str) -> Generator:
    """A model that knows these documents by heart and goes on with the first that fits what it
    has read; where none does, it stops. It never reads any but the training tokens of each."""
    texts = [[*tokenizer.encode(text).tolist(), tokenizer.stop_id] for text in documents]

    def rule(seen: tuple[int, ...]) -> np.ndarray:
        ids = list(seen[1:])
        following = [text[len(ids)] for text in texts if text[: len(ids)] == ids]
        logits = np.full(tokenizer.vocab_size, -30.0, np.float32)
        logits[following[0] if following else tokenizer.stop_id] = 30.0
        return logits

    return Generator(RuleBackend(rule), tokenizer)


def fill(generator: Generator, asked: Form, given, num: int = 1, seed: int = 0, **options):
    options = sampling_options(**{"max_new_tokens": 200, **options})
    samples = list(generator.fill(asked, given, options, num=num, seed=seed).samples())
    return samples if num > 1 else samples[0]


def whole(sample: Sample) -> str:
    return sample.prompt + sample.text


def test_white_space_that_begins_a_word_is_left_to_the_model():
    """Llama 3 cuts "x:\\ta" before the tab, GPT-2 after it."""
    letters = sorted(ByteLevel.alphabet())
    for cut, read in (("llama-bpe", "x:"), ("gpt-2", "x:\t")):
        tokenizer = rebuild([*letters, "ĉa", BPE_STOP], ["ĉ a"], cut, BPE_STOP)
        asked = form("{course}:\t{note}", tokenizer)
        assert tokenizer.decode(asked.encode("x:\t")) == read


# --- parsing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_template_made_parses_back_as_read_and_as_decoded(kind):
    tokenizer = learn(**kind)
    asked = form(WINE, tokenizer)
    for document, (country, grape) in zip(DOCUMENTS, product(COUNTRIES, GRAPES), strict=True):
        text = f"{grape} of 10:30, not bad (a fine one)."
        expected = {"country": country, "grape": grape, "text": text}
        assert asked.parse(document) == expected
        decoded = asked.parse(tokenizer.decode(tokenizer.encode(document)))
        if tokenizer.treatment.lowercase:
            expected = {name: value.lower() for name, value in expected.items()}
        assert decoded == expected


def test_a_document_without_a_separator_says_which_fields_are_missing():
    asked = form(WINE, learn(kind="word", lowercase=True))
    parse = asked.parse
    assert parse("review: italy: gamay of") == {"country": "italy", "grape": None, "text": None}
    assert parse("review: italy: gamay:") == {"country": "italy", "grape": "gamay", "text": None}
    nothing = dict.fromkeys(asked.fields)
    assert parse("") == parse("a review: italy: gamay: it") == parse("review: italy") == nothing
    assert parse("review: : gamay: it")["country"] is None


def test_a_separator_of_words_is_found_with_the_mark_that_the_tokenizer_drops():
    asked = form("{a} half-full {b}", learn(kind="word", punctuation="drop"))
    assert asked.check({"a": "Soup!"}) == {"a": "Soup!"}
    for text in ("Soup! half-full of it", "Soup! half full of it"):
        assert asked.parse(text) == {"a": "Soup!", "b": "of it"}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_like_a_separator_is_none(kind):
    tokenizer = learn(**kind)
    asked = form("In {place} in {text}", tokenizer)
    assert asked.parse("In Berlin in mint") == {"place": "Berlin", "text": "mint"}


def test_characters_distinguish_separators_that_words_cannot():
    text = "Review : A:B : C : d"
    assert form(WINE).parse(text) == {"country": "A:B", "grape": "C", "text": "d"}
    assert form(WINE, learn(kind="word")).parse(text)["country"] == "A"


def test_what_ends_a_template_is_no_part_of_the_last_field():
    asked = form("<{a}|{b}>")
    assert asked.parse("<x|y>z>") == {"a": "x", "b": "y>z"}
    assert asked.parse("<x|y") == {"a": "x", "b": "y"}
    assert form("Of {a}: {b}").parse("Of x: y Of ") == {"a": "x", "b": "y Of"}


def test_a_field_that_stands_twice_counts_the_first_time():
    assert form("{a}: {b}: {a}").parse("x: y: z") == {"a": "x", "b": "y"}


def test_a_template_is_cleaned_as_its_documents_were():
    asked = form("Wine* of {a}: {b}", lowercase=True, strip_symbols="*")
    assert asked.parse("wine of italy: red") == {"a": "italy", "b": "red"}
    assert asked.check({"a": "Ita*ly"}) == {"a": "italy"}


# --- writing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("names", [[], ["country"], ["grape"], ["text"], ["country", "text"]])
def test_given_fields_are_forced_token_for_token_as_in_training(kind, names):
    """The model has learned one document by heart, and stops at any token it has not learned: it
    writes the document to the end only if every forced stretch is cut as the document's own."""
    tokenizer = learn(**kind)
    document = DOCUMENTS[3]
    asked = form(WINE, tokenizer)
    fields = asked.parse(document)
    given = {name: fields[name] for name in names}
    generator = recite(tokenizer, document)
    sample = fill(generator, asked, given)
    read = asked.parse(whole(sample))
    lower = str.lower if tokenizer.treatment.lowercase else str
    expected = {name: v if name in given else lower(v) for name, v in fields.items()}
    assert read == expected
    assert sample.finish_reason == "stop"
    ids = tokenizer.encode(document).tolist()
    assert ids[len(ids) - len(sample.ids) :] == sample.ids
    # A document reads as its template does, with given fields or without.
    assert whole(sample).startswith(
        f"Review : {read['country']} : {read['grape']} : {read['text']}"
    )


@pytest.mark.parametrize("kind", [{"kind": "char"}, {"kind": "bpe", "vocab_size": 300}])
def test_a_field_that_the_model_writes_may_hold_what_begins_a_separator(kind):
    """`10:30` and `Re:Zero` hold no `: `: whether a space follows is waited for."""
    documents = ["Re:Zero: At 10:30: tea", "Soup: hot"] * 3
    tokenizer = learn(documents, **kind)
    asked = form("{title}: {text}", tokenizer)
    sample = fill(recite(tokenizer, documents[0]), asked, {})
    assert whole(sample) == documents[0]
    assert asked.parse(whole(sample)) == {"title": "Re:Zero", "text": "At 10:30: tea"}
    if tokenizer.kind == "char":  # a byte-level token may begin with the space, and the value too
        given = fill(recite(tokenizer, documents[0]), asked, {"text": "hot"})
        assert whole(given) == "Re:Zero: hot"


@pytest.mark.parametrize("kind", [{"kind": "char"}, {"kind": "bpe", "vocab_size": 300}])
def test_each_token_shows_what_it_spells_before_and_within_given_fields(kind):
    documents = ["Soup of beans : Quick : Boil them.", "Tarte : Slow : Bake it."] * 3
    tokenizer = learn(documents, **kind)
    asked = form("{title} : {pace} : {text}", tokenizer)
    given = {"pace": "Quick", "text": "Boil them."}
    generator = recite(tokenizer, documents[0])
    events = list(generator.fill(asked, given, sampling_options(max_new_tokens=99)))
    decoder, held = tokenizer.decoder(), 0
    for event in events:
        assert len(event.text) <= held + len(decoder.push(event.id) if event.id else "") + 1
        held = 0 if event.text else held + len(tokenizer.texts([event.id])[0] if event.id else "")
    assert "".join(event.text for event in events) == documents[0]
    assert sum(not event.text for event in events) <= 5  # what may begin a separator is waited for


def test_the_model_goes_on_from_what_was_forced():
    tokenizer = learn(kind="word")
    asked, generator = form(WINE, tokenizer), recite(tokenizer, *DOCUMENTS)
    assert asked.parse(whole(fill(generator, asked, {})))["grape"] == "Pinot Noir"
    for grape in ("Gamay", "Rosé"):
        sample = fill(generator, asked, {"grape": grape})
        assert sample.prompt == "Review : "
        assert (
            whole(sample) == f"Review : Italy : {grape} : {grape} of 10:30, not bad (a fine one)."
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"no_repeat_ngram": 99}])
def test_a_model_that_would_rather_stop_cannot_before_the_last_given_field(kind, options):
    tokenizer = learn(**kind)
    asked, knows = form(WINE, tokenizer), recite(tokenizer, DOCUMENTS[3]).backend.rule

    def rule(seen):
        logits = knows(seen)
        logits[tokenizer.stop_id] = 60.0
        return logits

    generator = Generator(RuleBackend(rule), tokenizer)
    sample = fill(generator, asked, {"grape": "Pinot Noir"}, **options)
    lower = str.lower if tokenizer.treatment.lowercase else str
    written = {"country": lower("South Africa"), "grape": "Pinot Noir", "text": None}
    assert (asked.parse(whole(sample)), sample.finish_reason) == (written, "stop")
    sample = fill(generator, asked, {"country": "South Africa"}, **options)
    assert (sample.ids, sample.finish_reason) == ([], "stop")


@pytest.mark.parametrize("ending", ["\n\n", ":\n", " ", "/", "; "])
def test_a_byte_tokenizer_is_given_the_tokens_it_learned_around_any_ending(ending):
    documents = [f"{title}{ending}Text of it." for title in ("Soup", "Tarte", "Broth")] * 3
    documents.append("a\n\n\n\nb:\n\nc; ; d//e")  # merges that must not be taken for the ending
    tokenizer = learn(documents, kind="bpe", vocab_size=300)
    asked = form("{title}" + ending + "{text}", tokenizer)
    sample = fill(recite(tokenizer, documents[1]), asked, {"title": "Tarte"})
    assert whole(sample) == documents[1]
    assert asked.parse(documents[1]) == {"title": "Tarte", "text": "Text of it."}


def test_a_model_that_never_ends_a_field_is_cut_and_the_fields_are_missing():
    tokenizer = learn(kind="word")
    gamay = tokenizer.encode("Gamay")[0]
    rule = np.full(tokenizer.vocab_size, -30.0, np.float32)
    rule[gamay] = 30.0
    asked = form(WINE, tokenizer)
    generator = Generator(RuleBackend(lambda seen: rule), tokenizer)
    sample = fill(generator, asked, {"country": "Italy"}, max_new_tokens=3)
    assert whole(sample) == "Review : Italy : Gamay Gamay Gamay"
    assert sample.finish_reason == "length"
    assert asked.parse(whole(sample)) == {"country": "Italy", "grape": None, "text": None}


def test_a_text_cut_inside_a_character_of_a_given_field_shows_no_part_of_it():
    documents = ["Italy : 日本 : dry", "Spain : 日本 : sweet"]
    tokenizer = learn(documents, kind="bpe", vocab_size=262)
    asked = form("{country} : {grape} : {text}", tokenizer)
    for length in range(1, 30):
        generator = recite(tokenizer, *documents)
        sample = fill(generator, asked, {"grape": "日本"}, max_new_tokens=length)
        assert "\ufffd" not in sample.text


def noise(tokenizer: Tokenizer) -> Generator:
    """Next-token logits that depend on all that was read."""

    def rule(seen: tuple[int, ...]) -> np.ndarray:
        logits = np.random.default_rng(seen).standard_normal(tokenizer.vocab_size)
        logits[[1, tokenizer.stop_id]] = -np.inf
        logits[tokenizer.encode(":")[0]] += 2
        return logits.astype(np.float32)

    return Generator(RuleBackend(rule), tokenizer, batch_size=4)


def test_a_draw_depends_on_seed_sample_and_place_alone():
    """A sample drawn by hand, one place at a time; the places of forced tokens take a draw too."""
    tokenizer = learn(kind="word")
    asked, generator = form(WINE, tokenizer), noise(tokenizer)
    given = {"grape": "Pinot Noir"}
    samples = fill(generator, asked, given, num=9, seed=5, max_new_tokens=30)
    assert len({sample.text for sample in samples}) == 9
    assert samples[:2] == fill(generator, asked, given, num=2, seed=5, max_new_tokens=30)
    colon = tokenizer.encode(":")[0]
    for k, sample in enumerate(samples):
        draws = uniforms(5, k).random(30)
        ids, forced = tokenizer.encode(sample.prompt).tolist(), []
        begin = len(ids)
        for u in draws:
            logits = generator.backend.rule((tokenizer.stop_id, *ids))
            ids.append(forced.pop(0) if forced else draw(logits, u))
            if ids[begin:].count(colon) == 1 and ids[-1] == colon:
                forced = tokenizer.encode("Pinot Noir :").tolist()
        assert sample.ids == ids[begin:]
        assert " : Pinot Noir : " in sample.text


def test_options_and_stop_texts_hold_for_the_whole_text():
    tokenizer = learn(kind="word")
    asked, generator = form(WINE, tokenizer), recite(tokenizer, *DOCUMENTS)
    sample = fill(generator, asked, {"grape": "Gamay"}, stop=[", not"])
    assert whole(sample) == "Review : Italy : Gamay : Gamay of 10:30"
    with pytest.raises(GenerationError, match="Fields cannot be used with beams"):
        fill(generator, asked, {"grape": "Gamay"}, beams=2)


def test_words_that_are_not_in_the_vocabulary_are_listed():
    tokenizer = learn(kind="word")
    asked, generator = form(WINE, tokenizer), recite(tokenizer, DOCUMENTS[0])
    stream = generator.fill(asked, {"country": "Italy", "grape": "Big Nebbiolo"})
    assert [prompt.unknown for prompt in stream.prompts] == [["Big", "Nebbiolo"]]


# --- what cannot be -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"color": "red"}, "no field 'color': the template has country, grape, text"),
        ({"grape": " "}, "The field grape is empty"),
        ({"country": "A : B"}, "country cannot be 'A : B': the template puts ':' after it"),
        ({"country": "a", "grape": "b", "text": "c"}, "leave one for the model"),
    ],
)
def test_fields_that_cannot_be_given_are_refused(given, sentence):
    with pytest.raises(GenerationError, match=sentence):
        form(WINE).check(given)


def test_only_what_the_model_takes_for_the_ending_is_refused():
    assert form(WINE).check({"country": "A:B", "text": "c : d"})
    with pytest.raises(GenerationError, match="cannot be 'A:B'"):
        form(WINE, learn(kind="word")).check({"country": "A:B"})


def test_a_template_whose_fields_the_tokenizer_cannot_part_is_refused():
    with pytest.raises(GenerationError, match="without a template"):
        form("")
    for tokenizer in (learn(kind="word", punctuation="drop"), learn(kind="symbols")):
        with pytest.raises(GenerationError, match="a and b cannot be separated"):
            form("{a}" + (": " if tokenizer.kind == "word" else " ") + "{b}", tokenizer)


# --- keeping to them ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learned():
    """A small model of texts in which the grape decides the color, and the country nothing."""
    torch.manual_seed(1)
    torch.set_num_threads(1)
    color = {"Gamay": "red red", "Riesling": "pale pale", "Rosé": "pink pink"}
    countries = ["Italy", "France", "Spain"]
    documents = [f"{c} : {g} : {color[g]}" for c, g in product(countries, color)]
    tokenizer = learn(documents, kind="word")
    model = build(LSTMOptions(embedding_size=8, hidden_size=16), tokenizer.vocab_size, 16)
    ids = torch.tensor([[0, *tokenizer.encode(text), 0] for text in documents])
    adam = torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(60):
        adam.zero_grad()
        loss, count = model.next_token_loss(model.encode(ids[:, :-1])[0], ids[:, 1:])
        (loss / count).backward()
        adam.step()
    return model, tokenizer, documents * 4


def test_a_field_that_decides_the_text_is_distinguished_from_one_that_does_not(learned):
    model, tokenizer, documents = learned
    asked = form("{country} : {grape} : {text}", tokenizer)
    found = adherence(
        partial(score, model),
        Generator(TorchBackend(model), tokenizer),
        asked,
        [*documents, "no fields"],
        sampling_options(),
    )
    assert (found.documents, found.unparsed) == (len(documents), 1)
    country, grape, text = (found.fields[name] for name in ("country", "grape", "text"))
    assert found.complete > 0.9
    assert min(country.found, grape.found, text.found) >= found.complete
    assert grape.preferred == 1 and grape.gain > 3
    assert abs(country.gain) < 0.2 and 0.1 < country.preferred < 0.9
    for field in (country, grape):
        assert field.gain_interval[0] <= field.gain <= field.gain_interval[1]
        assert field.preferred_interval[0] <= field.preferred <= field.preferred_interval[1]
    assert text.gain is None


def test_the_gain_is_what_the_true_value_saves_on_the_last_field(learned):
    """Two documents, so what is swapped is known; the nats are summed by hand."""
    model, tokenizer, _ = learned
    asked = form("{country} : {grape} : {text}", tokenizer)
    documents = ["Italy : Gamay : red red", "Italy : Rosé : pink pink"]
    swapped = ["Italy : Rosé : red red", "Italy : Gamay : pink pink"]
    found = adherence(
        partial(score, model),
        Generator(TorchBackend(model), tokenizer),
        asked,
        documents,
        sampling_options(),
    )

    def nats(text):
        ids = [0, *tokenizer.encode(text), 0]
        logits = model.project(model.encode(torch.tensor([ids[:-1]]))[0])[0]
        return -sum(logits.log_softmax(-1)[at, ids[at + 1]].item() for at in range(4, 7))

    by_hand = [nats(other) - nats(text) for text, other in zip(documents, swapped, strict=True)]
    assert found.fields["grape"].gain == pytest.approx(np.mean(by_hand), rel=1e-4)
    assert found.fields["country"].gain is None  # the same in all


def test_a_model_that_has_learned_nothing_is_found_out(learned):
    _, tokenizer, documents = learned
    model = build(LSTMOptions(embedding_size=8, hidden_size=16), tokenizer.vocab_size, 16)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    asked = form("{country} : {grape} : {text}", tokenizer)
    found = adherence(
        partial(score, model),
        Generator(TorchBackend(model), tokenizer),
        asked,
        documents,
        sampling_options(),
    )
    assert found.complete < 0.9
    assert found.fields["grape"].gain == 0 and found.fields["grape"].preferred == 0.5


def test_another_value_is_drawn_at_once_however_rare_it_is():
    values = ["us"] * 100_000 + ["italy", "france"]
    drawn = other_values(values, np.random.default_rng(0))
    assert {*drawn[:-2]} == {"italy", "france"}
    assert drawn[-2] in ("us", "france") and drawn[-1] in ("us", "italy")


def test_another_value_is_drawn_in_proportion_to_its_number():
    values = ["a"] * 50 + ["b"] * 30 + ["c"] * 20
    random = np.random.default_rng(1)
    drawn = Counter(other for _ in range(200) for other in other_values(values, random)[:50])
    # 10,000 draws: beyond 4.9 standard deviations once in a million
    assert abs(drawn["b"] - 6_000) < 4.9 * (10_000 * 0.6 * 0.4) ** 0.5
    assert drawn.keys() == {"b", "c"}
