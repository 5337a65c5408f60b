"""What every test may use: the real corpora, and a skip that says what is missing."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# No test may reach the network; huggingface_hub reads this when it is first imported.
os.environ["HF_HUB_OFFLINE"] = "1"
# Output is that of a redirected command, wherever the tests run: pytest-xdist sets a width.
os.environ.pop("COLUMNS", None)
# Nor does one leave an export's code in the user's cache.
MODULES = tempfile.TemporaryDirectory()
os.environ["HF_MODULES_CACHE"] = MODULES.name

# The smallest training that has all there is: two epochs and a bit, four evaluations.
TINY = [
    "model.embedding_size=8",
    "model.hidden_size=8",
    "model.dropout=0.2",
    "data.context_length=24",
    "sample.max_new_tokens=12",
    "train.epochs=100",
    "train.batch_size=32",
    "train.learning_rate=0.005",
    "train.max_steps=20",
    "train.evaluate_every=5",
    "train.threads=1",
    "train.dtype=fp32",
]
# The same of a GPT, over the preset demo-gpt.
TINY_GPT = [
    *(setting for setting in TINY if not setting.startswith(("model.", "data."))),
    "model.layers=1",
    "model.heads=2",
    "model.width=8",
    "data.context_length=48",
]


# Another value than the default for every option of sampling, but for those that name tokens.
SAMPLING: dict[str, Any] = {
    "temperature": 0.5,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.01,
    "typical_p": 0.95,
    "repetition_penalty": 1.2,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.2,
    "no_repeat_ngram": 3,
    "no_copy": 8,
    "min_new_tokens": 2,
    "max_new_tokens": 9,
    "stop": ["."],
    "beams": 4,
    "length_penalty": 0.5,
    "early_stopping": "never",
}


# Of `formed`: given fields, how a text begins, and whether it can end there.
POSSIBLE_ENDS = [
    ({"note": "Stir."}, "", False),
    ({"note": "Stir."}, "Soup : 3", False),
    ({"note": "Stir."}, "Soup : 3 : Stir.", True),
    ({"course": "Soup"}, "", True),
]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("corpora") and not os.environ.get("TEXTWRIGHT_CORPORA"):
        pytest.skip("reads the real corpora: set TEXTWRIGHT_CORPORA to the folder that holds them")
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.accelerator.is_available():
            pytest.skip("needs an accelerator, and torch finds none on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium; tests that cannot have one are skipped."""
    from web_engine import open_browser

    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of the real corpora. A test that asks for it carries the mark `corpora`."""
    if "TEXTWRIGHT_CORPORA" not in os.environ:
        pytest.fail("This test reads the real corpora: mark it with @pytest.mark.corpora.")
    folder = Path(os.environ["TEXTWRIGHT_CORPORA"])
    if not folder.is_dir():
        pytest.fail(f"TEXTWRIGHT_CORPORA names {folder}, which is no folder.")
    return folder


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """Settings, over the preset demo, of a training that takes a moment."""
    return TINY


@pytest.fixture(scope="session")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of 300 kitchen notes, one a line."""
    from textwright import grammar

    file = tmp_path_factory.mktemp("corpus") / "notes.txt"
    file.write_text("".join(f"{note}\n" for note in grammar.documents(300, seed=3)), "utf-8")
    return file


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """20 notes that no run has read."""
    from textwright import grammar

    file = tmp_path / "fresh.txt"
    file.write_text("".join(f"{note}\n" for note in grammar.documents(20, seed=99)), "utf-8")
    return file


@pytest.fixture
def one_thread() -> None:
    """torch works on one thread from here on, as quickly as it can for a tiny model."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Encoded corpora are kept here, for the whole session, and not in the user's folder; results
    of long work for one test, since another may have changed what computes them."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("TEXTWRIGHT_CACHE", str(folder))
    yield folder
    shutil.rmtree(folder / "results", ignore_errors=True)


@pytest.fixture
def tw(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """The command line in this process, in a folder of its own → exit code, stdout, stderr."""
    from textwright.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*argv: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["textwright", *map(str, argv)])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


@pytest.fixture
def tw_json(tw: Callable[..., tuple[int, str, str]]) -> Callable[..., Any]:
    """A command with --json: stdout holds one document, and nothing else."""

    def run(*argv: object) -> Any:
        code, out, err = tw(*argv, "--json")
        assert code == 0, err
        return json.loads(out)

    return run


@pytest.fixture
def flags(tiny: list[str]) -> list[str]:
    """Arguments of the command line for a training that takes a moment."""
    return [part for setting in tiny for part in ("--set", setting)]


def refused(
    result: tuple[int, str, str], speakers: tuple[str, ...] = ("textwright: ", "Error: ")
) -> str:
    """The one sentence of a command that was refused, by textwright or, first, by typer."""
    code, out, err = result
    assert (code, out) == (2, "")
    sentence = err.strip().splitlines()[-1]
    assert sentence.startswith(speakers)
    return sentence


@pytest.fixture(scope="session")
def trained(notes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run trained for 20 steps on the notes. For reading only: copy it to change it."""
    return train_tiny(notes, TINY, tmp_path_factory)


