"""Lists of items against texts that run on: names, sentences, novels, verse, plays, programs."""

import random
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

from textwright import grammar
from textwright.corpus.lines import why_running

COUNT = 400
SYLLABLES = {
    "latin": ["ka", "lo", "min", "dra", "ve", "sor", "ti", "pel", "an"],
    "cyrillic": ["ка", "ло", "мин", "дра", "ве", "сор", "ти", "пел", "ан"],
    "arabic": ["كا", "لو", "مين", "درا", "في", "سور", "تي", "بل", "ان"],
    "hindi": ["का", "लो", "मिन", "द्रा", "वे", "सोर", "ती", "पेल", "अन"],
    "chinese": list("天地人山水火木金土日月星風雨花鳥"),
}
ENDS = {"chinese": "。", "hindi": "।"}


def reason(lines: Sequence[str]) -> str:
    return why_running([lines])


def word(rng: random.Random, script: str = "latin") -> str:
    return "".join(rng.choices(SYLLABLES[script], k=rng.randint(1, 3)))


def phrase(rng: random.Random, script: str = "latin", least: int = 4, most: int = 14) -> str:
    """Words of one sentence, some after a comma, with a capital where the script has any."""
    joint = "" if script == "chinese" else " "
    comma = "，" if script == "chinese" else "، " if script == "arabic" else ", "
    words = [word(rng, script) for _ in range(rng.randint(least, most))]
    text = words[0]
    for each in words[1:]:
        text += (comma if rng.random() < 0.1 else joint) + each
    return text[0].upper() + text[1:]


def sentence(rng: random.Random, script: str = "latin") -> str:
    return phrase(rng, script) + ENDS.get(script, rng.choice(".......?!"))


def paragraphs(rng: random.Random, script: str = "latin") -> list[str]:
    joint = "" if script == "chinese" else " "
    return [joint.join(sentence(rng, script) for _ in range(rng.randint(3, 12))) for _ in range(60)]


def wrapped(text: str, width: int = 70) -> list[str]:
    """Hard-wrapped; a script without spaces is cut anywhere."""
    if " " in text:
        return textwrap.wrap(text, width)
    return [text[at : at + 35] for at in range(0, len(text), 35)]


@pytest.mark.parametrize("script", SYLLABLES)
def test_sentences_and_names_are_lists_in_any_script(script):
    rng = random.Random(1)
    assert reason([sentence(rng, script) for _ in range(COUNT)]) == ""
    if script == "chinese":
        names = ["".join(rng.choices(SYLLABLES[script], k=rng.randint(2, 3))) for _ in range(COUNT)]
    else:
        names = [f"{word(rng, script)} {word(rng, script)}".title() for _ in range(COUNT)]
    assert reason(names) == ""


@pytest.mark.parametrize("blank", [True, False], ids=["blank lines", "no blank lines"])
@pytest.mark.parametrize("script", SYLLABLES)
def test_a_wrapped_novel_runs_on_in_any_script(script, blank):
    rng = random.Random(2)
    lines = [
        line
        for text in paragraphs(rng, script)
        for line in [*wrapped(text), *([""] if blank else [])]
    ]
    assert reason(lines)
    assert reason([line.lower() for line in lines])


@pytest.mark.parametrize("script", SYLLABLES)
def test_a_novel_with_a_paragraph_a_line_runs_on(script):
    rng = random.Random(3)
    texts = [text for _ in range(5) for text in paragraphs(rng, script)]
    assert reason(texts) == "lines as long as paragraphs"
    # Much of it is dialogue, in short lines.
    mixed = [text for long in texts for text in (long, *(f"“{phrase(rng)}!”" for _ in range(20)))]
    assert reason(mixed) == "lines that begin with a quote, a dash or a mark"


def test_notes_jokes_words_and_titles_are_lists():
    rng = random.Random(4)
    assert reason([*grammar.documents(COUNT, seed=1)]) == ""
    jokes = [
        f"Q: {phrase(rng)}? A: {phrase(rng)}" + rng.choice(["!", ".", ".", ""])
        for _ in range(COUNT)
    ]
    assert reason(jokes) == ""
    assert reason([word(rng) for _ in range(COUNT)]) == ""
    small = ("of", "the", "in")
    titles = [
        " ".join(word(rng).title() if rng.random() < 0.8 else rng.choice(small) for _ in range(7))
        for _ in range(COUNT)
    ]
    assert reason(titles) == ""


