"""The engine of the page beside Python's: the same random numbers, the same ids, the same texts."""

import numpy as np
import pytest
from conftest import train_tiny
from seeds import count_differences
from small_models import SMALL
from small_runs import DOCUMENTS, make_run
from web_engine import WRITE, call, expose, load_run

from textwright.api import load
from textwright.run import Run
from textwright.tokenizer.scripts import texts_of_all_scripts
from textwright.tokenizer.treatment import CUTS, Treatment, pipeline
from textwright.writing.sampling import uniforms
from textwright.writing.sampling_options import sampling_options
from textwright.writing.stream import Sample

pytestmark = pytest.mark.browser

KINDS = ("word", "char", "symbols", "bpe")
PROMPTS = ["The soup", "Serve it at 10:30", "", "naïve 🍜", "A 3.5-quart pot - not", "Äpfel, " * 12]
OPTIONS = [
    {},
    {"temperature": 0.0, "max_new_tokens": 20},
    {"temperature": 0.7, "top_k": 20, "repetition_penalty": 1.3},
    {"temperature": 1.3, "top_p": 0.9, "presence_penalty": 0.4, "frequency_penalty": 0.3},
    {"min_p": 0.05, "no_repeat_ngram": 2, "min_new_tokens": 25},
    {"typical_p": 0.8, "stop": ["e", "the"], "min_new_tokens": 4},
    {"temperature": float("inf"), "top_k": 5, "forbid": [0, 5], "logit_bias": {7: 2.5}},
]


@pytest.fixture(scope="module")
def page(browser):
    """An empty page that has the engine."""
    page = browser.new_page()
    expose(page, "worker.js", "Engine", "Tokenizer", "Uniforms", "readArrays", "unpack")
    return page


@pytest.fixture(scope="module")
def mixed(notes, tmp_path_factory):
    """A small LSTM with counts beside it."""
    settings = ["model.embedding_size=8", "model.hidden_size=8", "train.max_steps=20"]
    return train_tiny(notes, [*settings, "counts.longest=4"], tmp_path_factory)


@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
def test_random_numbers_are_numpys_to_the_bit(page, seed):
    numbers = call(
        page,
        """(seed) => {
            const uniforms = new Uniforms(BigInt(seed));
            return Array.from({ length: 100 }, (_, place) => uniforms.at(place));
        }""",
        str(seed),
    )
    assert numbers == uniforms(seed, 0).random(100).tolist()


@pytest.mark.parametrize("name", SMALL)
def test_the_same_seed_writes_the_same_text(page, tmp_path, name):
    kind = KINDS[list(SMALL).index(name) % len(KINDS)]
    run = make_run(tmp_path / "run", SMALL[name], kind)
    assert compare(page, run, seed=list(SMALL).index(name)) <= 2


def test_the_same_seed_writes_the_same_text_with_counts(page, mixed):
    assert Run.load(mixed).counts.order > 1
    assert compare(page, Run.load(mixed), seed=2**63) <= 2


def test_the_same_seed_writes_the_same_text_by_counts_alone(page, counted):
    assert compare(page, Run.load(counted), seed=5) <= 2


def compare(page, run, seed):
    """How many of all texts differ, each where a draw lies within 1e-4 of a boundary."""
    writer = load(run.path)
    load_run(page, run)
    differences = 0
    for given in OPTIONS:
        options = sampling_options(**{"max_new_tokens": 40, **given})
        told = options.model_dump(exclude_unset=True)
        if "logit_bias" in told:
            told["logit_bias"] = list(told["logit_bias"].items())
        if options.temperature == float("inf"):
            told["temperature"] = "Infinity"
        requests = [{"prompt": p, "options": told, "seed": str(seed)} for p in PROMPTS]
        written = call(page, WRITE, requests)
        mine = writer.generator.generate(PROMPTS, options, seed=seed)
        theirs = [
            Sample(sample.prompt, text["text"], text["ids"], text["reason"])
            for sample, text in zip(mine, written, strict=True)
        ]
        differences += count_differences(writer.generator, options, seed, mine, theirs)
        for one, other in zip(mine, theirs, strict=True):
            assert one.ids != other.ids or one.finish_reason == other.finish_reason
    return differences


def test_a_text_branches_as_if_it_had_been_written_so(page, mixed):
    load_run(page, Run.load(mixed))
    whole, again, other = call(
        page,
        """() => {
            const options = { min_new_tokens: 30, max_new_tokens: 30 };
            const write = (begin) => {
                const tokens = [...engine.write({ prompt: "", options, seed: 4n, begin })];
                const text = tokens.map((token) => token.text).join("");
                return { text, ids: tokens.map(({ id }) => id) };
            };
            const whole = write([]);
            const { ids } = whole;
            write([...ids.slice(0, 5), 3, 4, 5, 6]); // elsewhere, and back again
            return [whole, write(ids.slice(0, 6)), write([...ids.slice(0, 5), 2])];
        }""",
    )
    assert again == whole
    assert other["ids"][:5] == whole["ids"][:5]
    assert other["ids"][5] == 2


def test_two_texts_can_be_written_in_turn_and_looked_at_meanwhile(page, mixed):
    load_run(page, Run.load(mixed))
    alone, woven = call(
        page,
        """() => {
            const requests = [3n, 8n].map((seed) => ({ prompt: "The soup", seed }));
            const alone = requests.map((request) => [...engine.write(request)]);
            const writers = requests.map((request) => engine.write(request));
            const woven = [[], []];
            for (let going = 2; going; ) {
                going = 0;
                writers.forEach((writer, at) => {
                    const { value, done } = writer.next();
                    if (done) return;
                    going++;
                    woven[at].push(value);
                    const begin = woven[0].slice(0, 2).map(({ id }) => id);
                    engine.alternatives({ ...requests[at], begin });
                });
            }
            return [alone, woven];
        }""",
    )
    assert woven == alone


