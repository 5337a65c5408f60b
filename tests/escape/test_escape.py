import gzip
import json
import math
import os
import random
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from textwright import grammar
from textwright.errors import RunError
from textwright.escape import EscapeCode
from textwright.escape.arithmetic import ArithmeticDecoder, ArithmeticEncoder, BitCounter
from textwright.escape.fit import Seen
from textwright.escape.ladder import Ladder
from textwright.tokenizer import Tokenizer, TokenizerOptions

NOTES = list(grammar.documents(300, seed=5))
ODD = [
    "İstanbul ŉ ß ẞ ǅ ﬁ Σίσυφος ΣΊΣΥΦΟΣ",
    "e\u0301 E\u0301 👩‍🍳🍲 naïve CAFÉ\u00a0au\u2003lait",
    "One\r\nTwo\tthree  four\n\n\nfive.",
    'MiXeD cAsE wOrDs iPhone \'Tis "so"—no?! ...---!!!',
    "[UNK] [END OF TEXT] <|endoftext|> \\ {brace} 12,5 % a1B2",
]
KINDS = [
    {"kind": "word", "lowercase": True, "vocab_size": 150},
    {"kind": "word", "lowercase": True, "punctuation": "drop"},
    {"kind": "word", "vocab_size": 100},
    {"kind": "symbols", "lowercase": True, "min_frequency": 3},
    {"kind": "char", "vocab_size": 30},
    {"kind": "char", "lowercase": True},
    {"kind": "bpe", "lowercase": True, "vocab_size": 400},
    {"kind": "bpe", "vocab_size": 400},
]


def fitted(**options) -> EscapeCode:
    tokenizer = Tokenizer.train(TokenizerOptions(**options), NOTES + ODD)
    return EscapeCode.fit(tokenizer, NOTES + ODD)


CODES = {str(options): fitted(**options) for options in KINDS}
WORDS = fitted(kind="word", lowercase=True)

pieces = st.sampled_from(re.findall(r"\w+|\W", " ".join(NOTES[:5] + ODD)))
texts = st.one_of(
    st.text(max_size=40),
    st.lists(st.one_of(pieces, pieces.map(str.upper), st.text(max_size=3)), max_size=40).map(
        "".join
    ),
)


def check(code: EscapeCode, document: str) -> None:
    bits = code.bits(document)
    ids, side = code.encode(document)
    length = code.code_length(document)
    assert code.decode(ids, side) == document
    assert ids == code.tokenizer.encode(document).tolist()
    assert len(side) == math.ceil(length / 8)
    assert bits - 1e-6 <= length <= bits + 2


@pytest.mark.parametrize("name", CODES)
@settings(max_examples=40, deadline=None, database=None)
@given(document=texts)
@example(document="")
@example(document=" \n")
@example(document="".join(ODD))
@example(document="I\u0307İi\u0307 ß SS ŉ")
@example(document="\x1c\x85\u2028\ufeff\x00")
def test_any_document_comes_back_within_two_bits_of_the_charge(name, document):
    check(CODES[name], document)


@pytest.mark.parametrize("name", CODES)
@settings(max_examples=20, deadline=None, database=None)
@given(document=texts)
@example(document="".join(ODD))
def test_a_document_is_divided_where_the_tokenizer_divides_it(name, document):
    code = CODES[name]
    ids, surfaces, gaps = code.division.parse(document)
    spans = code.tokenizer.spans(document)
    assert list(ids) == [token for token, _, _ in spans]
    assert gaps[0] + "".join(s + g for s, g in zip(surfaces, gaps[1:], strict=True)) == document
    if code.tokenizer.kind in ("word", "symbols"):
        assert surfaces == [document[start:end] for _, start, end in spans]


def test_a_long_document_comes_back_within_two_bits_of_the_charge():
    check(CODES[str(KINDS[0])], " ".join(NOTES + ODD))


@pytest.mark.parametrize("name", CODES)
def test_what_is_kept_of_a_long_document_is_bounded_and_changes_no_charge(name, monkeypatch):
    code = CODES[name]
    document = " ".join(NOTES + ODD)
    bits = code.bits(document)
    monkeypatch.setattr("textwright.escape.code.MOST_KNOWN", 5)
    again = EscapeCode(code.tokenizer, code.ladders)
    assert again.bits(document) == bits
    assert max(len(again._surface_bits), len(again._gap_bits)) <= 5