def test_series_of_titles_are_no_speakers():
    rng = random.Random(5)
    titles = [f"{phrase(rng, most=5)}: {word(rng)}".title() for _ in range(COUNT)]
    assert reason(titles) == ""


def test_verse_runs_on():
    rng = random.Random(6)
    # Every line begins with a capital; some end as sentences do.
    ends = [",", ",", ";", "", "", ".", ".", "?"]
    verse = [phrase(rng, least=6, most=9) + rng.choice(ends) for _ in range(COUNT)]
    assert reason(verse) == "lines that end in a comma, a colon or a dash"
    bare = [phrase(rng, least=6, most=9).replace(",", "") for _ in range(COUNT)]
    assert reason(bare) == "lines that end within a sentence"
    haiku = [
        line
        for _ in range(COUNT)
        for line in (*(" ".join(word(rng) for _ in range(count)) for count in (4, 5, 4)), "")
    ]
    assert reason(haiku) == "empty lines between its parts"
    assert reason([line for line in haiku if line]) == "lines that end within a sentence"


def test_plays_and_dialogues_run_on():
    rng = random.Random(7)
    speeches = [(rng.choice(["ROMEO", "JULIET", "NURSE"]), sentence(rng)) for _ in range(COUNT)]
    for form in ("{}: {}", "{}：{}", "00:01:02 {}: {}", "[12:03] {}: {}"):
        assert reason([form.format(*speech) for speech in speeches]) == "speakers take turns"
    assert reason([line for who, what in speeches for line in (f"{who}:", what)])
    assert reason([line for who, what in speeches for line in (who, what, "")])
    half = [f"— {what}" if at % 2 else what for at, (_, what) in enumerate(speeches)]
    assert reason(half) == "lines that begin with a quote, a dash or a mark"


def test_programs_and_markdown_run_on():
    package = Path(grammar.__file__).parents[1]
    code = [line for path in package.rglob("*.py") for line in path.read_text("utf-8").splitlines()]
    assert reason(code)
    assert reason([line for line in code if line.strip()]) == "indented lines"
    assert reason([line.strip() for line in code if line.strip()])
    rng = random.Random(8)
    page = [
        rng.choice(["# {}", "- {}", "{}", "{}", "{}"]).format(sentence(rng)) for _ in range(COUNT)
    ]
    assert reason(page) == "lines that begin with a quote, a dash or a mark"
    assert reason([str(rng.random()) for _ in range(COUNT)])
    assert reason([f"C{rng.randint(1, 7)}# E4 {rng.randint(1, 9)}" for _ in range(COUNT)])


def test_a_few_empty_lines_and_odd_lines_leave_a_list_one():
    rng = random.Random(9)
    lines = [sentence(rng) for _ in range(COUNT)]
    lines[::50] = [""] * len(lines[::50])
    lines[10::40] = [word(rng) + "," for _ in lines[10::40]]
    assert reason(lines) == ""


def test_a_list_too_short_to_be_divided_is_kept_whole():
    lines = [f"Name{'a' * n}" for n in range(199)]
    assert reason(lines) == "too few lines for a list"
    assert reason([]) == reason(["", ""]) == "too few lines for a list"
    assert reason([*lines, "Anna"]) == ""


def test_short_lists_beside_others_are_judged_together():
    rng = random.Random(14)
    lists = [[word(rng).capitalize() for _ in range(count)] for count in (COUNT, 150, 60, 1)]
    assert why_running(lists) == ""
    assert why_running(lists[1:]) == ""
    assert why_running(lists[2:]) == "too few lines for a list"
    verse = [f"{phrase(rng)}," for _ in range(30)]
    assert why_running([*lists, verse]) != ""


@pytest.mark.corpora
@pytest.mark.parametrize("blank", [True, False], ids=["as it is", "no blank lines"])
@pytest.mark.parametrize("name", ["nietzsche.txt", "tinyshakespeare.txt"])
def test_the_novel_and_the_plays_run_on(corpora, name, blank):
    lines = (corpora / name).read_text("utf-8").split("\n")
    assert reason([line for line in lines if blank or line.strip()])
