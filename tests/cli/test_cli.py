"""Every command: what it prints, its JSON, and one sentence with exit code 2 for wrong use."""

import contextlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import textwright
from textwright import grammar
from textwright.api import load
from textwright.backends.numpy_lstm import NumpyLSTM
from textwright.cli import app, demo_runs
from textwright.cli.sampling_flags import with_sampling_flags
from textwright.cli.train_commands import default_run
from textwright.cli.write_commands import generate
from textwright.config import presets
from textwright.run import Run
from textwright.training import survey
from textwright.writing.sampling_options import SamplingOptions

pytestmark = pytest.mark.usefixtures("cache")

MAIN = [sys.executable, "-c", "from textwright.cli import main; main()"]  # a process of its own


@pytest.fixture
def tw(command_line, monkeypatch, tmp_path):
    """The command line, in a folder of its own → exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    return command_line


@pytest.fixture
def tw_json(tw):
    """A command with --json: stdout holds one document, and nothing else."""

    def run(*argv):
        code, out, err = tw(*argv, "--json")
        assert code == 0, err
        return json.loads(out)

    return run


@pytest.fixture
def flags(tiny):
    return [part for setting in tiny for part in ("--set", setting)]


def refused(result):
    """The one sentence of a refusal."""
    code, out, err = result
    assert code == 2
    assert out == ""
    sentence = err.strip().splitlines()[-1]
    assert sentence.startswith(("textwright: ", "Error: "))
    return sentence


# Every command


def test_help_names_every_command(tw):
    code, out, _ = tw("--help")
    assert code == 0
    commands = [
        "demo",
        "corpus",
        "train",
        "generate",
        "evaluate",
        "inspect",
        "cues",
        "export",
        "cache",
        "presets",
        "summary",
    ]
    for command in commands:
        assert re.search(rf"^  {command} ", out, re.MULTILINE)


def test_version_is_told(tw):
    assert tw("--version") == (0, f"textwright {textwright.__version__}\n", "")


def test_no_command_shows_the_help(tw):
    _, out, err = tw()
    assert "Usage: " in out + err
    assert "generate" in out + err


def test_presets(tw, tw_json):
    assert tw_json("presets") == presets()
    _, out, _ = tw("presets")
    assert [line.split()[0] for line in out.splitlines()] == list(presets())


def test_summary_of_a_preset_needs_no_corpus(tw, tw_json):
    found = tw_json("summary", "recipes-lstm")
    assert set(found) == {"parameters", "context_length", "vocabulary"}
    assert found["parameters"]["total"] == 2_407_248
    layers = {layer["name"]: layer["count"] for layer in found["parameters"]["layers"]}
    assert list(layers.values()) == [1_000_000, 117_248, 1_290_000]
    assert all(set(layer) == {"name", "shape", "count"} for layer in found["parameters"]["layers"])
    _, out, _ = tw("summary", "recipes-lstm")
    assert "2,407,248" in out and "1,290,000" in out


def test_summary_of_a_run(tw_json, trained):
    found = tw_json("summary", trained)
    run = Run.load(trained)
    assert found["vocabulary"] == run.tokenizer.vocab_size
    assert found["parameters"]["total"] == sum(w.size for w in run.weights().values())


def test_corpus(tw, tw_json, notes, flags, monkeypatch):
    monkeypatch.setattr(survey, "MEASURED_SECONDS", 0.05)
    found = tw_json("corpus", notes, "--preset", "demo", *flags)
    assert {
        "documents",
        "characters",
        "words",
        "duplicates",
        "dropped",
        "cut",
        "padded",
        "unknown",
        "estimate",
    } <= set(found)
    assert set(found["estimate"]) == {"seconds_per_epoch", "memory_bytes"}
    assert found["documents"] == 300
    assert found["characters"] == sum(map(len, notes.read_text().splitlines()))
    assert found["cut"] == 1.0  # rows of 24 tokens
    assert found["estimate"]["seconds_per_epoch"] > 0
    _, out, _ = tw("corpus", notes, "--preset", "demo", *flags)
    assert "300 (267 train" in out
    assert "Note: 100% of the documents are cut" in out


def test_a_corpus_is_looked_at_with_the_split_that_training_will_see(
    tw_json, notes, flags, monkeypatch, tmp_path
):
    monkeypatch.setattr(survey, "MEASURED_SECONDS", 0.0)
    valid = tmp_path / "valid.txt"
    valid.write_text("".join(f"{note}\n" for note in grammar.documents(7, seed=9)))
    argv = [notes, "--preset", "demo", *flags, "--valid", valid, "--test", valid, "--threads", "1"]
    found = tw_json("corpus", *argv)
    tw_json("train", *argv, "--set", "train.max_steps=1")
    assert found["parts"] == Run.load(tmp_path / "runs/notes").corpus()["parts"]
    assert found["parts"] == {"train": 300, "valid": 7, "test": 7}


def test_train_and_what_it_says(tw, tw_json, notes, flags):
    found = tw_json("train", notes, "--preset", "demo", *flags)
    keys = {"run", "steps", "epochs", "seconds", "tokens_per_second", "best", "before"}
    assert set(found) == keys
    assert found["run"] == "runs/notes"
    assert found["steps"] == 20
    assert set(found["best"]) == {"step", "loss", "bits_per_character"}
    resumed = tw_json("train", "--resume", "--out", "runs/notes")
    assert {**resumed, "run": ""} == {**found, "run": ""}
    code, out, err = tw("train", "--resume", "--out", "runs/notes", "--set", "train.max_steps=22")
    assert code == 0, err
    assert "from step 20 to step 22" in err
    assert "textwright generate runs/notes" in err
    assert out == ""


@pytest.mark.parametrize(
    ("sources", "run"),
    [
        ("a.txt", "a"),
        ("b/c.csv.gz", "c"),
        ("b/*.txt", "b"),
        ("*.txt", "corpus"),
        ("b*/c", "corpus"),
        ("/*.txt", "corpus"),
    ],
)
def test_a_run_is_named_after_its_corpus(sources, run):
    assert default_run([sources]) == Path("runs", run)


@pytest.fixture
def jokes(tmp_path):
    """A table with a text and no column of that name."""
    rows = (f'{n},"{note}"\n' for n, note in enumerate(grammar.documents(300, seed=6)))
    (tmp_path / "jokes.csv").write_text("ID,Joke\n" + "".join(rows))
    return "jokes.csv"


QUICK = ["--set", "train.max_steps=1"]


def test_the_text_of_a_table_is_chosen_said_and_kept(tw, tw_json, jokes, flags, tmp_path):
    argv = ["train", jokes, "--preset", "demo", *flags, "--out", "run"]
    code, _, err = tw(*argv, *QUICK)
    assert code == 0, err
    line = "Text column: Joke (of 2 columns). Choose another with --text COLUMN or --template "
    assert line + "'{ID}: {Joke}'.\n" in err
    assert Run.load(tmp_path / "run").config.corpus.template == "{Joke}"
    assert Run.load(tmp_path / "run").corpus()["options"]["template"] == "{Joke}"
    # Neither is it chosen again, nor said, when the run goes on or is scored.
    code, _, err = tw(*argv, "--resume", "--set", "train.max_steps=2")
    assert code == 0, err
    assert "Text column" not in err and "corpus." not in err
    assert tw_json("evaluate", "run", jokes)["documents"] == 300
    refusal = refused(tw(*argv, "--resume", "--text", "ID"))
    assert "cannot change corpus.template from '{Joke}' to '{ID}'" in refusal


@pytest.mark.parametrize(
    ("given", "template"),
    [
        (["--text", "ID"], "{ID}"),
        (["--template", '"{ID}" = {Joke}'], '"{ID}" = {Joke}'),
        (["--set", "corpus.template={ID} {Joke}"], "{ID} {Joke}"),
    ],
)
def test_the_text_of_a_table_is_what_is_asked_for(tw, jokes, flags, tmp_path, given, template):
    argv = ["train", jokes, "--preset", "demo", *flags, *QUICK, "--out", "run", *given]
    code, _, err = tw(*argv)
    assert code == 0, err
    assert "Text column" not in err
    assert Run.load(tmp_path / "run").config.corpus.template == template


def test_a_run_to_begin_from_gives_its_template_to_the_same_table(tw, jokes, flags, tmp_path):
    first = ["--preset", "demo", *flags, "--template", "{ID}: {Joke}", "--out", "a"]
    assert tw("train", jokes, *first, *QUICK)[0] == 0
    code, _, err = tw("train", jokes, "--from", "a", *QUICK, "--out", "b")
    assert code == 0, err
    assert "Template: {ID}: {Joke}, as in the run that training begins from." in err
    assert Run.load(tmp_path / "b").config.corpus.template == "{ID}: {Joke}"


def test_a_list_is_seen_to_be_one_and_said(tw, tw_json, notes, flags, monkeypatch, tmp_path):
    monkeypatch.setattr(survey, "MEASURED_SECONDS", 0.0)
    code, out, err = tw("corpus", notes)
    assert code == 0, err
    line = "Documents: one a line (a list of short lines). Change with --unit file."
    assert out.splitlines()[0] == line
    found = tw_json("corpus", notes)
    assert (found["choices"][0], found["documents"]) == (line, 300)
    found = tw_json("corpus", notes, "--unit", "file")
    assert (len(found["choices"]), found["documents"]) == (1, 1)
    few = ["--set", "model.family=lstm", "--set", "model.hidden_size=8", *QUICK, "--out"]
    code, _, err = tw("train", notes, *few, "run")
    assert code == 0, err
    assert line in err
    assert Run.load(tmp_path / "run").config.corpus.unit == "line"
    assert tw("train", notes, *few, "whole", "--unit", "file")[0] == 0
    assert Run.load(tmp_path / "whole").config.corpus.unit == "file"


def test_train_from_another_run(tw_json, notes, trained, tmp_path):
    more = ["--set", "train.max_steps=2", "--set", "train.threads=1", "--set", "train.dtype=fp32"]
    found = tw_json("train", notes, "--from", trained, "--out", "again", *more)
    assert found["steps"] == 2
    run, origin = Run.load(tmp_path / "again"), Run.load(trained)
    assert run.tokenizer.fingerprint == origin.tokenizer.fingerprint
    assert run.config.origin.source == str(trained)
    assert run.config.model == origin.config.model


def test_train_with_files_of_its_own_to_hold_out(tw_json, tmp_path, notes, flags):
    for name in ("valid", "test"):
        (tmp_path / name).write_text("\n".join(grammar.documents(5, seed=len(name))))
    argv = ["--preset", "demo", *flags, "--valid", "valid", "--test", "test", "--out", "run"]
    tw_json("train", notes, *argv, "--set", "train.max_steps=1")
    parts = Run.load(tmp_path / "run").corpus()["parts"]
    assert (parts["valid"], parts["test"]) == (5, 5)


def test_a_time_budget_ends_training(tw_json, notes, flags, tmp_path):
    argv = ["--preset", "demo", *flags, "--time-budget", "1s", "--out", "run"]
    found = tw_json("train", notes, *argv, "--set", "train.max_steps=1")
    assert found["steps"] == 1
    assert Run.load(tmp_path / "run").config.train.time_budget == 1


def test_tensorboard_logs_on_request(tw, notes, flags, tmp_path, monkeypatch):
    shown = []

    class Board:
        add_scalar = add_text = lambda self, *values: shown.append(values)

        def close(self):
            shown.append("closed")

    monkeypatch.setattr("textwright.cli.display.progress._open_tensorboard", lambda folder: Board())
    code, _, err = tw("train", notes, "--preset", "demo", *flags, "--tensorboard", "--out", "run")
    assert code == 0, err
    assert ("loss/held out", 20) in {(entry[0], entry[-1]) for entry in shown[:-1]}
    assert shown[-1] == "closed"


def test_a_private_run_is_scored_on_a_corpus_that_is_named(tw, tw_json, notes, flags, tmp_path):
    argv = ["--preset", "demo", *flags, "--private", "--out", "run", "--set", "train.max_steps=1"]
    tw_json("train", notes, *argv)
    assert "--private); name a corpus" in refused(tw("evaluate", "run"))
    private = Run.load(tmp_path / "run")
    assert not private.has("heldout.jsonl.gz")
    assert tw_json("evaluate", "run", notes)["documents"] == 300


def test_evaluate(tw, tw_json, trained):
    found = tw_json("evaluate", trained)
    assert {
        "loss",
        "perplexity",
        "bits_per_character",
        "bits_per_byte",
        "documents",
        "tokens",
        "interval",
    } <= set(found)
    low, high = found["interval"]["bits_per_character"]
    assert low < found["bits_per_character"] < high
    assert found["documents"] == Run.load(trained).corpus()["parts"]["test"]
    valid = tw_json("evaluate", trained, "--part", "valid")
    best = min(
        (m["scores"] for m in Run.load(trained).metrics() if m["event"] == "evaluation"),
        key=lambda scores: scores["loss"],
    )
    assert valid["loss"] == pytest.approx(best["loss"], rel=1e-5)
    assert f"{found['loss']:.4f} nats" in tw("evaluate", trained)[1]


def test_evaluate_fields(tw, tw_json, formed):
    found = tw_json("evaluate", formed, "--fields")
    assert found["documents"] == Run.load(formed).corpus()["parts"]["test"]
    kept = found["adherence"]
    assert set(kept) == {"texts", "complete", "documents", "unparsed", "fields"}
    assert (kept["documents"], kept["unparsed"]) == (found["documents"], 0)
    assert list(kept["fields"]) == ["course", "pans", "note"]
    for name, field in kept["fields"].items():
        assert {*field} == {"found", "gain", "gain_interval", "preferred", "preferred_interval"}
        assert kept["complete"] <= field["found"] <= 1
        assert (field["gain"] is None) == (name == "note")
    out = tw("evaluate", formed, "--fields")[1]
    assert f"{found['loss']:.4f} nats" in out
    assert f"{kept['fields']['pans']['gain']:+.3f} (" in out


def test_demo(tw, monkeypatch, tmp_path, tiny):
    monkeypatch.setattr(demo_runs, "NOTES", 250)
    resolve = demo_runs.Config.resolve

    def smaller(preset):
        return resolve(preset, settings=tiny if preset == "demo" else tiny_gpt)

    tiny_gpt = [setting for setting in tiny if not setting.startswith("model.")]
    monkeypatch.setattr(demo_runs.Config, "resolve", smaller)
    for _ in range(2):  # a second demo replaces the first
        code, out, err = tw("demo", "--out", "shown")
        assert code == 0, err
        for line in ("LSTM", "GPT", "the truth"):
            assert line in out
        for family in ("lstm", "gpt"):
            assert Run.load(Path("shown") / family).config.model.family == family
    thesis = tmp_path / "mine" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    assert "something other than a demo" in refused(tw("demo", "--out", "mine"))
    assert thesis.exists()
    shutil.copytree("shown", "alike")
    Path("alike/notes.txt").write_text("notes of one's own")
    assert "something other than a demo" in refused(tw("demo", "--out", "alike"))
    Path("shown/gpt/chapter.txt").write_text("a file beside a demo's")
    assert "something other than a demo" in refused(tw("demo", "--out", "shown"))
    assert "The demo cannot use" in refused(tw("demo", "--out", thesis))


# Writing


def test_generate(tw, tw_json, trained):
    argv = ["generate", trained, "--prompt", "Slow", "--prompt", "", "--num", "2", "--seed", "7"]
    found = tw_json(*argv)
    assert set(found) == {"samples", "seed", "seconds", "tokens_per_second"}
    assert found["seed"] == 7
    assert [sample["prompt"] for sample in found["samples"]] == ["Slow", "Slow", "", ""]
    for sample in found["samples"]:
        assert set(sample) == {"prompt", "text", "tokens", "finish_reason"}
        assert sample["tokens"] <= 12
        assert sample["finish_reason"] in ("stop", "length")
    assert tw_json(*argv)["samples"] == found["samples"]
    _, out, err = tw(*argv)
    assert [text.removesuffix("\n") for text in re.split(r"\n?--- \d ---\n", out)[1:]] == [
        sample["prompt"] + sample["text"] for sample in found["samples"]
    ]
    assert "tokens" in err


def test_generate_from_fields(tw, tw_json, formed, tmp_path):
    argv = ["generate", formed, "--field", "course=Soup", "--field", "note=Serve a=b.", "--num", 2]
    found = tw_json(*argv)
    for sample in found["samples"]:
        assert set(sample) == {"prompt", "text", "tokens", "finish_reason", "fields"}
        assert sample["prompt"] == "Soup : "
        assert list(sample["fields"]) == ["course", "pans", "note"]
        assert sample["fields"]["course"] == "Soup"
        # 20 steps teach little: where the model never came to the separator, the rest is missing.
        expected = None if sample["fields"]["pans"] is None else "Serve a=b."
        assert sample["fields"]["note"] == expected
    code, out, _ = tw(*argv, "--out", "texts.jsonl")
    assert (code, out) == (0, "")
    lines = (tmp_path / "texts.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == found["samples"]
    texts = [sample["prompt"] + sample["text"] for sample in found["samples"]]
    code, out, err = tw(*argv)
    assert out == "".join(f"--- {n} ---\n{text}\n" for n, text in enumerate(texts, 1)).replace(
        "\n---", "\n\n---"
    )
    assert "[UNK]: " in err
    written = load(formed).fill({"course": "Soup", "note": "Serve a=b."}, num=2)
    assert written == [sample["fields"] for sample in found["samples"]]


def test_every_sampling_option_has_a_flag_with_its_help():
    from typer.main import get_command

    context = get_command(app).commands["generate"].make_context("generate", ["RUN"])
    flags = {flag: option for option in context.command.params for flag in option.opts}
    for name, field in SamplingOptions.model_fields.items():
        flag = flags["--" + name.replace("_", "-")]
        assert flag.help.startswith(field.description)
        assert flag.default is None  # the run's own value


def test_flags_and_the_python_call_have_the_same_defaults():
    flags = inspect.signature(with_sampling_flags(generate)).parameters
    call = inspect.signature(textwright.Writer.generate).parameters
    for name in ("num", "seed", "logprobs", "batch_size", *SamplingOptions.model_fields):
        assert flags[name].default == call[name].default


def test_every_sampling_flag_reaches_the_sampler(tw, trained):
    values = {
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
        "logit_bias": {"=": 1.5},
        "forbid": ["rice"],
        "min_new_tokens": 2,
        "max_new_tokens": 9,
        "stop": ["."],
        "beams": 4,
        "length_penalty": 0.5,
        "early_stopping": "never",
    }
    assert set(values) == set(SamplingOptions.model_fields)
    given = []
    for name, value in values.items():
        text = {"logit_bias": "==1.5", "forbid": "rice", "stop": "."}.get(name, str(value))
        given += ["--" + name.replace("_", "-"), text]
    caught = []

    def catch(options):
        caught.append(options)
        return []

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("textwright.writing.sampling_options.explain", catch)
        assert tw("generate", trained, "--explain", *given)[0] == 0
    assert caught[0].model_dump() == values


def test_greedy_is_temperature_0(tw_json, trained):
    greedy = tw_json("generate", trained, "--greedy")["samples"]
    assert greedy == tw_json("generate", trained, "--temperature", 0)["samples"]
    assert greedy == tw_json("generate", trained, "--greedy", "--seed", 5)["samples"]


def test_explain_prints_the_steps_in_force(tw, trained):
    code, out, _ = tw("generate", trained, "--explain", "--top-k", "7", "--temperature", "0.5")
    assert code == 0
    assert re.search(r"^ *8 temperature.*0\.5", out, re.MULTILINE)
    assert re.search(r"^ *9 top-k.*7", out, re.MULTILINE)


def test_explain_prints_what_beams_do(tw, trained):
    given = ["--beams", "4", "--length-penalty", "2", "--early-stopping", "true"]
    _, out, _ = tw("generate", trained, "--explain", *given)
    assert re.search(r"^13 draw: by seed.*8 of what may follow 4 beams", out, re.MULTILINE)
    assert "score / tokens^2" in out
    assert re.search(r"^ +search ends: when 4 have ended$", out, re.MULTILINE)
    _, out, _ = tw("generate", trained, "--explain", *given, "--greedy")
    assert "8 temperature: 0: beam search" in out
    assert "13 draw: no chance involved; 8 of" in out
    _, out, _ = tw("generate", trained, "--explain")
    assert "score" not in out
    _, out, _ = tw("generate", trained, "--explain", "--json")
    assert json.loads(out)["steps"][0] == " 1 bias: off"


def test_beams_of_several_prompts_go_to_a_file(tw, tw_json, trained, tmp_path):
    """The settings that the synopses are written with, on eight prompts."""
    prompts = ["The", "A soup", "Slow", "", "Serve the", "Winter rice", "Stir", "In a bowl"]
    (tmp_path / "prompts.txt").write_text("\n".join(prompts), "utf-8")
    given = ["--prompts", "prompts.txt", "--beams", "5", "--early-stopping", "true"]
    given += [
        "--top-k",
        "1000",
        "--top-p",
        "0.95",
        "--temperature",
        "0.6",
        "--no-repeat-ngram",
        "2",
    ]
    given += ["--min-new-tokens", "10", "--max-new-tokens", "30"]
    argv = ["generate", trained, *given, "--out", "texts.txt"]
    found = tw_json(*argv)["samples"]
    assert [sample["prompt"] for sample in found] == prompts
    assert all(10 <= sample["tokens"] <= 30 for sample in found)
    written = (tmp_path / "texts.txt").read_text("utf-8")
    assert written == "\n\n".join(s["prompt"] + s["text"] for s in found) + "\n"
    best = tw_json("generate", trained, "--beams", "3", "--greedy", "--num", "3")["samples"]
    assert len({sample["text"] for sample in best}) == 3


@pytest.mark.parametrize("more", [[], ["--beams", "3"]], ids=str)
def test_logprobs_are_given_on_request(tw, tw_json, trained, tmp_path, more):
    argv = ["generate", trained, "--prompt", "Slow", *more]
    (plain,) = tw_json(*argv)["samples"]
    (sample,) = tw_json(*argv, "--logprobs", "--out", "texts.jsonl")["samples"]
    logprobs = sample.pop("logprobs")
    assert sample == plain
    assert len(logprobs) == sample["tokens"] and max(logprobs) < 0
    assert json.loads((tmp_path / "texts.jsonl").read_text("utf-8"))["logprobs"] == logprobs


def test_prompts_from_a_file(tw_json, trained, tmp_path):
    (tmp_path / "prompts.txt").write_bytes("\ufeffSlow\r\nWinter rice\r\n".encode())
    found = tw_json("generate", trained, "--prompts", "prompts.txt")
    assert [sample["prompt"] for sample in found["samples"]] == ["Slow", "Winter rice"]


def test_texts_go_to_a_file(tw, tw_json, trained, tmp_path):
    argv = ["generate", trained, "--num", "2"]
    samples = tw_json(*argv)["samples"]
    code, out, _ = tw(*argv, "--out", "texts/two.txt")
    assert (code, out) == (0, "")
    texts = (tmp_path / "texts/two.txt").read_text()
    assert texts == "\n\n".join(sample["text"] for sample in samples) + "\n"
    tw(*argv, "--out", "two.jsonl")
    lines = (tmp_path / "two.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == samples


@pytest.mark.parametrize("name", ["texts.txt", "texts.jsonl"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError])
def test_what_ended_before_a_crash_is_in_the_file(tw, tw_json, trained, monkeypatch, name, error):
    argv = ["generate", trained, "--num", "7", "--batch-size", "2", "--prompt", "Slow"]
    samples = tw_json(*argv)["samples"]
    backend, steps = NumpyLSTM.step, iter(range(30))

    def crash(self, ids, state):
        if next(steps, None) is None:
            raise error
        return backend(self, ids, state)

    monkeypatch.setattr(NumpyLSTM, "step", crash)
    if error is RuntimeError:
        with pytest.raises(RuntimeError):
            tw(*argv, "--out", name)
    else:
        code, _, err = tw(*argv, "--out", name)
        assert code == (130 if error is KeyboardInterrupt else 2)
        assert ("--batch-size 1" in err) == (error is MemoryError)
    written = Path(name).read_text("utf-8")
    if name.endswith(".jsonl"):
        texts = [json.loads(line) for line in written.splitlines()]
    else:
        texts = written.removesuffix("\n").split("\n\n")
        samples = [sample["prompt"] + sample["text"] for sample in samples]
    assert 3 <= len(texts) < 7
    assert texts == [sample for sample in samples if sample in texts]


def test_a_text_is_in_the_file_as_soon_as_it_ends(tw, trained, monkeypatch):
    backend, seen = NumpyLSTM.step, []

    def look(self, ids, state):
        seen.append(Path("texts.txt").read_text("utf-8"))
        return backend(self, ids, state)

    monkeypatch.setattr(NumpyLSTM, "step", look)
    tw("generate", trained, "--num", "3", "--batch-size", "1", "--out", "texts.txt")
    written = Path("texts.txt").read_text("utf-8")
    assert seen[0] == ""
    assert len({*seen, written}) == 4
    assert all(written.startswith(text) for text in seen)


def test_a_full_disk_is_a_sentence_that_names_the_file(tw, trained):
    code, _, err = tw("generate", trained, "--out", "/dev/full")
    assert code == 2
    assert err.startswith("textwright: Cannot write to /dev/full: No space left")


def test_a_text_that_cannot_go_on_gives_its_reason(tw, tw_json, trained):
    argv = ["generate", trained, "--prompt", "Slow", "--prompt", "", "--no-repeat-ngram", "1"]
    argv += ["--min-new-tokens", "2000", "--max-new-tokens", "2000"]
    samples = tw_json(*argv)["samples"]
    assert [sample["finish_reason"] for sample in samples] == ["no_token_left"] * 2
    assert all(0 < sample["tokens"] < 2000 for sample in samples)
    code, out, err = tw(*argv)
    assert code == 0 and samples[0]["text"] in out
    assert "2 texts could not go on, because no token was left" in " ".join(err.split())


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS limits memory on Linux only")
def test_memory_that_runs_out_while_writing_is_a_sentence(trained):
    program = f"""
