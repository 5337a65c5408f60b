"""`textwright generate`: its texts, its files, and every sampling flag."""

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import SAMPLING, refused

import textwright
from textwright.api import load
from textwright.backends.numpy_lstm import NumpyLSTM
from textwright.cli import app
from textwright.cli.display.texts import show_stream
from textwright.cli.sampling_flags import with_sampling_flags
from textwright.cli.write_commands import generate
from textwright.writing.sampling_options import SamplingOptions


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
    values = {**SAMPLING, "logit_bias": {"=": 1.5}, "forbid": ["rice"]}
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


def test_old_texts_stay_until_there_is_a_new_one(tw, trained, monkeypatch):
    Path("texts.txt").write_text("an old text", "utf-8")

    def interrupt(self, ids, state):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(NumpyLSTM, "step", interrupt)
        assert tw("generate", trained, "--out", "texts.txt")[0] == 130
    assert Path("texts.txt").read_text("utf-8") == "an old text"
    assert tw("generate", trained, "--out", "texts.txt")[0] == 0
    assert "an old text" not in Path("texts.txt").read_text("utf-8")


def test_prompts_are_not_written_over(tw, trained, tmp_path):
    (tmp_path / "prompts.txt").write_text("Slow", "utf-8")
    (tmp_path / "link.txt").symlink_to("prompts.txt")
    for out in ("prompts.txt", "link.txt"):
        sentence = refused(tw("generate", trained, "--prompts", "prompts.txt", "--out", out))
        assert "would replace the prompts in prompts.txt: name another file" in sentence
    assert (tmp_path / "prompts.txt").read_text("utf-8") == "Slow"


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


def test_a_prompt_that_cannot_be_read_does_not_end_a_conversation(tw, trained, monkeypatch):
    typed = iter(["caf\udce9", "Winter", ""])  # as a terminal gives bytes that are not UTF-8
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed))
    code, out, err = tw("generate", trained, "--interactive")
    assert code == 0
    assert out.startswith("Winter") and err

    def other(prompt):
        raise UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "invalid")

    monkeypatch.setattr("builtins.input", other)
    code, out, err = tw("generate", trained, "--interactive")
    assert code == 2 and "What was read is not UTF-8" in err


def test_control_characters_of_a_text_are_shown_on_a_terminal(monkeypatch, capsys):
    stream = SimpleNamespace(
        prompts=[SimpleNamespace(text="\x1b[2J")], num=1, tokens=1, tokens_per_second=1.0
    )
    events = [SimpleNamespace(sample=0, text="a\x07\n", finish_reason="stop")]
    stream = type("Stream", (), {**vars(stream), "__iter__": lambda self: iter(events)})()
    show_stream(stream)
    assert capsys.readouterr().out == "\x1b[2Ja\x07\n\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    show_stream(stream)
    assert capsys.readouterr().out == "\\x1b[2Ja\\x07\n\n"


def test_a_conversation_ends_with_the_input(tw, trained, monkeypatch):
    def end(prompt):
        raise EOFError

    monkeypatch.setattr("builtins.input", end)
    assert tw("generate", trained, "--interactive")[0] == 0
