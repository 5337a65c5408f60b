"""Fields of a template in an exported page: what they force, what is written around them, and what
is refused, beside what Python does."""

from itertools import combinations

import numpy as np
import pytest
from conftest import POSSIBLE_ENDS, TINY, train_tiny
from seeds import count_differences
from small_models import SMALL
from small_runs import make_run
from tokenizers.pre_tokenizers import ByteLevel
from web_engine import WRITE, call, expose, load_run, open_on_phone, wait_for_status

from textwright.api import load
from textwright.errors import TextwrightError
from textwright.export import export_html
from textwright.export.html_payload import describe
from textwright.run import Run
from textwright.tokenizer.byte_level import rebuild
from textwright.tokenizer.scripts import texts_of_all_scripts
from textwright.tokenizer.treatment import BPE_STOP, CUTS
from textwright.writing.form import Form
from textwright.writing.sampling_options import sampling_options
from textwright.writing.stream import Sample

expect = pytest.importorskip("playwright.sync_api").expect

pytestmark = pytest.mark.browser

TEMPLATE = "{course} : {pans} : {note}"
VALUES = {"course": "Soup", "pans": "3.5-quart pot", "note": "Serve; don't wait!"}
KINDS = [
    {"kind": "word"},
    {"kind": "word", "lowercase": True},
    {"kind": "word", "punctuation": "drop"},
    {"kind": "char"},
    {"kind": "char", "lowercase": True},
    {"kind": "bpe"},
    {"kind": "bpe", "lowercase": True},
    {"kind": "symbols"},
]


def subsets(values):
    """All fields that may be given: any but all of them."""
    names = [chosen for size in range(len(values)) for chosen in combinations(values, size)]
    return [{name: values[name] for name in chosen} for chosen in names]


@pytest.fixture(scope="module")
def page(browser):
    """An empty page that has the engine."""
    page = browser.new_page()
    expose(page, "worker.js", "Engine", "Tokenizer", "readArrays", "unpack")
    return page


@pytest.fixture(scope="module")
def filled(dishes, tmp_path_factory):
    """A run of counts alone, which has learned the template."""
    settings = ["tokenizer.vocab_size=400", "model.longest=4", f"corpus.template={TEMPLATE}"]
    return train_tiny(dishes, settings, tmp_path_factory, "counts")


# --- the same texts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"), [("gru", "word"), ("gpt", "bpe"), ("llama", "char"), ("gpt-book", "word")]
)
def test_the_same_seed_fills_fields_as_in_python(page, tmp_path, name, kind):
    run = make_run(tmp_path / "run", SMALL[name], kind, corpus={"template": TEMPLATE})
    separator = run.tokenizer.encode(" :").tolist()
    assert compare(page, run, logit_bias=dict.fromkeys(separator, 4.0)) <= 1


def test_the_same_seed_fills_fields_as_in_python_by_counts_alone(page, filled):
    assert compare(page, Run.load(filled)) <= 1


def test_the_same_seed_fills_fields_as_in_python_with_counts(page, dishes, tmp_path_factory):
    settings = [*TINY, "counts.longest=3", f"corpus.template={TEMPLATE}"]
    assert compare(page, Run.load(train_tiny(dishes, settings, tmp_path_factory))) <= 1


def test_the_end_waits_for_given_fields_as_in_python(page, filled):
    run = Run.load(filled)
    assert compare(page, run, logit_bias={run.tokenizer.stop_id: 8.0}) <= 1
    read = Form(run.config.corpus, run.tokenizer).encode
    for fields, begin, possible in POSSIBLE_ENDS:
        assert (call(page, END, [fields, read(begin)]) > 0) == possible


END = """([fields, begin]) => {
    const target = engine.tokenizer.stop_id;
    return engine.alternatives({ fields, begin, target }).find(({ id }) => id === target).after;
}"""