import resource, sys
import numpy as np
from textwright.backends.numpy_lstm import NumpyLSTM
from textwright.cli import main
step = NumpyLSTM.step
def hungry(self, ids, state):
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, resource.RLIM_INFINITY))
    np.empty((len(ids), 2**24), np.float32)
    return step(self, ids, state)
NumpyLSTM.step = hungry
sys.argv = ["textwright", "generate", {str(trained)!r}, "--num", "8", "--json"]
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "textwright: Memory ran out while writing 8 texts at the same time: write fewer with "
        "--batch-size 4.\n"
    )


def test_a_word_that_is_not_in_the_vocabulary_is_named_on_stderr(tw, trained):
    code, out, err = tw("generate", trained, "--prompt", "Slow xylophone [b]", "--json")
    assert code == 0
    assert "[UNK]: xylophone" in err
    assert json.loads(out)["samples"][0]["prompt"] == "Slow xylophone [b]"


def test_a_conversation_goes_on_until_an_empty_line(tw, trained, monkeypatch):
    typed = iter(["Slow", "Winter", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed))
    code, out, _ = tw("generate", trained, "--interactive")
    assert code == 0
    assert [line.split()[0].rstrip(".,") for line in out.splitlines() if line] == ["Slow", "Winter"]


def test_a_conversation_ends_with_the_input(tw, trained, monkeypatch):
    def end(prompt):
        raise EOFError

    monkeypatch.setattr("builtins.input", end)
    assert tw("generate", trained, "--interactive")[0] == 0