def test_lossless_tokenizers_pay_nothing():
    bpe, char = fitted(kind="bpe", vocab_size=300), fitted(kind="char")
    assert all(bpe.bits(text) == 0.0 and bpe.encode(text)[1] == b"" for text in [*ODD, "ж", ""])
    assert all(char.bits(text) == 0.0 and char.encode(text)[1] == b"" for text in ODD)


def test_a_character_never_seen_pays_its_spelling_only():
    char = fitted(kind="char")
    one, two = char.bits("so ж"), char.bits("жso ж")
    assert one > 8
    assert two == pytest.approx(2 * one)


def test_words_that_keep_their_case_pay_nothing_for_it():
    kept = fitted(kind="word")
    assert kept.bits("Peel 3 carrots") == kept.bits("peel 3 carrots")
    usual, unusual, odd = map(WORDS.bits, ["two. Peel 3", "two. peel 3", "two. pEEl 3"])
    assert usual < unusual < odd


def test_usual_text_is_cheap_and_unusual_text_is_not():
    note = next(grammar.documents(1, seed=77))
    assert WORDS.bits(note) < 0.05 * len(note)
    assert WORDS.bits(note.replace(" and ", "  and ")) > WORDS.bits(note) + 5
    assert WORDS.bits(note.upper()) > WORDS.bits(note) + 50
    assert WORDS.bits(note.replace("oil", "linseedoil")) >= WORDS.bits(note)


def test_an_unknown_word_is_cheaper_when_it_looks_like_the_language():
    # No word was unknown when this code was fitted.
    assert WORDS.tokenizer.unknown(" ".join(NOTES)) == []
    assert WORDS.bits("carrotions") < WORDS.bits("xqzvwkjhgf") - 10


def test_the_charge_follows_from_the_published_formula():
    # Two words, always lower case, always one space: each number can be worked out by hand.
    documents = ["ab cd"] * 20
    tokenizer = Tokenizer.train(TokenizerOptions(kind="word", lowercase=True), documents)
    code = EscapeCode.fit(tokenizer, documents)
    # Both words are lower case 40 times; no context of one word does better than all together.
    case = 2 * math.log2((2 * 40 + 1 + 1) / (2 * 40 + 1))
    # Gaps: "" at the edges, " " between, 20 times each, distinguished by the shapes or the tokens.
    gaps = 3 * math.log2((2 * 20 + 1 + 1) / (2 * 20 + 1))
    assert code.bits("ab cd") == pytest.approx(case + gaps)


def test_ladder_keeps_a_long_context_only_where_it_pays():
    counts = {("q", "x"): {"u": 50}, ("a", "x"): {"u": 1, "t": 2}, ("b", "x"): {"u": 3, "t": 3}}
    counts |= {(str(i), "x"): {"t": 5, "u": 5} for i in range(9)}
    ladder = Ladder.fit(counts, [lambda c: c[1:], lambda c: ()], "tuv")
    assert list(ladder.tables[0]) == [("q", "x")]
    [below] = [table for table in ladder.tables[1:] if table]
    # The one symbol of ("q", "x") reaches the shorter context once.
    assert sum(sum(c.values()) for c in below.values()) == 1 + 3 + 6 + 90


@settings(deadline=None, database=None)
@given(
    st.lists(
        st.lists(st.integers(1, 1 << 30), min_size=1, max_size=4).flatmap(
            lambda shares: st.tuples(st.just(shares), st.integers(0, len(shares) - 1))
        )
    ),
    st.text("01", max_size=80),
)
def test_arithmetic_coder_is_exact_whatever_digits_follow(choices, after):
    encoder, cost = ArithmeticEncoder(), BitCounter()
    for shares, chosen in choices:
        for writer in (encoder, cost):
            writer.write(sum(shares[:chosen]), shares[chosen], sum(shares))
    digits = encoder.finish()
    assert cost.bits - 1e-6 <= len(digits) <= cost.bits + 2
    decoder = ArithmeticDecoder(digits + after)
    for shares, chosen in choices:
        target = decoder.target(sum(shares))
        low = sum(shares[:chosen])
        assert low <= target < low + shares[chosen]
        decoder.take(low, shares[chosen], sum(shares))