def compare(page, run, **given):
    """How many texts differ, each where a draw lies within 1e-4 of a boundary."""
    load_run(page, run)
    writer = load(run.path)
    form = writer.form()
    differences = reached = 0
    for seed, fields in enumerate(subsets(VALUES)):
        for own in ({}, {"temperature": 0.8, "top_k": 12, "stop": ["ing"]}):
            options = sampling_options(max_new_tokens=60, **given, **own)
            told = options.model_dump(exclude_unset=True)
            told["logit_bias"] = list(options.logit_bias.items())
            request = {"fields": fields, "options": told, "seed": str(seed)}
            [text] = call(page, WRITE, [request])
            stream = writer.generator.fill(form, fields, options, seed=seed)
            mine = list(stream.samples())
            theirs = [Sample(mine[0].prompt, text["text"], text["ids"], text["reason"])]
            differences += count_differences(
                writer.generator, options, seed, mine, theirs, form.encode
            )
            reached += form.parse(mine[0].prompt + mine[0].text)["pans"] is not None
    assert reached > 3  # of 14: texts that came to the second separator, and beyond
    return differences


# --- the guide of a text -------------------------------------------------------------------------

TEMPLATES = [
    TEMPLATE,
    "Dish of {course}:\n\n{pans} in {note} (end)",
    "{course} half-full {pans} half-full {course} half-full {note}",
    "<{course}|{pans}>\t{note}>",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_a_guide_forces_and_shows_what_it_does_in_python(page, tmp_path, template, kind):
    run = make_run(tmp_path / "run", SMALL["rnn"], corpus={"template": template}, **kind)
    load_run(page, run)
    try:
        form = Form(run.config.corpus, run.tokenizer)
    except TextwrightError:  # the tokenizer keeps nothing of what stands between two fields
        assert describe(run, "", "float32")["fields"] == []
        return
    random = np.random.default_rng(0)
    separators = [token_id for text in form.literals for token_id in form.encode(text)]
    for given in subsets(VALUES):
        for _ in range(3):
            # Half of what is written are tokens of separators, in their order: they are met.
            ids = random.integers(run.tokenizer.vocab_size, size=60).tolist()
            for place in random.integers(60, size=8).tolist():
                ids[place : place + len(separators)] = separators
            assert call(page, GUIDE, [given, ids]) == guided(run.tokenizer, form, given, ids)


GUIDE = """([given, ids]) => {
    const { tokenizer, form } = engine;
    const { guide, ids: begun, ...told } = form.begin(given);
    const decoder = tokenizer.decoder(begun);
    const written = [];
    const shown = [];
    for (const free of ids) {
        const id = guide.forcedId ?? free;
        written.push(id);
        if (id === tokenizer.stop_id) break;
        shown.push(guide.push(decoder.push(id)));
    }
    return { ...told, begun, written, shown: [...shown, guide.flush(decoder.flush())] };
}"""


def guided(tokenizer, form, given, ids):
    """The same in Python."""
    prompt = form.prompt(given)
    guide, decoder = prompt.make_guide(), tokenizer.decoder(prompt.ids)
    written, shown = [], []
    for free in ids:
        forced = guide.forced_id()
        written.append(free if forced is None else forced)
        if written[-1] == tokenizer.stop_id:
            break
        shown.append(guide.push(decoder.push(written[-1])))
    shown.append(guide.flush(decoder.flush()))
    return {
        "text": prompt.text,
        "unknown": prompt.unknown,
        "begun": prompt.ids,
        "written": written,
        "shown": shown,
    }


ENDINGS = ["", " ", "  ", ": ", "\n", ":\n\n", "\t", ":\t", " \n ", "\u00a0", "\u3000 ", "\x1d"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_that_a_word_follows_is_read_as_in_python(page, tmp_path, kind):
    run = make_run(tmp_path / "run", SMALL["rnn"], corpus={"template": TEMPLATES[2]}, **kind)
    load_run(page, run)
    read = "texts => texts.map((text) => engine.tokenizer.encodeBeforeWord(text))"
    compare_readings(page, read, run.config.corpus, run.tokenizer)


@pytest.mark.parametrize("cut", CUTS)
def test_pretrained_tokenizers_read_it_as_in_python(page, tmp_path, cut):
    run = make_run(tmp_path / "run", SMALL["rnn"], corpus={"template": TEMPLATE})
    tokens = ["ĉa", "Ġ:", "ĊĊ", "ĠĠ", ":Ċ"]
    merges = [f"{token[0]} {token[1]}" for token in tokens]
    vocabulary = [*sorted(ByteLevel.alphabet()), *tokens, BPE_STOP]
    tokenizer = rebuild(vocabulary, merges, cut, BPE_STOP)
    told = {"kind": "bpe", "cut": cut, "tokens": vocabulary, "merges": merges, "stop_id": 0}
    page.evaluate("told => { globalThis.pretrained = new Tokenizer(told); }", told)
    read = "texts => texts.map((text) => pretrained.encodeBeforeWord(text))"
    compare_readings(page, read, run.config.corpus, tokenizer)


def compare_readings(page, read, corpus, tokenizer):
    encode = Form(corpus, tokenizer).encode
    begun = ["", "The soup", "Äpfel, x", "don't", "3:", *list(texts_of_all_scripts())[::60]]
    texts = [text + ending for text in begun for ending in ENDINGS]
    for text, ids in zip(texts, call(page, read, texts), strict=True):
        assert ids == encode(text), text


# --- what cannot be ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {"color": "red"},
        {"pans": " \t"},
        {"course": "Soup : hot"},
        {"course": "a", "pans": "b", "note": "c"},
        {"course": "**"},
        {"pans": "*A\r\nB* é:c"},
        {"pans": "É : *C"},
    ],
)
def test_what_cannot_be_given_is_refused_with_the_sentence_of_python(page, tmp_path, given):
    cleaning = {"strip_symbols": "*", "ascii_only": True, "lowercase": True}
    corpus = {"template": TEMPLATE, **cleaning}
    run = make_run(tmp_path / "run", SMALL["rnn"], "char", corpus=corpus)
    load_run(page, run)
    try:
        mine = Form(run.config.corpus, run.tokenizer).check(given)
    except TextwrightError as error:
        mine = str(error)
    assert mine == call(
        page,
        """(given) => {
            try {
                return Object.fromEntries(engine.form.check(given));
            } catch (error) {
                return error.message;
            }
        }""",
        given,
    )