# Wrong use


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["train"], "No corpus was named; give a file"),
        (["corpus"], "No corpus was named; give a file"),
        (["train", "missing.txt"], "missing.txt"),
        (["corpus", "missing.txt"], "missing.txt"),
        (["train", "NOTES", "--preset", "recipe"], "No preset is called 'recipe'. There are: "),
        (["train", "NOTES", "--set", "train.epoch=3"], "there is no option train.epoch"),
        (["train", "NOTES", "--set", "epochs=3"], "not of the form section.key=value"),
        (["train", "NOTES", "--set", "train.epochs=-1"], "train.epochs"),
        (["train", "NOTES", "--time-budget", "soon"], "train.time_budget"),
        (["train", "NOTES", "--config", "none.toml"], "Cannot read the config none.toml"),
        (["train", "NOTES", "--from", "nowhere"], "neither a run nor a folder nowhere"),
        (["train", "NOTES", "--set", "train.device=tpu"], "'tpu' is no device"),
        (["train", "--resume", "--out", "nowhere"], "No run at nowhere to resume"),
        (["train", "NOTES", "--out", "RUN"], "holds a run already"),
        (["train", "OTHER", "--out", "RUN", "--resume"], "not the one that"),
        (
            ["train", "NOTES", "--out", "RUN", "--resume", "--set", "model.hidden_size=9"],
            "cannot change model.hidden_size from 8 to 9",
        ),
        (["train", "NOTES", "--out", "NOTES/run"], "Not a directory"),
        (["train", "TABLE"], "has the columns id, price, none of which seems to hold text: name"),
        (["corpus", "TABLE"], "with --text COLUMN, or several with --template '{id}: {price}'."),
        (["train", "TABLE", "--text", "name"], "has no column name: name one of id, price"),
        (
            ["train", "TABLE", "--text", "id", "--template", "{id}"],
            "--text and --template both say what a document's text is; leave out one of them.",
        ),
        (["corpus", "NOTES", "--unit", "page"], "'file', 'line' or 'block' (given: 'page')"),
        (["train", "NOTES", "--fast"], "No such option: --fast"),
        (["generate", "nowhere"], "No run at nowhere. Train one: textwright train"),
        (["generate"], "Missing argument"),
        (["generate", "RUN", "--prompts", "none.txt"], "Cannot read the prompts in none.txt"),
        (["generate", "RUN", "--prompts", "/dev/null"], "holds no prompts"),
        (["train", "NOTES", "--set", "train.seed=18446744073709551616"], "train.seed: "),
        (["generate", "RUN", "--temperature", "-1"], "temperature cannot be -1"),
        (["generate", "RUN", "--temperature", "hot"], "'--temperature': "),
        (["generate", "RUN", "--top-p", "2"], "top_p cannot be 2"),
        (["generate", "RUN", "--num", "0"], "ask for 1 or more"),
        (["generate", "RUN", "--seed", "-1"], "seed"),
        (["generate", "RUN", "--logit-bias", "the"], "not of the form token=number"),
        (["generate", "RUN", "--logit-bias", "the=much"], "should end in a number"),
        (["generate", "RUN", "--logit-bias", "the=1,5"], "should end in a number"),
        (["generate", "RUN", "--interactive", "--num", "2"], "leave out --prompt"),
        (["evaluate", "RUN", "RUN/samples.md", "--part", "valid"], "leave out --part"),
        (["generate", "RUN", "--forbid", "xylophone"], "xylophone"),
        (["generate", "RUN", "--device", "tpu"], "tpu"),
        (["generate", "RUN", "--beams", "0"], "beams cannot be 0"),
        (["generate", "RUN", "--beams", "2", "--num", "3"], "--num 3 needs at least 3 beams"),
        (["generate", "RUN", "--early-stopping", "soon"], "early_stopping cannot be 'soon'"),
        (["generate", "RUN", "--greedy", "--temperature", "1"], "--greedy is temperature 0"),
        (["summary", "RUN", "--set", "model.hidden_size=9"], "A run keeps its options"),
        (
            ["train", "NOTES", "--set", "train.optimizer=adam", "--set", "train.weight_decay=0.1"],
            "set train.optimizer=adamw.",
        ),
        (["corpus", "ONE", "--from", "RUN"], "There is too little text to train on"),
        (["generate", "RUN", "--length-penalty", "2"], "are about beams: add --beams"),
        (["generate", "RUN", "--early-stopping", "True"], "are about beams: add --beams"),
        (["generate", "RUN", "--interactive", "--field", "a=b"], "leave out --prompt"),
        (["train", "NOTES", "--time-budget", "40x"], "this is not a time; give seconds, or for"),
        (["summary", "small-gpt", "--set", "model.width=65"], "set key_width and value_width."),
        (["summary", "demo", "--set", "model.width=65"], "no option model.width of family lstm."),
        (
            ["train", "NOTES", "--preset", "demo", "--set", "train.lora_rank=4"],
            "model.family gpt only; leave it out.",
        ),
        (["generate", "RUN", "--batch-size", "0"], "The batch size is 0: give 1 or more"),
        (["generate", "RUN", "--logprobs"], "--logprobs needs --json or --out FILE.jsonl"),
        (["generate", "RUN", "--field", "title=Soup"], "trained without a template"),
        (["evaluate", "RUN", "--fields"], "trained without a template"),
        (["generate", "FORMED", "--field", "color=red"], "the template has course, pans, note"),
        (["generate", "FORMED", "--field", "course"], "not of the form name=value"),
        (["generate", "FORMED", "--field", "course="], "The field course is empty"),
        (["generate", "FORMED", "--field", "course=a:b"], "the template puts ':' after it"),
        (["generate", "FORMED", "--field", "pans=1", "--field", "pans=2"], "pans is given twice"),
        (["generate", "FORMED", "--field", "pans=1", "--prompt", "a"], "leave out the prompt"),
        (["generate", "FORMED", "--field", "pans=1", "--beams", "2"], "cannot be used with beams"),
        (["generate", "RUN", "--out", "NOTES/x.txt"], "Cannot write to"),
        (["evaluate", "nowhere"], "No run at nowhere"),
        (["evaluate", "RUN", "missing.txt"], "missing.txt"),
        (["evaluate", "RUN", "--part", "train"], "--part is test or valid, not 'train'"),
        (["summary", "nothing"], "nothing"),
        (["write"], "No such command 'write'"),
    ],
)
def test_wrong_use_is_one_sentence(tw, notes, trained, formed, tmp_path, argv, sentence):
    other = tmp_path / "other.txt"
    other.write_text("".join(f"{note}\n" for note in grammar.documents(30, seed=4)))
    folder = shutil.copytree(trained, tmp_path / "run")
    names = {"NOTES": notes, "OTHER": other, "RUN": folder, "FORMED": formed}
    names["ONE"] = tmp_path / "one.txt"
    names["ONE"].write_text("a")
    names["TABLE"] = tmp_path / "table.csv"
    names["TABLE"].write_text("id,price\n" + "".join(f"{n},{n}.99\n" for n in range(300)))
    names["NOTES/run"] = notes / "run"
    names["NOTES/x.txt"] = notes / "x.txt"
    assert sentence in refused(tw(*(names.get(part, part) for part in argv)))
    assert sorted(f.name for f in tmp_path.iterdir()) == [
        "one.txt",
        "other.txt",
        "run",
        "table.csv",
    ]