def test_alternatives_are_the_likeliest_before_and_after_the_samplers(page, mixed):
    run = Run.load(mixed)
    load_run(page, run)
    found = call(
        page,
        """() => {
            const request = { prompt: "", options: { top_k: 3, forbid: [5] }, seed: 0n };
            const [token] = engine.write(request);
            return [engine.alternatives(request), token];
        }""",
    )
    alternatives, token = found
    backend = load(mixed).generator.backend
    logits = backend.prefill(np.array([[run.tokenizer.stop_id]]), np.array([1]))[0][0]
    p = np.exp(logits.astype(np.float64))
    order = np.argsort(-p, kind="stable")
    shown = [other["id"] for other in alternatives]
    assert set(order[:12].tolist()) <= set(shown)
    assert shown == sorted(shown, key=lambda token_id: -p[token_id])
    for other in alternatives:
        assert other["before"] == pytest.approx(p[other["id"]], abs=1e-6)
        assert other["text"] == ("" if not other["id"] else run.tokenizer.texts([other["id"]])[0])
    kept = [token_id for token_id in order.tolist() if token_id != 5][:3]
    assert {other["id"] for other in alternatives if other["after"]} == set(kept)
    assert sum(other["after"] for other in alternatives) == pytest.approx(1)
    assert token["before"] == pytest.approx(p[token["id"]], abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lowercase", [False, True])
def test_own_tokenizers_read_and_spell_as_in_python(page, tmp_path, kind, lowercase):
    run = make_run(tmp_path / "run", SMALL["rnn"], kind, lowercase=lowercase)
    tokenizer = run.tokenizer
    load_run(page, run)
    texts = [*DOCUMENTS, "", *list(texts_of_all_scripts())[::3], "[UNK] [END OF TEXT]<|endoftext|>"]
    found = call(page, "texts => texts.map((text) => engine.tokenize({ text }))", texts)
    wanted = [ids.tolist() for ids in tokenizer.encode_batch(texts)]
    for text, mine, theirs in zip(texts, wanted, found, strict=True):
        assert theirs["ids"] == mine, text
    pieces = call(
        page,
        """rows => rows.map((ids) => {
            const decoder = engine.tokenizer.decoder();
            return [...ids.map((id) => decoder.push(id)), decoder.flush()];
        })""",
        wanted,
    )
    for ids, theirs in zip(wanted, pieces, strict=True):
        decoder = tokenizer.decoder()
        assert theirs == [*map(decoder.push, ids), decoder.flush()]


@pytest.mark.parametrize("kind", ["word", "bpe"])
def test_tokens_in_any_order_are_spelled_as_in_python(page, tmp_path, kind):
    """Bytes in an order that is no UTF-8, and marks in one that is no language."""
    run = make_run(tmp_path / "run", SMALL["rnn"], kind)
    load_run(page, run)
    rows = np.random.default_rng(0).integers(run.tokenizer.vocab_size, size=(300, 30)).tolist()
    texts = call(
        page,
        """rows => rows.map((ids) => {
            const decoder = engine.tokenizer.decoder();
            return [...ids.map((id) => decoder.push(id)), decoder.flush()].join("");
        })""",
        rows,
    )
    # Joined: of half a surrogate pair in UTF-8, Python waits for a third byte before it refuses it.
    assert texts == list(map(run.tokenizer.decode, rows))


@pytest.mark.parametrize("cut", CUTS)
def test_text_is_cut_as_pretrained_tokenizers_cut_it(page, cut):
    rust = pipeline(Treatment("bpe", False, "tokens", cut)).pre_tokenizer
    texts = list(texts_of_all_scripts())
    pieces = call(
        page,
        """([cut, texts]) => {
            const tokenizer = new Tokenizer({ kind: "bpe", cut, stop_id: 0, tokens: [] });
            const found = [];
            tokenizer.merge = (piece) => (found.push(piece), []);
            return texts.map((text) => (found.length = 0, tokenizer.encode(text), [...found]));
        }""",
        [cut, texts],
    )
    for text, theirs in zip(texts, pieces, strict=True):
        spans = [span for _, span in rust.pre_tokenize_str(text)]
        assert theirs == [text[start:end] for start, end in spans], text


def test_a_vocabulary_that_needs_no_merges_for_whole_pieces(page):
    ids = call(
        page,
        """() => {
            const tokens = ["a", "b", "c", "abc", "ab"];
            const described = { kind: "bpe", cut: "qwen2", stop_id: 9, tokens, merges: ["a b"] };
            const read = (ignore_merges) =>
                new Tokenizer({ ...described, ignore_merges }).encode("abc").ids;
            return [read(true), read(false)];
        }""",
    )
    assert ids == [[3], [4, 2]]


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"options": {"temperature": -1}}, "temperature cannot be -1"),
        ({"options": {"top_p": 0}}, "top p cannot be 0"),
        ({"options": {"min_new_tokens": 9, "max_new_tokens": 3}}, "should not exceed the most"),
        ({"seed": str(2**64)}, "is not in 0 … 2^64-1"),
        ({"prompt": "\ud800"}, "half a character"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_sentence(page, mixed, request_, sentence):
    load_run(page, Run.load(mixed))
    told = call(
        page,
        """({ seed, ...request }) => {
            try {
                engine.write({ prompt: "", seed: BigInt(seed ?? 0), ...request }).next();
            } catch (error) {
                return error.message;
            }
        }""",
        request_,
    )
    assert sentence in told