@pytest.fixture
def train(
    notes: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[Any]]:
    """Train on the notes → the events. No picture is drawn: that takes longer than the training."""
    from textwright.config import Config
    from textwright.training import session

    monkeypatch.setattr(session, "draw_loss_curve", lambda run: False)

    def go(
        *settings: str, out: str = "run", sources: tuple[Path, ...] = (notes,), **how: Any
    ) -> list[Any]:
        config = Config.resolve("demo", settings=[*tiny, *settings])
        return list(session.train_run(sources, tmp_path / out, config, **how))

    return go


@pytest.fixture
def writer(trained: Path) -> Any:
    """What writes with it."""
    from textwright.api import load

    return load(trained)


@pytest.fixture(scope="module")
def app(trained: Path) -> Any:
    """A server of it."""
    from serving import make_app

    return make_app(trained)


@pytest.fixture(scope="session")
def dishes(notes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 300 kitchen notes with a course and a number of pans."""
    rows = [
        f'{("Soup", "Dish")[number % 2]},{number % 7},"{note}"\n'
        for number, note in enumerate(notes.read_text("utf-8").splitlines())
    ]
    file = tmp_path_factory.mktemp("corpus") / "dishes.csv"
    file.write_text("course,pans,note\n" + "".join(rows), "utf-8")
    return file


@pytest.fixture(scope="session")
def formed(dishes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run trained for 20 steps on fields. For reading only: copy it to change it."""
    settings = [*TINY, "corpus.template={course} : {pans} : {note}"]
    return train_tiny(dishes, settings, tmp_path_factory)


@pytest.fixture(scope="session")
def mixed(notes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with counts beside its model, and a tokenizer that loses nothing. For reading only."""
    settings = ["counts.longest=3", "tokenizer.kind=bpe", "tokenizer.vocab_size=300"]
    return train_tiny(notes, [*TINY, *settings, "train.max_steps=5"], tmp_path_factory)


@pytest.fixture(scope="session")
def counted(notes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of counts alone. For reading only."""
    settings = ["tokenizer.vocab_size=400", "model.longest=4"]
    return train_tiny(notes, settings, tmp_path_factory, "counts")


@pytest.fixture(scope="session")
def bpe(notes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a GPT over bytes, whose tokens keep all of a text. For reading only."""
    settings = [*TINY_GPT, "tokenizer.kind=bpe", "tokenizer.vocab_size=300"]
    return train_tiny(notes, settings, tmp_path_factory, "demo-gpt")


@pytest.fixture(scope="session")
def exported(bpe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of it for `transformers`. For reading only."""
    from textwright.export import export_run
    from textwright.run import Run

    out = tmp_path_factory.mktemp("exports") / "folder"
    export_run(Run.load(bpe), "transformers", out)
    return out


def train_tiny(
    corpus: Path, settings: list[str], factory: pytest.TempPathFactory, preset: str = "demo"
) -> Path:
    """The folder of a run of a preset; its cache is the one that `cache` names."""
    from textwright.config import Config
    from textwright.training.session import train_run

    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TEXTWRIGHT_CACHE", str(factory.getbasetemp() / "cache"))
        out = factory.mktemp("runs") / corpus.stem
        for _ in train_run([corpus], out, Config.resolve(preset, settings=settings)):
            pass
    return out


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small GPT-2 as `transformers` saves one, random weights everywhere; the stop id is last."""
    import tokenizers
    import torch
    import transformers
    from tokenizers import models, pre_tokenizers, trainers

    from textwright import grammar

    folder = tmp_path_factory.mktemp("published") / "small-gpt2"
    learned = tokenizers.Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    learned.train_from_iterator(grammar.documents(200, seed=1), trainer)
    told = json.loads(learned.to_str())["model"]
    vocabulary = {**told["vocab"], "<|endoftext|>": len(told["vocab"])}
    merges = [tuple(pair) for pair in told["merges"]]
    transformers.GPT2Tokenizer(vocab=vocabulary, merges=merges).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(vocabulary),
        n_positions=128,
        n_layer=2,
        n_head=2,
        n_embd=16,
        bos_token_id=len(vocabulary) - 1,
        eos_token_id=len(vocabulary) - 1,
    )
    model = transformers.GPT2LMHeadModel(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return folder
