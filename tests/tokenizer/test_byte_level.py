"""Tokenizers that come with trained weights, beside those that `tokenizers` reads in their files.

Each is made here as its project makes it: the same steps, settings and names of special tokens,
and a vocabulary learned on the kitchen notes and on texts of all scripts.
"""

import json
import re
import shutil
import unicodedata
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import tokenizers
import transformers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)

from textwright import grammar
from textwright.errors import TokenizerError
from textwright.export.tokenizer_file import exported_tokenizer
from textwright.tokenizer import Tokenizer
from textwright.tokenizer.byte_level import read_pretrained, rebuild
from textwright.tokenizer.scripts import texts_of_all_scripts
from textwright.tokenizer.treatment import cut

FORMS = ["gpt-2", "llama-bpe", "qwen2", "qwen35", "smollm"]
every_form = pytest.mark.parametrize("form", FORMS)
STOP = "<|endoftext|>"
OF_LLAMA = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
WHOLE = "Ġpersimmons"  # an entry of Llama 3 that no merge makes
# Line breaks, runs of spaces and numbers, which become tokens of the vocabularies.
LINES = "end.\n\nNext:\n\n\n  \n\tand\t\tso  on...\r\n\r\n123 45\n\n"
CONTROLS = "\x04\x13\U00040000"  # SmolLM2's vocabulary lacks their bytes, \xc0 and \xff

LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())

pieces = st.sampled_from(
    [
        *(
            " ",
            "  ",
            "\n",
            "\r\n",
            "\r",
            "\t",
            "\u00a0",
            "\u2003",
            "\u2028",
            "\x1c",
            "\x85",
            "\u3000",
        ),
        *(
            "1",
            "23",
            "4567",
            "٣٤",
            "Ⅻ",
            "½",
            "²",
            "'s",
            "'LL",
            "'ſ",
            "’t",
            "'",
            ".",
            "...",
            "?!",
            "—",
        ),
        *(
            "stir",
            "Salt",
            "été",
            "e\u0301",
            "\u0301",
            "日本",
            "ไทย",
            "नी",
            "한글",
            "\u1112\u1161",
            "العربية",
        ),
        *(
            "👩‍👩‍👧",
            "👍🏽",
            "🇺🇳",
            "1️⃣",
            "\u200b",
            "\ufeff",
            "\x00",
            STOP,
            "<|im_end|>",
            " persimmons",
        ),
    ]
)
texts = st.lists(st.one_of(pieces, st.text(max_size=3)), max_size=30).map("".join)


def learned(pre_tokenizer, **options) -> tokenizers.Tokenizer:
    rust = tokenizers.Tokenizer(models.BPE())
    rust.pre_tokenizer, rust.decoder = pre_tokenizer, decoders.ByteLevel()
    alphabet = options.pop("initial_alphabet", pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=alphabet, show_progress=False, **options
    )
    material = [LINES] * 30 + [*grammar.documents(300, seed=1), *list(texts_of_all_scripts())[::7]]
    if "special_tokens" in options:  # as in SmolLM2, whose text had none of these
        material = [text for text in material if not set(CONTROLS) & set(text)]
    rust.train_from_iterator(material, trainer)
    return rust


def split_by(pattern: str) -> pre_tokenizers.PreTokenizer:
    by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False)
    split = pre_tokenizers.Split(Regex(pattern), "isolated", invert=False)
    return pre_tokenizers.Sequence([split, by_bytes])


def parts(rust: tokenizers.Tokenizer) -> tuple[dict[str, int], list[tuple[str, str]]]:
    model = json.loads(rust.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def save_gpt2(folder: Path) -> None:
    vocabulary, merges = parts(learned(pre_tokenizers.ByteLevel(add_prefix_space=False)))
    vocabulary[STOP] = len(vocabulary)
    transformers.GPT2Tokenizer(vocab=vocabulary, merges=merges).save_pretrained(folder)


def save_llama(folder: Path) -> None:
    rust = learned(split_by(OF_LLAMA))
    vocabulary, merges = parts(rust)
    vocabulary[WHOLE] = len(vocabulary)
    rust.model = models.BPE(vocabulary, merges, ignore_merges=True)
    begin, *others = ("begin_of_text", "end_of_text", "reserved_special_token_0", "eot_id")
    named = [AddedToken(f"<|{name}|>", special=True) for name in (begin, *others)]
    rust.add_special_tokens(named)
    first = f"<|{begin}|>"
    template = processors.TemplateProcessing(
        f"{first} $A", special_tokens=[(first, rust.token_to_id(first))]
    )
    rust.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=rust, bos_token=first, eos_token="<|eot_id|>"
    ).save_pretrained(folder)


