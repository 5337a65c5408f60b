"""`textwright memorisation` and `generate --no-copy`, as a user calls them."""

import io
import json
import shutil
import sys

import pytest

from textwright.api import load
from textwright.config import Config
from textwright.memorisation import capability, memorisation
from textwright.training.session import train_run


@pytest.fixture
def tw(tw, monkeypatch):
    """The command line, with few passages → exit code, stdout, stderr."""
    for module in (capability, memorisation):
        monkeypatch.setattr(module, "PASSAGES", 40)
    return tw


@pytest.fixture(scope="module")
def counted(notes, tmp_path_factory):
    """N-grams of the notes, which copy."""
    folder = tmp_path_factory.mktemp("runs") / "counted"
    config = Config.resolve("counts", settings=["tokenizer.vocab_size=300"])
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TEXTWRIGHT_CACHE", str(folder.parent / "cache"))
        list(train_run([notes], folder, config))
    return folder


def sequences_in(rows: list[list[int]], length: int) -> set[tuple[int, ...]]:
    return {tuple(row[at : at + length]) for row in rows for at in range(len(row) - length + 1)}


@pytest.fixture
def run(trained, notes, tmp_path):
    """The trained run, with its corpus beside it."""
    shutil.copytree(trained, tmp_path / "run")
    shutil.copy(notes, tmp_path / "notes.txt")
    return tmp_path / "run"


def test_the_keys_of_the_json_are_these(tw, trained):
    code, out, err = tw("memorisation", trained, "--texts", 3, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert list(found) == ["training", "held_out", "propensity", "capability", "checkpoints"]
    assert list(found["propensity"]) == ["own", "temperature_1"]
    assert list(found["propensity"]["own"]) == [
        *("texts", "characters", "longest", "longest_of_all", "novel", "copied")
    ]
    assert list(found["propensity"]["own"]["longest"]) == ["run", "held_out", "excess", "interval"]
    assert list(found["propensity"]["own"]["novel"]["words"]) == ["3", "5", "8"]
    assert list(found["capability"]) == [
        *("passages", "bits", "greedy", "written", "own"),
        *("alarm", "memorized", "false_alarms", "bands"),
    ]
    assert list(found["checkpoints"][0]) == ["step", "best", "propensity", "capability"]


def test_the_page_draws_what_is_copied_over_the_steps(tw, trained, tmp_path):
    code, _, err = tw("memorisation", trained, "--texts", 3, "--html", "page.html")
    assert code == 0, err
    page = (tmp_path / "page.html").read_text("utf-8")
    assert page.count("<polyline") == 4  # of the run and of held-out text, twice
    assert "What it copies, by step" in page
    assert "steps of training" in page
    kept = len(list((trained / "checkpoints").glob("step-*")))
    assert kept > 1
    assert page.count("<circle") == 2 * (kept + 1)  # and one in each legend


def test_the_report_names_what_was_measured_and_a_page_is_written(tw, trained, tmp_path):
    code, out, err = tw("memorisation", trained, "--texts", 3, "--html", "page.html")
    assert code == 0, err
    for shown in (
        *("267 training documents", "33 held out", "new sequences of 5 words"),
        *("bits a character", "false alarms", "(best)", "at temperature 1, its own settings"),
    ):
        assert shown in out
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "<h2" in page and "Memorisation" in page and "new sequences of 5 words" in page


@pytest.mark.parametrize("piped", [False, True])
def test_a_text_is_traced(tw, trained, notes, tmp_path, monkeypatch, piped):
    document = notes.read_text("utf-8").splitlines()[3]
    (tmp_path / "text.txt").write_text(f"{document}\n", "utf-8")
    monkeypatch.setattr(sys, "stdin", io.StringIO(document))
    name = "-" if piped else "text.txt"
    code, out, err = tw("memorisation", trained, "--text", name)
    assert code == 0, err
    assert "× in training" in out and "document " in out and "of never-seen texts" in out
    found = json.loads(tw("memorisation", trained, "--text", "text.txt", "--json")[1])
    assert list(found) == [*("characters", "copied", "spans", "bits", "memorized", "false_alarms")]
    assert list(found["spans"][0]) == ["text", "start", "occurrences", "sources", "characters"]
    assert list(found["spans"][0]["sources"][0]) == ["document", "heading", "offset"]


@pytest.mark.parametrize("setting", [{}, {"temperature": 0.3}, {"temperature": 0.0}, {"beams": 2}])
def test_no_sequence_of_the_training_text_is_written(counted, notes, setting):
    """Against the corpus itself, in a text longer than 1,000 tokens."""
    writer = load(counted)
    training = set(notes.read_text("utf-8").splitlines())
    training -= {text for part in ("valid", "test") for text in writer.run.held_out(part)}
    encoded = [ids.tolist() for ids in writer.tokenizer.encode_batch(sorted(training))]
    known = sequences_in(encoded, 4)
    length = {"max_new_tokens": 1100, "min_new_tokens": 1100}
    (free,) = writer.generate(**setting, **length)
    (ruled,) = writer.generate(**setting, **length, no_copy=4)
    assert len(ruled.ids) == 1100
    assert sequences_in([free.ids], 4) & known
    assert not sequences_in([ruled.ids], 4) & known


def test_the_json_holds_what_the_rule_cost(tw, counted):
    code, out, err = tw("generate", counted, "--no-copy", 4, "--json")
    assert code == 0, err
    cost = json.loads(out)["no_copy"]
    assert list(cost) == ["bits", "places"]
    assert cost["bits"] > 0 and cost["places"] > 0
    assert "no_copy" not in json.loads(tw("generate", counted, "--json")[1])


def test_what_the_rule_costs_is_printed(tw, trained):
    code, out, err = tw("generate", trained, "--no-copy", 3)
    assert code == 0 and out
    assert "No 3 tokens in a row stand in the training text" in err
    assert "bits" in err


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["memorisation", "nothing"], "No run at nothing. Train one"),
        (["memorisation", "run", "--text", "none.txt"], "Cannot read the text in none.txt: No su"),
        (["memorisation", "run", "--text", "empty.txt"], "empty.txt holds no text"),
        (["memorisation", "run", "--text", "empty.txt", "--html", "a.html"], "leave out --text or"),
        (["memorisation", "run", "--shortest", "9"], "name its file with --text"),
        (["memorisation", "run", "--html", "page.pdf"], "should end in .html or .md"),
        (["memorisation", "run", "--corpus", "gone.txt"], "gone.txt"),
        (["memorisation", "run", "--corpus", "empty.txt"], "cannot be read again: There is no"),
        (["memorisation", "run", "--corpus", "other.txt"], "its training documents differ"),
        (["generate", "run", "--no-copy", "1"], "no_copy cannot be 1: 2 is the least"),
        (["generate", "run", "--no-copy", "8", "--corpus", "other.txt"], "training documents diff"),
        (["generate", "run", "--corpus", "other.txt"], "add --no-copy, or leave it out"),
    ],
)
def test_wrong_use_is_one_sentence(tw, run, tmp_path, argv, sentence):
    (tmp_path / "empty.txt").write_text("\n", "utf-8")
    (tmp_path / "other.txt").write_text("A note.\nAnother note.\n" * 200, "utf-8")
    code, out, err = tw(*argv)
    assert (code, out) == (2, "")
    assert sentence in err.splitlines()[-1]


def test_a_corpus_that_changed_or_moved_is_named_anew(tw, notes, tiny, tmp_path):
    corpus = tmp_path / "mine.txt"
    shutil.copy(notes, corpus)
    settings = [part for setting in tiny for part in ("--set", setting)]
    assert tw("train", corpus, "--preset", "demo", *settings, "--out", "mine")[0] == 0
    corpus.rename(tmp_path / "moved.txt")
    for command in (["memorisation", "mine", "--texts", 2], ["generate", "mine", "--no-copy", 4]):
        code, _, err = tw(*command)
        assert code == 2
        assert "mine.txt, the corpus of mine, is gone; name it with --corpus." in err
        assert tw(*command, "--corpus", "moved.txt")[0] == 0
    corpus.write_text((tmp_path / "moved.txt").read_text("utf-8") + "One more note.\n" * 9, "utf-8")
    code, _, err = tw("memorisation", "mine")
    assert code == 2
    assert "no longer, what mine was trained on" in err
