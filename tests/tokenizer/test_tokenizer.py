import gzip
import itertools
import json
import random
import string
import sys
import tracemalloc

import numpy as np
import pytest
import tokenizers
from pydantic import ValidationError

from textwright.errors import TokenizerError
from textwright.tokenizer import Tokenizer, TokenizerOptions, treatment
from textwright.tokenizer.tokenizer import LONGEST_WORD, _without_long_words

TEXT = (
    'Recipe for Naïve-Soup | Heat 1/2 cup (of) stock; don\'t "boil" it.\n'
    "\tÀ la carte: ΣΊΣΥΦΟΣ, İstanbul, 中文字, 🍳 and a\u00a0no-break space \\ or two\r\n\n"
)
SPELLED = "[UNK] [STOP] [END OF TEXT] <|endoftext|> END OF TEXT"
WHITE_SPACE = "".join(c for c in map(chr, range(sys.maxunicode + 1)) if c.isspace())

OPTIONS = [
    TokenizerOptions(kind=kind, lowercase=lowercase, punctuation=punctuation, vocab_size=500)
    for kind, punctuation in [
        ("word", "tokens"),
        ("word", "drop"),
        ("char", "tokens"),
        ("bpe", "tokens"),
        ("symbols", "tokens"),
    ]
    for lowercase in (False, True)
]


def name(options: TokenizerOptions) -> str:
    return f"{options.kind}-{options.punctuation}{'-lowercase' * options.lowercase}"


every_treatment = pytest.mark.parametrize("options", OPTIONS, ids=name)


def trained(kind: str, *documents: str, vocab_size: int = 500, **options: object) -> Tokenizer:
    options = {"kind": kind, "vocab_size": vocab_size, **options}
    return Tokenizer.train(TokenizerOptions(**options), documents or [TEXT])


def odd_texts(count: int = 60) -> list[str]:
    """Strings of letters, marks and white space in odd places, from many scripts."""
    draw = random.Random(1)
    letters = "aBÇσΣς中🍳e\u0301\u200bİ\u0130ß９1" + string.punctuation + WHITE_SPACE
    texts = ["".join(draw.choices(letters, k=draw.randrange(1, 80))) for _ in range(count)]
    return [*texts, "", " ", TEXT, SPELLED, WHITE_SPACE, string.punctuation]


# --- What becomes a token


def test_words_stand_between_white_space_and_every_ascii_punctuation_mark():
    words = trained("word", TEXT + string.punctuation)
    text = "a" + "a".join(string.punctuation) + "a"
    assert words.tokens(words.encode(text)) == list("a" + "a".join(string.punctuation) + "a")


def test_case_is_kept_unless_lowercase_is_asked_for():
    assert trained("word", "Salt SALT salt").id_of("SALT") is not None
    lowered = trained("word", "Salt SALT salt", lowercase=True)
    assert lowered.encode("SALT").tolist() == [2]
    assert lowered.vocab_size == 3


def test_dropped_punctuation_parts_words_as_a_space_does():
    words = trained("word", "all-purpose flour, don't", punctuation="drop")
    tokens = words.tokens(words.encode("all-purpose flour, don't"))
    assert tokens == ["all", "purpose", "flour", "don", "t"]


def test_characters_of_any_script_and_line_breaks_are_tokens():
    characters = trained("char", "ab\n中🍳")
    assert characters.tokens(characters.encode("\n中🍳")) == ["\n", "中", "🍳"]


def test_symbols_are_whatever_stands_between_white_space():
    symbols = trained("symbols", "C#4 (rest) C#4\tD,5")
    assert symbols.tokens(symbols.encode("D,5 C#4 (rest)")) == ["D,5", "C#4", "(rest)"]


# --- Vocabulary


@pytest.mark.parametrize("kind", ["word", "char", "symbols"])
def test_stop_is_0_unknown_is_1_and_ids_fall_with_frequency_then_by_code_point(kind):
    tokenizer = trained(kind, "d d d b a b a c" if kind != "char" else "dddbabac")
    assert (tokenizer.stop_id, tokenizer.unknown_id) == (0, 1)
    assert tokenizer.tokens(range(2, 6)) == ["d", "a", "b", "c"]


def test_vocabulary_size_counts_stop_and_unknown():
    words = trained("word", " ".join(f"w{n}" for n in range(100)), vocab_size=12)
    assert words.vocab_size == 12
    assert words.id_of("w17") == 11  # the tenth by code point: w0 w1 w10 .. w17
    assert words.encode("w0 w99").tolist() == [2, 1]


def test_rare_words_are_left_out_when_asked():
    words = trained("word", "twice twice once", min_frequency=2)
    assert words.encode("once twice").tolist() == [1, 2]


@every_treatment
def test_order_of_documents_does_not_matter(options):
    documents = [text for text in odd_texts() if text]
    forward = Tokenizer.train(options, documents)
    assert forward.fingerprint == Tokenizer.train(options, reversed(documents)).fingerprint


def test_bpe_holds_all_bytes_and_learns_frequent_pairs():
    bpe = trained("bpe", "the thin thing " * 20, vocab_size=260)
    assert bpe.stop_id == 0
    assert bpe.unknown_id is None
    assert bpe.vocab_size == 260
    assert bpe.id_of("th") is not None


def test_bpe_learns_a_long_text_without_white_space_in_pieces():
    """Learned whole, 100,000 letters would take seconds, and a genome hours."""
    letters = "".join(np.random.default_rng(0).choice(list("ACGT"), 100_000))
    tokenizer = Tokenizer.train(
        TokenizerOptions(kind="bpe", vocab_size=400), [f"one two\n {letters}"]
    )
    assert tokenizer.vocab_size == 400
    assert tokenizer.decode(tokenizer.encode(letters)) == letters
    pieces = list(_without_long_words(f"one two\n {letters} \n"))
    assert "".join(pieces) == f"one two\n {letters} \n"
    assert max(map(len, pieces)) <= LONGEST_WORD + 2


def test_bpe_merges_nothing_that_occurs_once():
    assert trained("bpe", "each pair once").vocab_size == 257


# --- Ids and text


@every_treatment
def test_fast_path_and_saved_pipeline_agree_on_odd_texts(options, tmp_path):
    tokenizer = Tokenizer.train(options, odd_texts())
    tokenizer.save(tmp_path / "tokenizer.json")
    plain = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    texts = odd_texts(200)
    for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
        assert ids.dtype == np.int64
        assert ids.tolist() == plain.encode(text).ids
        assert ids.tolist() == [token_id for token_id, _, _ in tokenizer.spans(text)]


@every_treatment
def test_cutting_long_texts_does_not_change_their_ids(options, monkeypatch):
    tokenizer = Tokenizer.train(options, [TEXT, *odd_texts()])
    text = " \n".join([TEXT, *odd_texts(), TEXT])
    ids, spans = tokenizer.encode(text), tokenizer.spans(text)
    monkeypatch.setattr(treatment, "STRETCH", 7)
    monkeypatch.setattr("textwright.tokenizer.tokenizer._BATCH", 50)
    assert len(list(treatment.cut(text, tokenizer.treatment))) > 20
    assert tokenizer.encode(text).tolist() == ids.tolist()
    assert tokenizer.spans(text) == spans


@every_treatment
def test_no_text_is_encoded_to_the_stop_id(options):
    # Trained on it, so that frequent spellings of the special tokens are in the vocabulary.
    tokenizer = Tokenizer.train(options, [SPELLED * 50])
    for text in [SPELLED, *SPELLED.split(), SPELLED.lower(), SPELLED.replace(" ", "")]:
        assert 0 not in tokenizer.encode(text)