def save_qwen(folder: Path, kind: type = transformers.Qwen2Tokenizer) -> None:
    pattern = OF_LLAMA.replace("{1,3}", "")
    vocabulary, merges = parts(learned(split_by(pattern)))
    theirs = kind(vocab=vocabulary, merges=merges, eos_token="<|im_end|>")
    theirs.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    theirs.add_tokens(["<think>"])
    theirs.save_pretrained(folder)


def save_smollm(folder: Path) -> None:
    steps = [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True),
    ]
    spelled = pre_tokenizers.ByteLevel.alphabet()
    for lacking in ("\x04", "\x13", "\U00040000"):
        ((letters, _),) = steps[1].pre_tokenize_str(lacking)
        spelled = [letter for letter in spelled if letter != letters[0]]
    special = [STOP, "<|im_start|>", "<|im_end|>", "<repo_name>"]
    rust = learned(
        pre_tokenizers.Sequence(steps),
        special_tokens=special,
        initial_alphabet=[letter for letter in spelled if letter not in "Àÿ"],
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=rust, bos_token="<|im_start|>", eos_token="<|im_end|>", unk_token=STOP
    ).save_pretrained(folder)


SAVE = {
    "gpt-2": save_gpt2,
    "llama-bpe": save_llama,
    "qwen2": save_qwen,
    "qwen35": partial(save_qwen, kind=transformers.Qwen3_5Tokenizer),
    "smollm": save_smollm,
}


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> dict[str, Path]:
    """A folder with a tokenizer for each form. For reading only."""
    folders = {form: tmp_path_factory.mktemp("published") / form for form in FORMS}
    for form, folder in folders.items():
        SAVE[form](folder)
    return folders


@pytest.fixture(scope="module")
def pairs(published) -> dict[str, tuple[Tokenizer, tokenizers.Tokenizer]]:
    """Each form's tokenizer: ours, and the original."""
    return {form: (read_pretrained(folder), plain(folder)) for form, folder in published.items()}