def test_a_run_without_fields_says_so(page, trained):
    load_run(page, Run.load(trained))
    code = """() => {
        try {
            engine.tokenize({ fields: {} });
        } catch (error) {
            return error.message;
        }
    }"""
    assert page.evaluate(code) == "This model has no fields: begin with words."


# --- the page ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(filled, tmp_path_factory):
    """The page of a run with a template."""
    out = tmp_path_factory.mktemp("pages") / "dishes.html"
    export_html(Run.load(filled), out, weights="float32")
    return out


@pytest.fixture
def phone(browser, file):
    """The page on a phone. It may report no error and ask for nothing else."""
    with open_on_phone(browser, file.as_uri()) as (page, requests):
        yield page
        assert [url for url in requests if not url.startswith("blob:")] == [file.as_uri()]


def fill(page, fields):
    page.check("#ways [value=fields]")
    for name, value in fields.items():
        page.get_by_role("textbox", name=name).fill(value)


@pytest.mark.parametrize("fields", [{}, {"course": "Soup"}, {"pans": "3"}, {"note": "Stir."}])
def test_the_page_fills_fields_as_python_does(phone, filled, fields):
    fill(phone, fields)
    phone.fill("[name=seed]", "4")
    phone.click("#write")
    wait_for_status(phone, "a second")
    writer = load(filled)
    [sample] = writer.generator.fill(writer.form(), fields, writer.options(), seed=4).samples()
    shown = phone.text_content("#given") + phone.text_content("#text").removesuffix(" ■")
    assert shown == sample.prompt + sample.text


def test_a_text_with_fields_branches_and_keeps_to_them(phone):
    fill(phone, {"pans": "3"})
    phone.click("#write")
    wait_for_status(phone, "a second")
    assert " : 3 : " in phone.text_content("#given") + phone.text_content("#text")
    phone.click("#text")
    phone.keyboard.press("Home")
    phone.locator("#alternatives [aria-pressed=false]").first.click()
    wait_for_status(phone, "a second")
    expect(phone.locator("#tree button")).to_have_count(2)
    assert " : 3 : " in phone.text_content("#given") + phone.text_content("#text")


def test_a_field_that_cannot_be_given_is_refused_and_can_be_mended(phone):
    fill(phone, {"course": "Soup : hot"})
    phone.click("#write")
    wait_for_status(phone, "The field course cannot be 'Soup : hot'")
    phone.click("#comparison summary")
    for button in ("#write-both", "#rate"):
        phone.click(button)
        expect(phone.locator("#comparison-status")).to_contain_text("cannot be 'Soup : hot'")
    fill(phone, {"course": "Bread"})
    phone.click("#write")
    wait_for_status(phone, "a second")
    assert phone.text_content("#given").startswith("Bread : ")