def test_byte_level_bpe_restores_every_text():
    bpe = trained("bpe")
    assert bpe.lossless
    for text in [*odd_texts(), SPELLED]:
        assert bpe.decode(bpe.encode(text)) == text


def test_characters_seen_in_training_are_restored():
    characters = trained("char")
    assert characters.decode(characters.encode(TEXT)) == TEXT


@pytest.mark.parametrize("kind", ["word", "char", "symbols"])
def test_unseen_text_becomes_unknown_so_only_bytes_are_lossless(kind):
    assert not trained(kind).lossless
    assert trained(kind, "a b").encode("ж").tolist() == [1]
    assert not trained("bpe", lowercase=True).lossless


def test_unknown_words_are_listed_once_each_as_the_text_spells_them():
    words = trained("word", "heat the oven", lowercase=True)
    assert words.unknown("Heat QUINOA, the Miso-oven, quinoa QUINOA") == [
        "QUINOA",
        ",",
        "Miso",
        "-",
        "quinoa",
    ]
    assert trained("char", "abc").unknown("a中b中🍳") == ["中", "🍳"]
    assert trained("bpe", "abc").unknown("中🍳") == []


def test_spans_point_at_the_characters_each_token_stands_for():
    words = trained("word", lowercase=True)
    text = "  Ünknown: HEAT  1/2 🍳cup"
    found = [(words.tokens([i])[0], text[start:end]) for i, start, end in words.spans(text)]
    assert found == [
        ("[UNK]", "Ünknown"),
        (":", ":"),
        ("heat", "HEAT"),
        ("1", "1"),
        ("/", "/"),
        ("2", "2"),
        ("[UNK]", "🍳cup"),
    ]
    # The capital İ lower-cases to two letters, which share its place.
    assert [span[1:] for span in trained("char", lowercase=True).spans("aİb")] == [
        (0, 1),
        (1, 2),
        (1, 2),
        (2, 3),
    ]


@every_treatment
def test_starts_are_those_of_the_spans(options, monkeypatch):
    tokenizer = Tokenizer.train(options, [TEXT, *odd_texts()])
    monkeypatch.setattr(treatment, "STRETCH", 7)
    for text in ("", " \n".join([TEXT, *odd_texts()])):
        starts = tokenizer.starts(text)
        assert starts.dtype == np.int64
        assert starts.tolist() == [start for _, start, _ in tokenizer.spans(text)]


def test_starts_take_little_more_memory_than_their_array(monkeypatch):
    monkeypatch.setattr(treatment, "STRETCH", 1 << 12)
    tokenizer = trained("word")
    text = "Heat the soup. " * 20_000
    tracemalloc.start()
    starts = tokenizer.starts(text)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert starts.nbytes == 8 * 80_000
    assert most < 5 * starts.nbytes  # a list of the spans takes three times that


@every_treatment
def test_empty_text_encodes_to_no_ids_and_back(options):
    tokenizer = Tokenizer.train(options, [TEXT])
    assert tokenizer.encode("").shape == (0,)
    assert tokenizer.encode("").dtype == np.int64
    assert tokenizer.encode_batch([]) == []
    assert tokenizer.decode([]) == ""


# --- Text again, piece by piece


@every_treatment
def test_pieces_put_together_are_the_decoded_text_wherever_the_prompt_ends(options):
    tokenizer = Tokenizer.train(options, [TEXT])
    draw = random.Random(2)
    for _ in range(30):
        ids = draw.choices(range(tokenizer.vocab_size), k=60)
        decoder = tokenizer.decoder()
        pieces = [decoder.push(token_id) for token_id in ids] + [decoder.flush()]
        assert "".join(pieces) == tokenizer.decode(ids)

        end = draw.randrange(60)
        late, pieces = tokenizer.decoder(ids[:end]), pieces[end:]
        assert [late.push(token_id) for token_id in ids[end:]] + [late.flush()] == pieces