@pytest.mark.parametrize("name", ["escape.json", "escape.json.gz"])
def test_a_saved_code_charges_the_same(tmp_path, name):
    code = CODES[str(KINDS[0])]
    code.save(tmp_path / name)
    loaded = EscapeCode.load(tmp_path / name, code.tokenizer)
    first = (tmp_path / name).read_bytes()
    assert (first[:2] == b"\x1f\x8b") == name.endswith(".gz")
    for text in NOTES[:3] + ODD:
        assert loaded.bits(text) == code.bits(text)
        assert loaded.encode(text) == code.encode(text)
    loaded.save(tmp_path / name)
    assert (tmp_path / name).read_bytes() == first


def test_the_code_depends_on_counts_and_not_on_the_order_of_documents(tmp_path):
    shuffled = random.Random(1).sample(NOTES + ODD, len(NOTES + ODD))
    code = CODES[str(KINDS[0])]
    EscapeCode.fit(code.tokenizer, shuffled).save(tmp_path / "a.json")
    code.save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_file_that_does_not_fit_is_refused_with_a_reason(tmp_path):
    path = tmp_path / "escape.json"
    tokenizer = WORDS.tokenizer
    with pytest.raises(RunError, match=r"No escape code at .* fit it again"):
        EscapeCode.load(path, tokenizer)
    WORDS.save(path)
    whole = path.read_bytes()
    other = CODES[str(KINDS[1])].tokenizer
    with pytest.raises(RunError, match="fitted for another tokenizer"):
        EscapeCode.load(path, other)
    newer = json.loads(whole) | {"version": 99}
    path.write_text(json.dumps(newer))
    with pytest.raises(RunError, match="version 99"):
        EscapeCode.load(path, tokenizer)
    damaged = [whole[: len(whole) // 2], gzip.compress(whole)[:50], b"\xff", b"[]", b"{}"]
    missing = {key: value for key, value in json.loads(whole).items() if key != "case"}
    for content in [*damaged, json.dumps(missing).encode()]:
        path.write_bytes(content)
        with pytest.raises(RunError, match="damaged"):
            EscapeCode.load(path, tokenizer)


def test_fitting_forgets_the_rarest_but_still_restores_everything():
    code = CODES[str(KINDS[0])]
    noise = random.Random(2)
    spaces = ["".join(noise.choices(" \t\n\r", k=noise.randint(1, 20))) for _ in range(900)]
    documents = [f"{noise.choice(NOTES)}{gap}{noise.choice(NOTES)}" for gap in spaces]
    seen = Seen(code.division, limit=200)
    for document in documents:
        seen.add(document)
        assert len(seen.triples) <= 200 and len(seen.surfaces) <= 200
    small = EscapeCode(code.tokenizer, seen.ladders())
    assert sum(len(table) for table in small.ladders["spacing"].tables) < 1000
    for document in documents[:20] + ODD:
        check(small, document)


def test_empty_training_text_still_gives_a_code():
    code = EscapeCode.fit(CODES[str(KINDS[0])].tokenizer, [])
    for text in ["", " ", *ODD]:
        check(code, text)


@pytest.mark.corpora
def test_recipes_cost_little_and_come_back():
    folder = os.environ.get("TEXTWRIGHT_CORPORA")
    if not folder:
        pytest.skip("set TEXTWRIGHT_CORPORA to the folder of the real corpora")
    with gzip.open(Path(folder) / "epicurious_recipes.json.gz", "rt", encoding="utf-8") as file:
        recipes = [r for r in json.load(file) if r["title"] and r["directions"]]
    texts = [f"Recipe for {r['title']} | {' '.join(r['directions'])}" for r in recipes]
    random.Random(0).shuffle(texts)
    held_out, train = texts[:300], texts[300:2300]
    tokenizer = Tokenizer.train(
        TokenizerOptions(kind="word", lowercase=True, vocab_size=10_000), train
    )
    code = EscapeCode.fit(tokenizer, train)
    assert 0.02 < sum(map(code.bits, held_out)) / sum(map(len, held_out)) < 0.06
    for text in held_out[:100]:
        check(code, text)