@pytest.fixture
def changed(published, tmp_path):
    """A copy of a form's folder in which the content of tokenizer.json is changed."""

    def change(form: str, edit) -> Path:
        folder = shutil.copytree(published[form], tmp_path / form)
        content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
        edit(content)
        (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")
        return folder

    return change


def plain(folder: Path) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def spellable(text: str, tokenizer: Tokenizer) -> str:
    return tokenizer.unspelled.sub("", text) if tokenizer.unspelled else text


def without_added(rust: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The same tokenizer, which reads `<|endoftext|>` in a text as the letters it is made of."""
    content = json.loads(rust.to_str())
    names = {token["content"]: token["id"] for token in content["added_tokens"]}
    content["model"]["vocab"] |= names
    content["added_tokens"] = []
    return tokenizers.Tokenizer.from_str(json.dumps(content))


def refusal(folder: Path) -> str:
    with pytest.raises(TokenizerError) as raised:
        read_pretrained(folder)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# --- Ids and text


@every_form
@settings(deadline=None)
@given(text=texts)
@example(text="x\n\n y 12345\r\n'S don't.\n\n\t\tz  ")
def test_ids_are_those_of_the_original_and_every_text_is_restored(pairs, form, text):
    ours, original = pairs[form]
    if form.startswith("qwen"):
        text = original.normalizer.normalize_str(text)
    text = spellable(text, ours)
    ids = ours.encode(text).tolist()
    assert ids == without_added(original).encode(text, add_special_tokens=False).ids
    assert ours.decode(ids) == text
    assert [token_id for token_id, _, _ in ours.spans(text)] == ids
    assert ours.unknown(text) == []
    decoder = ours.decoder()
    assert "".join([*map(decoder.push, ids), decoder.flush()]) == text


@every_form
@settings(deadline=None, max_examples=300)
@given(text=texts)
@example(text="end.\n\nNext:\n x\n\n\ny \n.\n\n.  \r\n\r\nz")
def test_stretches_have_the_same_ids_apart_as_together(pairs, form, text):
    ours, _ = pairs[form]
    text = spellable(text, ours)
    ids, spans = ours.encode(text).tolist(), ours.spans(text)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("textwright.tokenizer.treatment.STRETCH", 1)
        patched.setattr("textwright.tokenizer.tokenizer._BATCH", 20)
        stretches = list(cut(text, ours.treatment))
        assert "".join(stretches) == text
        assert ours.encode(text).tolist() == ids
        assert ours.spans(text) == spans
    apart = [ours.encode(stretch).tolist() for stretch in stretches]
    assert [token_id for row in apart for token_id in row] == ids


@every_form
def test_lines_are_stretches(pairs, form):
    ours, _ = pairs[form]
    text = "One line, one stretch\n" * 10_000
    longest = max(map(len, cut(text, ours.treatment)))
    assert longest < (1 << 16) + 30
    chinese = "一行一段。\n" * 20_000
    assert max(map(len, cut(chinese, ours.treatment))) < (1 << 16) + 30


@every_form
def test_the_file_alone_restores_the_tokenizer(pairs, form, tmp_path):
    ours, _ = pairs[form]
    assert ours.treatment.cut == form
    ours.save(tmp_path / "tokenizer.json")
    again, rust = Tokenizer.load(tmp_path / "tokenizer.json"), plain(tmp_path)
    assert (again.fingerprint, again.treatment) == (ours.fingerprint, ours.treatment)
    assert again.stop_id == ours.stop_id == rust.token_to_id(STOP)
    for text in list(texts_of_all_scripts())[::20]:
        text = spellable(text, ours)
        assert again.encode(text).tolist() == rust.encode(text).ids == ours.encode(text).tolist()


def test_forms_differ_in_how_they_cut(pairs):
    text = "\tTwo हिंदी 2024's\n\n"
    hindi = [" ह", "िं", "द", "ी"]  # apart from its vowel signs
    pieces = {form: ours._rust.pre_tokenizer for form, (ours, _) in pairs.items()}
    assert {
        form: [text[slice(*place)] for _, place in piece.pre_tokenize_str(text)]
        for form, piece in pieces.items()
    } == {
        "gpt-2": ["\t", "Two", *hindi, " 2024", "'s", "\n\n"],
        "llama-bpe": ["\tTwo", *hindi, " ", "202", "4", "'s", "\n\n"],
        "qwen2": ["\tTwo", *hindi, " ", "2", "0", "2", "4", "'s", "\n\n"],
        "qwen35": ["\tTwo", " हिंदी", " ", "2", "0", "2", "4", "'s", "\n\n"],
        "smollm": ["\t", "Two", *hindi, " ", "2", "0", "2", "4", "'s", "\n\n"],
    }


def test_a_whole_entry_of_llama_needs_no_merges(pairs):
    ours, _ = pairs["llama-bpe"]
    assert ours.tokens(ours.encode("two persimmons"))[-1] == WHOLE


def test_text_that_is_not_in_nfc_keeps_its_characters(pairs):
    ours, original = pairs["qwen2"]
    apart = unicodedata.normalize("NFD", "crème brûlée")
    assert ours.decode(ours.encode(apart)) == apart
    assert original.decode(original.encode(apart).ids) == "crème brûlée"


def test_a_character_that_the_vocabulary_cannot_spell_is_refused(pairs):
    ours, original = pairs["smollm"]
    for letter in ("\x04", "\x13", "\U00040000", "\U0007ffff"):
        assert letter not in original.decode(original.encode(f"a{letter}b").ids)
        for use in (ours.encode, ours.spans):
            with pytest.raises(TokenizerError, match=r"holds .* at 1, which the vocabulary"):
                use(f"a{letter}b")
    assert pairs["qwen2"][0].unspelled is None


# --- Special tokens


@every_form
def test_no_text_spells_an_added_token(pairs, form):
    ours, original = pairs[form]
    for token_id, token in original.get_added_tokens_decoder().items():
        for text in (token.content, f"a{token.content}\n{token.content} 1", f" {token.content}"):
            assert token_id not in ours.encode(text)
            assert ours.decode(ours.encode(text)) == text
        assert ours.decode([token_id]) == ("" if token_id == ours.stop_id else token.content)


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("gpt-2", STOP),
        ("llama-bpe", "<|end_of_text|>"),
        ("qwen2", STOP),
        ("qwen35", STOP),
        ("smollm", STOP),
    ],
)
def test_the_stop_is_what_ends_a_document(pairs, form, name):
    """And not what ends an answer, which models for chats name as their eos."""
    ours, original = pairs[form]
    assert ours.stop_id == original.token_to_id(name)
    assert ours.tokens([ours.stop_id]) == [STOP]


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("generation_config.json", {"eos_token_id": ["<|eot_id|>", "<|begin_of_text|>"]}),
        ("config.json", {"eos_token_id": "<|eot_id|>"}),
        ("tokenizer_config.json", {"eos_token": "<|eot_id|>"}),
        ("tokenizer_config.json", {"eos_token": {"content": "<|eot_id|>"}}),
    ],
)
def test_else_the_stop_is_the_end_that_a_file_names(changed, file, named):
    def rename(content):
        for token in content["added_tokens"]:
            token["content"] = token["content"].replace("end_of_text", "another")

    folder = changed("llama-bpe", rename)
    (folder / "tokenizer_config.json").unlink()
    assert "no file names its eos token" in refusal(folder)
    original = plain(folder)
    if "eos_token_id" in named:
        ids = [original.token_to_id(name) for name in named["eos_token_id"]]
        named = {"eos_token_id": ids}
        if file == "config.json":
            named = {"eos_token_id": original.token_to_id("<|eot_id|>")}
    (folder / file).write_text(json.dumps(named), "utf-8")
    ours = read_pretrained(folder)
    assert ours.stop_id == original.token_to_id("<|eot_id|>")
    assert ours.tokens([ours.stop_id]) == [STOP]


# --- From lists of tokens and merges


@every_form
def test_tokens_and_merges_are_enough(pairs, form):
    ours, original = pairs[form]
    vocabulary = ours.tokens(range(ours.vocab_size))
    _, merges = parts(ours._rust)
    vocabulary[ours.stop_id] = original.id_to_token(ours.stop_id)
    again = rebuild(vocabulary, [" ".join(pair) for pair in merges], form, "<|unused|>")
    assert again.fingerprint == ours.fingerprint


def test_special_tokens_in_plain_letters_are_spelled_in_bytes():
    ours = rebuild([*LETTERS, "<｜end▁of▁text｜>", "<pad me>"], [], "qwen2", "<pad me>")
    assert ours.decode([256]) == "<｜end▁of▁text｜>"
    assert ours.stop_id == 257


@pytest.mark.parametrize(
    ("vocabulary", "merges", "cut", "message"),
    [
        ([], [], "qwen2", r"its vocabulary lacks"),
        ([*LETTERS, "", STOP], [], "qwen2", r"has no token with the id 256"),
        ([*LETTERS, "a", STOP], [], "qwen2", r"its token 'a' has 2 ids"),
        ([*LETTERS[1:], STOP], [], "qwen2", r"lacks the byte 0x21"),
        ([*LETTERS, STOP], ["a b"], "qwen2", r"ab"),
        ([*LETTERS, "ab", STOP], ["ab"], "qwen2", r"its merge 'ab' does not have two parts"),
        ([*LETTERS, "</s>"], [], "qwen2", r"lacks <\|endoftext\|>"),
        ([*LETTERS, STOP], [], "deepseek-llm", r"cuts text as 'deepseek-llm' does.*llama-bpe"),
    ],
)
def test_lists_that_are_no_tokenizer_are_refused(vocabulary, merges, cut, message):
    with pytest.raises(TokenizerError, match=message) as raised:
        rebuild(vocabulary, merges, cut, STOP)
    assert "\n" not in str(raised.value)


# --- Exported again


@every_form
def test_the_exported_file_gives_transformers_the_same_ids(pairs, form, tmp_path):
    ours, _ = pairs[form]
    ours.save(tmp_path / "tokenizer.json")
    exported = exported_tokenizer(SimpleNamespace(tokenizer=ours, path=tmp_path))
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_object=exported, eos_token=STOP, split_special_tokens=True
    )
    theirs.save_pretrained(tmp_path / "exported")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "exported")
    for text in [*list(texts_of_all_scripts())[::20], f"a{STOP} <|im_end|>", "e\u0301"]:
        text = spellable(text, ours)
        ids = theirs(text)["input_ids"]
        assert ids == [ours.stop_id, *ours.encode(text).tolist()]
        assert theirs.decode(ids, skip_special_tokens=True) == text


# --- What is refused rather than nearly right


def test_an_added_token_inside_words_is_refused(changed):
    """The original cuts it out of any word, which no entry without merges does here."""

    def add(content):
        last = content["added_tokens"][-1]
        content["added_tokens"].append({**last, "id": last["id"] + 1, "content": "€6"})

    assert "the text '$5 €6%' would have other ids" in refusal(changed("qwen2", add))


def test_an_added_token_that_is_also_a_piece_is_refused(changed):
    def add(content):
        vocabulary, last = content["model"]["vocab"], content["added_tokens"][-1]
        word = max(filter(str.isalpha, filter(str.isascii, vocabulary)), key=len)
        content["added_tokens"].insert(0, {**last, "id": vocabulary[word], "content": word})

    assert "a text can spell its added token" in refusal(changed("qwen2", add))


def test_a_check_that_fails_names_the_first_text_that_is_not_restored(published, monkeypatch):
    monkeypatch.setattr(Tokenizer, "decode", lambda self, ids: "another text")
    assert r"the text '\x00\x01" in refusal(published["qwen2"])


LLAMA_2 = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
PREPEND = {"type": "Prepend", "prepend": "▁"}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda c: c["model"].update(byte_fallback=True),
            r"SentencePiece's kind \(byte_fallback\)",
        ),
        (lambda c: c.update(pre_tokenizer=LLAMA_2), r"SentencePiece's kind \(Metaspace\)"),
        (lambda c: c.update(normalizer=PREPEND), r"SentencePiece's kind \(▁ for spaces\)"),
        (
            lambda c: c.update(model={"type": "Unigram", "unk_id": 0, "vocab": [["a", 0.0]]}),
            r"SentencePiece's kind \(Unigram\)",
        ),
        (lambda c: c.update(normalizer={"type": "NFKC"}), "changes text first, with NFKC"),
        (
            lambda c: c["pre_tokenizer"]["pretokenizers"][0]["pattern"].update(Regex=r"\d+"),
            r"has type 'Split' \(pattern \{'Regex': '\\\\d\+'\}.*'ByteLevel'",
        ),
        (lambda c: c["model"].update(dropout=0.1), "its model has dropout 0.1, not None"),
        (lambda c: c["model"].update(end_of_word_suffix="</w>"), "end_of_word_suffix '</w>'"),
        (lambda c: c["model"]["vocab"].pop("a"), "lacks the byte 0x61|out of vocabulary"),
    ],
)
def test_another_kind_of_tokenizer_is_refused(changed, edit, message):
    sentence = refusal(changed("qwen2", edit))
    assert re.search(message, sentence), sentence
    assert sentence.endswith("cuts text as GPT-2, Llama 3, Qwen2, Qwen3.5 or SmolLM does.")


def test_files_that_do_not_say_how_text_is_cut_are_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_text("")
    assert "do not say how a qwen2 cuts text" in refusal(tmp_path)
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).rename(tmp_path / f"{name}.old")
    (tmp_path / "tokenizer.model").write_bytes(b"")
    assert "SentencePiece's kind, in tokenizer.model" in refusal(tmp_path)