def test_half_a_character_is_held_back():
    bpe = trained("bpe", "abc")
    ids = bpe.encode("é🍳")
    assert len(ids) == 6
    decoder = bpe.decoder()
    assert [decoder.push(token_id) for token_id in ids] == ["", "é", "", "", "", "🍳"]
    decoder = bpe.decoder()
    assert [decoder.push(ids[0]), decoder.flush()] == ["", "\ufffd"]


def test_bytes_that_are_no_text_decode_as_in_the_plain_library(tmp_path):
    bpe = trained("bpe", TEXT)
    bpe.save(tmp_path / "tokenizer.json")
    plain = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    draw = random.Random(3)
    for _ in range(200):
        ids = draw.choices(range(1, bpe.vocab_size), k=20)
        assert bpe.decode(ids) == plain.decode(ids)


@pytest.mark.parametrize("kind", ["word", "char", "bpe", "symbols"])
def test_stop_ids_give_no_text(kind):
    tokenizer = trained(kind)
    ids = tokenizer.encode("Heat stock").tolist()
    assert tokenizer.decode([0, *ids[:1], 0, *ids[1:], 0]) == tokenizer.decode(ids)


READABLE = [
    "Heat 1/2 cup all-purpose flour, salt and pepper; stir.",
    'Recipe for "Soup" | (don\'t boil [it] yet) Rinse! Why? At 350: 10 minutes.',
    "Use a 9 x 13\" pan; she said, \"It's done, 'truly' done.\" Then rest.",
    "1,000 dollars is $1,000, not 1.5, at 10:30 on 4/5, e.g. 20% off",
    "Use 1 1/2-inch pieces, each 1/8\"-wide. In 2004, 10 men's dogs.",
    "Take a 3- to 4-quart pot, a 24- by 3-inch strip, an up-to-date all-in-one dish.",
    "equal rights--are not so much",
    "salt & pepper + oil = dressing #1 {a} the _middle_ way",
    "Nero d'Avola we've they'll o'clock",
    "confectioners' sugar",
    "中文字, été!",
]


@pytest.mark.parametrize("text", READABLE)
def test_words_are_joined_readably(text):
    words = trained("word", text)
    assert words.decode(words.encode(text)) == text


def test_tokens_have_readable_texts_and_show_the_bytes_of_incomplete_characters():
    tokenizer = trained("bpe", "crème brûlée, the crème " * 9, vocab_size=280)
    ids = tokenizer.encode("the crème 中").tolist()
    assert "Ġ" in "".join(tokenizer.tokens(ids))
    assert "".join(tokenizer.texts(ids)) == "the crème \\xe4\\xb8\\xad"
    assert tokenizer.texts([tokenizer.stop_id]) == ["<|endoftext|>"]
    words = trained("word")
    assert words.texts(range(9)) == words.tokens(range(9))


def test_raw_tokens_are_available():
    words = trained("word", "salt, pepper")
    assert words.tokens(words.encode("salt, thyme")) == ["salt", ",", "[UNK]"]
    assert words.decode(words.encode("salt, thyme")) == "salt, [UNK]"


# --- The file


@every_treatment
def test_the_file_alone_restores_the_tokenizer(options, tmp_path):
    before = Tokenizer.train(options, [TEXT])
    before.save(tmp_path / "tokenizer.json")
    after = Tokenizer.load(tmp_path / "tokenizer.json")
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]
    for attribute in ("kind", "vocab_size", "stop_id", "unknown_id", "lossless", "fingerprint"):
        assert getattr(before, attribute) == getattr(after, attribute)
    for text in odd_texts():
        ids = before.encode(text)
        assert ids.tolist() == after.encode(text).tolist()
        assert before.decode(ids) == after.decode(ids)
        assert before.unknown(text) == after.unknown(text)