def test_a_run_that_was_damaged_is_said(tw, trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "run")
    (folder / "model.safetensors").write_bytes(b"\x00" * 9)
    assert "model.safetensors is damaged" in refused(tw("generate", folder))


def test_ctrl_c_is_said(tw, trained, monkeypatch):
    def interrupt(prompt):
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", interrupt)
    code, _, err = tw("generate", trained, "--interactive")
    assert code == 130
    assert err == "\ntextwright: interrupted.\n"


def test_what_is_redirected_is_utf_8_whatever_the_system_writes(trained):
    argv = [*MAIN, "generate", str(trained), "--prompt", "naïve →", "--json"]
    latin = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(argv, env=latin, capture_output=True, check=True)
    assert json.loads(done.stdout)["samples"][0]["prompt"] == "naïve →"


def test_a_reader_that_has_gone_is_no_error(trained):
    """As `textwright generate RUN | head` leaves it."""
    argv = [*MAIN, "generate", str(trained), "--num", "2000"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as writing:
        writing.stdout.readline()
        writing.stdout.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            writing.wait(60)
        writing.kill()
        assert b"Traceback" not in writing.stderr.read()


@pytest.mark.parametrize("argv", [["--help"], ["train", "--help"], ["generate", "--help"]])
def test_help_imports_nothing_heavy(argv):
    """It answers at once; what takes time to import is left to the commands that need it."""
    program = f"""
import sys
sys.argv = ["textwright", *{argv}]
from textwright.cli import main
try:
    main()
except SystemExit as ended:
    assert not ended.code
heavy = {{"torch", "numpy", "tokenizers", "pyarrow", "safetensors", "huggingface_hub", "rich"}}
if "train" not in sys.argv and "generate" not in sys.argv:
    heavy.add("pydantic")  # newer versions of typer read a command's options with it
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage: textwright" in done.stdout


@pytest.mark.parametrize("argv", [["generate", "--json"], ["inspect"]])
def test_writing_and_looking_need_no_torch(trained, argv):
    program = f"""
import sys
sys.argv = ["textwright", *{argv}, {str(trained)!r}]
from textwright.cli import main
try:
    main()
finally:
    assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout
