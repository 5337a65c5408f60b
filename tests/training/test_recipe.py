"""What is chosen for a corpus where nothing is said."""

from pathlib import Path

import pytest
import torch

from textwright.corpus import Corpus
from textwright.errors import ConfigError
from textwright.run import Run
from textwright.run.origin import choose_config
from textwright.tokenizer import TokenizerOptions
from textwright.training.events import Ready
from textwright.training.recipe import choose_recipe
from textwright.training.session import train_run
from textwright.training.survey import survey

WORDS = ("the", "a", "river", "carried", "old", "wooden", "boats", "slowly", "towards", "sea")


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    """As many as the choices were measured with; another machine foresees more."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


def novel(folder: Path, sentences: int) -> Path:
    """A text of so many sentences."""
    lines = []
    for number in range(sentences):
        words = [WORDS[(number * k + k * k) % len(WORDS)] for k in range(3, 12)]
        lines.append(" ".join(words).capitalize() + ".")
    file = folder / "novel.txt"
    file.write_text("\n\n".join(" ".join(lines[i : i + 4]) for i in range(0, len(lines), 4)))
    return file


def chosen(file: Path, *settings: str, **held_out: Path):
    config = choose_config(settings=settings)
    corpus = Corpus([file], config.corpus, **held_out)
    corpus.scan()
    return choose_recipe(config, corpus)


def test_nothing_named_means_the_preset_auto(tmp_path):
    config, line = chosen(novel(tmp_path, 400))
    assert config.preset == "auto"
    assert (config.model.family, config.model.activation) == ("gpt", "swiglu")
    assert config.train.time_budget == 600
    assert config.counts.longest > 0
    assert "10:00" in line and "--preset" in line


def test_what_is_set_stays(tmp_path):
    file = novel(tmp_path, 400)
    config, _ = chosen(file, "model.width=64", "model.heads=2", "train.learning_rate=0.001")
    assert (config.model.width, config.model.heads) == (64, 2)
    assert config.train.learning_rate == 0.001
    assert config.model.activation == "swiglu"
    assert chosen(file, "tokenizer.kind=char")[0].tokenizer.kind == "char"
    assert chosen(file, "counts.longest=0")[0].counts.longest == 0
    assert chosen(file, "train.weight_decay=0.5")[0].train.weight_decay == 0.5


def test_a_corpus_that_is_read_a_few_times_has_a_smaller_weight_decay(tmp_path):
    file = novel(tmp_path, 20_000)
    settings = ("train.dtype=fp32", "model.width=384")
    once, twice = (
        chosen(file, *settings, f"train.time_budget={time}")[0].train for time in ("2m", "4m")
    )
    assert once.weight_decay == pytest.approx(twice.weight_decay / 2, abs=0.01)


def test_a_step_fades_by_weight_decay_while_the_corpus_is_read_once(tmp_path):
    file = novel(tmp_path, 8_000)
    quick, long = (chosen(file, f"train.time_budget={time}")[0].train for time in ("1m", "10m"))
    assert 0.01 < quick.weight_decay == long.weight_decay < 4
    slow = chosen(file, "train.learning_rate=2e-3")[0].train
    assert slow.weight_decay == pytest.approx(1.5 * long.weight_decay, abs=0.02)


def test_a_smaller_corpus_has_a_larger_weight_decay(tmp_path):
    small, large = (chosen(novel(tmp_path, count))[0] for count in (2_000, 8_000))
    assert large.train.weight_decay < small.train.weight_decay <= 4


def test_products_in_bf16_read_a_corpus_more_often(tmp_path):
    file = novel(tmp_path, 20_000)
    settings = ("train.device=cpu", "train.time_budget=5m")
    slow, fast = (chosen(file, *settings, f"train.dtype={dtype}")[0] for dtype in ("fp32", "bf16"))
    assert slow.model.dropout < fast.model.dropout


@pytest.mark.parametrize(
    "more", [["model.width=384"], ["tokenizer.vocab_size=8192", "train.sampled_softmax=0"]]
)
def test_a_larger_model_reads_a_corpus_less_often(tmp_path, more):
    file = novel(tmp_path, 20_000)
    settings = ["train.device=cpu", "train.dtype=fp32", "train.time_budget=5m"]
    settings += ["train.evaluate_characters=1000"]  # else it says how often to evaluate
    small, large = chosen(file, *settings)[0], chosen(file, *settings, *more)[0]
    assert large.train.evaluate_every < small.train.evaluate_every


def test_characters_as_tokens_are_more_to_read(tmp_path):
    file = novel(tmp_path, 20_000)
    settings = ("train.dtype=fp32", "train.time_budget=5m")
    bpe, char = chosen(file, *settings)[0], chosen(file, *settings, "tokenizer.kind=char")[0]
    assert char.model.dropout < bpe.model.dropout


def test_steps_are_counted_by_the_batch_that_was_set(tmp_path):
    file = novel(tmp_path, 8_000)
    small, large = (chosen(file, f"train.batch_size={rows}")[0].train for rows in (4, 8))
    assert small.evaluate_every == pytest.approx(2 * large.evaluate_every, abs=1)
    assert small.weight_decay == pytest.approx(large.weight_decay / 2, abs=0.01)


@pytest.mark.parametrize("end", ["train.epochs=2", "train.max_steps=12"])
def test_a_training_that_is_to_end_early_reads_the_corpus_less_often(tmp_path, end):
    file = novel(tmp_path, 2_000)
    long, short = chosen(file)[0], chosen(file, end)[0]
    assert long.model.dropout > short.model.dropout == 0
    assert long.train.split_tokens > short.train.split_tokens == 0
    assert long.train.weight_decay > short.train.weight_decay


def test_evaluations_take_a_tenth_of_a_short_time(tmp_path):
    file = novel(tmp_path, 20_000)

    def every(characters: int, time: str = "30s") -> int:
        settings = (f"train.evaluate_characters={characters}", f"train.time_budget={time}")
        return chosen(file, "train.dtype=fp32", *settings)[0].train.evaluate_every

    assert every(1_000) < 60
    assert every(20_000) > 100
    assert every(40_000) == pytest.approx(2 * every(20_000), abs=1)
    assert every(0) == every(10_000_000)
    assert every(20_000, "1h") == every(1_000, "1h")


def test_a_long_training_is_saved_between_evaluations(tmp_path):
    short, long = (
        chosen(novel(tmp_path, 60_000), f"train.time_budget={time}")[0].train
        for time in ("5m", "5h")
    )
    assert short.evaluate_every < short.checkpoint_every
    assert long.evaluate_every > 2 * long.checkpoint_every


def test_paragraphs_of_few_long_texts_are_opened(tmp_path):
    file = novel(tmp_path, 4_000)
    for settings in ([], ["model.family=lstm"]):
        assert chosen(file, *settings)[0].train.open_paragraphs > 0
        assert chosen(file, *settings, "corpus.unit=line")[0].train.open_paragraphs == 0
    assert chosen(file, "model.family=lstm", "data.layout=rows")[0].train.open_paragraphs == 0


def test_paragraphs_of_texts_whose_beginnings_are_seen_often_stay_closed(tmp_path):
    text = novel(tmp_path, 1_000).read_text()
    for count, opened in ((3, True), (30, False)):
        folder = tmp_path / f"{count} stories"
        folder.mkdir()
        for number in range(count):
            (folder / f"{number}.txt").write_text(f"{number} {text}")
        assert (chosen(folder)[0].train.open_paragraphs > 0) is opened


def test_more_threads_and_an_accelerator_read_a_corpus_more_often(tmp_path, monkeypatch):
    file = novel(tmp_path, 20_000)
    settings = ("train.dtype=fp32", "train.time_budget=2m", "train.evaluate_characters=1000")
    two, eight = (
        chosen(file, *settings, "train.device=cpu", f"train.threads={threads}")[0].train
        for threads in (2, 8)
    )
    assert eight.evaluate_every == pytest.approx(4**0.75 * two.evaluate_every, rel=0.05)
    monkeypatch.setattr("textwright.training.recipe.choose_device", lambda _: torch.device("cuda"))
    assert chosen(file, *settings)[0].train.evaluate_every > eight.evaluate_every


def test_a_width_that_is_set_has_heads_that_divide_it(tmp_path):
    file = novel(tmp_path, 400)
    for width, heads in ((256, 8), (192, 6), (200, 5), (32, 1)):
        assert chosen(file, f"model.width={width}")[0].model.heads == heads


def test_the_rate_rises_in_a_sixth_of_a_short_training(tmp_path):
    file = novel(tmp_path, 400)
    assert chosen(file, "train.max_steps=12")[0].train.warmup_steps == 2
    assert chosen(file)[0].train.warmup_steps == 50


def test_more_time_is_advised_where_it_would_be_used(tmp_path):
    small, large = novel(tmp_path, 400), tmp_path / "large.txt"
    assert "It ends earlier if the text has been read 32 times" in chosen(small)[1]
    large.write_text(small.read_text() * 60)
    assert "--time-budget 1h (a larger model" in chosen(large)[1]
    assert "--time-budget" not in chosen(large, "train.time_budget=2h")[1]


def test_counts_that_memory_does_not_hold_are_left_out_and_told(tmp_path, monkeypatch):
    file = novel(tmp_path, 400)
    monkeypatch.setattr("textwright.training.recipe.free_memory", lambda: 1_000_000)
    config, line = chosen(file)
    assert config.counts.longest == 0 and "without counts beside it, for which too little" in line
    assert chosen(file, "counts.longest=3")[0].counts.longest == 3


@pytest.mark.parametrize("family", ["gpt", "lstm"])
def test_adam_has_no_weight_decay(tmp_path, family):
    config, _ = chosen(novel(tmp_path, 400), "train.optimizer=adam", f"model.family={family}")
    assert (config.train.optimizer, config.train.weight_decay) == ("adam", 0.0)


def test_a_corpus_that_is_read_often_is_split_where_its_tokens_can_be(tmp_path):
    small = novel(tmp_path, 400)
    assert chosen(small)[0].train.split_tokens > 0
    assert chosen(small, "train.split_tokens=0.1")[0].train.split_tokens == 0.1
    for setting in ("tokenizer.kind=char", "data.layout=rows", "model.family=lstm"):
        assert chosen(small, setting)[0].train.split_tokens == 0
    with pytest.raises(ConfigError, match="a tokenizer that merges"):
        chosen(small, "tokenizer.kind=char", "train.split_tokens=0.1")
    large = novel(tmp_path, 60_000)
    assert chosen(large, "train.time_budget=1m")[0].train.split_tokens == 0


def test_a_longer_time_trains_a_larger_model(tmp_path):
    file = novel(tmp_path, 400)
    quick, long = (chosen(file, f"train.time_budget={time}")[0] for time in ("1m", "1h"))
    assert quick.model.width < long.model.width
    assert quick.train.time_budget == 60


def test_a_larger_corpus_has_a_larger_vocabulary_and_less_dropout(tmp_path):
    small, _ = chosen(novel(tmp_path, 300))
    large, _ = chosen(novel(tmp_path, 60_000))
    assert small.tokenizer.vocab_size < large.tokenizer.vocab_size
    assert small.model.dropout > large.model.dropout


def test_a_large_vocabulary_has_a_sampled_softmax(tmp_path):
    small, large = novel(tmp_path, 300), tmp_path / "large.txt"
    large.write_text(small.read_text() * 200)

    def sampled(file, *settings):
        config, _ = chosen(file, "train.device=cpu", *settings)
        return config.train.sampled_softmax, config.tokenizer.vocab_size

    size, vocabulary = sampled(large)
    assert 0 < 2 * size <= vocabulary
    assert sampled(small)[0] == 0
    assert sampled(small, "tokenizer.vocab_size=8192")[0] == size
    assert sampled(large, "train.sampled_softmax=0")[0] == 0


def test_a_script_of_many_signs_has_room_for_them(tmp_path):
    file = tmp_path / "signs.txt"
    signs = [chr(0x4E00 + n) for n in range(2_000)]
    file.write_text("".join("".join(signs[n::7]) + "。\n" for n in range(7)) * 20)
    assert chosen(file)[0].tokenizer.vocab_size >= 4_096


def test_a_script_with_vowel_signs_keeps_them_within_words(tmp_path):
    file = tmp_path / "hindi.txt"
    file.write_text("भारत एक विशाल देश है, और उसकी कई भाषाएँ हैं।\n\n" * 300, "utf-8")
    config, line = chosen(file)
    assert config.tokenizer.cut == "qwen35" and "vowel signs" in line
    assert chosen(file, "tokenizer.cut=gpt-2")[0].tokenizer.cut == "gpt-2"
    assert chosen(file, "tokenizer.kind=char")[0].tokenizer.cut == "gpt-2"
    assert chosen(novel(tmp_path, 400))[0].tokenizer.cut == "gpt-2"
    file.write_text("hi \u2764\ufe0f there \u2600\ufe0f\n\n" * 300, "utf-8")
    assert chosen(file)[0].tokenizer.cut == "gpt-2"


def test_a_list_of_names_is_read_by_characters(tmp_path):
    file = tmp_path / "names.txt"
    syllables = ("an", "be", "lo", "mi", "ra", "ko")
    names = [f"{a}{b}{c}" for a in syllables for b in syllables for c in syllables]
    file.write_text("\n".join(names), "utf-8")
    config, line = chosen(file)
    assert config.tokenizer.kind == "char" and "over single characters" in line
    assert config.tokenizer.vocab_size == 16  # 11 letters, the stop and [UNK]
    assert not config.train.split_tokens
    for own in ("tokenizer.kind=bpe", "tokenizer.vocab_size=300", "train.split_tokens=0.2"):
        assert chosen(file, own)[0].tokenizer.kind == "bpe"
    file.write_text("\n".join(f"The {name} of {name} by {name}" for name in names), "utf-8")
    assert chosen(file)[0].tokenizer.kind == "bpe"


def test_files_that_are_only_held_out_choose_nothing(tmp_path):
    file, held = novel(tmp_path, 2_000), tmp_path / "held.txt"
    held.write_text(file.read_text() * 8)
    alone, beside = chosen(file)[0], chosen(file, test=held)[0]
    assert beside.tokenizer.vocab_size == alone.tokenizer.vocab_size
    assert beside.model.dropout == alone.model.dropout


def test_words_keep_the_usual_size_of_a_vocabulary(tmp_path):
    usual = TokenizerOptions().vocab_size
    config, line = chosen(novel(tmp_path, 400), "tokenizer.kind=word")
    assert config.tokenizer.vocab_size == usual and f"{usual:,} word tokens" in line


@pytest.mark.parametrize("family", ["lstm", "ngram"])
def test_another_family_has_a_recipe_too(tmp_path, family):
    config, line = chosen(novel(tmp_path, 400), f"model.family={family}")
    assert config.model.family == family
    assert config.model.title in line


def test_counts_take_the_tokens_of_the_default(tmp_path):
    file = novel(tmp_path, 20_000)
    config = choose_config("counts")
    counts, line = choose_recipe(config, Corpus([file], config.corpus))
    assert counts.tokenizer == chosen(file)[0].tokenizer
    assert (counts.model, counts.train) == (config.model, config.train)
    assert "n-gram" in line
    given = choose_config("counts", settings=["tokenizer.vocab_size=300"])
    assert choose_recipe(given, Corpus([file], given.corpus))[0].tokenizer.vocab_size == 300


def test_other_presets_are_left_alone(tmp_path):
    config = choose_config("demo")
    corpus = Corpus([novel(tmp_path, 400)], config.corpus)
    assert choose_recipe(config, corpus) == (config, "")


def test_training_says_the_choice_keeps_it_and_does_not_choose_again(tmp_path):
    file = novel(tmp_path, 600)
    tiny = ["model.width=16", "model.heads=2", "model.layers=1", "train.max_steps=4"]
    config = choose_config(settings=tiny)
    events = list(train_run([file], tmp_path / "run", config))
    [ready] = [event for event in events if isinstance(event, Ready)]
    expected, line = chosen(file, *tiny)
    assert line in ready.choices
    kept = Run.load(tmp_path / "run").config
    for table in ("tokenizer", "model", "counts", "train"):
        assert getattr(kept, table) == getattr(expected, table)
    again = choose_config(settings=["train.max_steps=6"], resume=tmp_path / "run")
    list(train_run([], tmp_path / "run", again, resume=True))
    assert Run.load(tmp_path / "run").config.model == kept.model


def test_the_survey_shows_the_same_choice(tmp_path):
    file = novel(tmp_path, 400)
    settings = ["model.width=16", "model.heads=2", "train.threads=1"]
    config = choose_config(settings=settings)
    found = survey(Corpus([file], config.corpus), config)
    assert chosen(file, *settings)[1] in found.choices