def test_different_tokenizers_have_different_fingerprints():
    tokenizers_ = [Tokenizer.train(options, [TEXT]) for options in OPTIONS]
    tokenizers_ += [trained("word", TEXT + " more"), trained("bpe", vocab_size=258)]
    for one, other in itertools.combinations(tokenizers_, 2):
        assert one.fingerprint != other.fingerprint


def damaged(kind: str) -> list[str]:
    whole = trained(kind)._rust.to_str()
    content = json.loads(whole)
    content["model"]["vocab"].popitem()
    gap = json.dumps({**content, "model": {**content["model"], "vocab": {"a": 7}}})
    foreign = tokenizers.Tokenizer(tokenizers.models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    return ["", "{", "[]", "{}", whole[: len(whole) // 2], gap, foreign.to_str()]


@pytest.mark.parametrize("kind", ["word", "char", "bpe", "symbols"])
def test_a_damaged_file_is_named_with_what_to_do(kind, tmp_path):
    path = tmp_path / "tokenizer.json"
    for written in damaged(kind):
        path.write_text(written, encoding="utf-8")
        with pytest.raises(
            TokenizerError, match=r"tokenizer\.json is damaged.*train the run again"
        ):
            Tokenizer.load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(TokenizerError, match=r"Cannot read the tokenizer .*tokenizer\.json"):
        Tokenizer.load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TokenizerError, match=r"No tokenizer at .*nowhere\.json"):
        Tokenizer.load(tmp_path / "nowhere.json")


# --- Refusals


@pytest.mark.parametrize("kind", ["word", "char", "bpe", "symbols"])
@pytest.mark.parametrize("documents", [[], [""], ["", " \n"]])
def test_empty_documents_teach_no_vocabulary(kind, documents):
    with pytest.raises(TokenizerError, match="no text to learn a vocabulary from"):
        Tokenizer.train(TokenizerOptions(kind=kind), documents)


def test_an_empty_vocabulary_is_refused():
    with pytest.raises(TokenizerError, match=r"occurs 2 times.*Lower min_frequency"):
        trained("word", "each word once", min_frequency=2)
    with pytest.raises(TokenizerError, match=r"Nothing in the corpus occurs even once,"):
        trained("word", "... !", punctuation="drop")


@every_treatment
def test_half_a_surrogate_pair_is_refused_with_its_place(options):
    tokenizer = Tokenizer.train(options, [TEXT])
    for use in (tokenizer.encode, tokenizer.spans, lambda text: Tokenizer.train(options, [text])):
        with pytest.raises(TokenizerError, match=r"half a character \('\\ud83c' at 3\)"):
            use("an \ud83c egg")


def test_an_error_raised_by_the_documents_reaches_the_caller():
    def documents():
        yield TEXT
        raise OSError("the disk is gone")

    for options in OPTIONS:
        with pytest.raises(OSError, match="the disk is gone"):
            Tokenizer.train(options, documents())


def test_options_that_cannot_work_are_refused():
    with pytest.raises(ValidationError, match="needs at least 257"):
        TokenizerOptions(kind="bpe", vocab_size=256)
    with pytest.raises(ValidationError, match="punctuation = drop is for kind word"):
        TokenizerOptions(kind="char", punctuation="drop")


# --- The real recipes


@pytest.mark.corpora
def test_the_commonest_words_of_the_recipes_are_the_published_ones(corpora):
    with gzip.open(corpora / "epicurious_recipes.json.gz", "rt", encoding="utf-8") as file:
        recipes = json.load(file)
    words = Tokenizer.train(
        TokenizerOptions(kind="word", lowercase=True, vocab_size=10_000),
        (
            f"Recipe for {recipe['title']} | {' '.join(recipe['directions'])}"
            for recipe in recipes
            if recipe["title"] and recipe["directions"]
        ),
    )
    assert words.vocab_size == 10_000
    assert words.tokens(range(2, 10)) == [".", ",", "and", "to", "in", "the", "with", "a"]
