"""Commands: what they print, their JSON, and one sentence with exit code 2 for wrong use."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import refused

import textwright
from textwright import grammar
from textwright.cli import demo_runs
from textwright.config import presets
from textwright.run import Run
from textwright.run.lock import locked

MAIN = [sys.executable, "-c", "from textwright.cli import main; main()"]  # a process of its own


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


def test_full_memory_is_a_sentence(tw, monkeypatch):
    def full():
        raise MemoryError

    monkeypatch.setattr("textwright.config.presets", full)
    assert "Memory ran out; free some memory, or ask for less" in refused(tw("presets"))


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


def test_a_score_on_what_was_trained_on_is_said_to_be_unfair(tw, trained, notes, tmp_path):
    assert "Note: " not in tw("evaluate", trained)[1]
    said = " ".join(tw("evaluate", trained, notes)[1].split())
    assert "is the corpus that" in said and "leave it out" in said
    excerpt = tmp_path / "excerpt.txt"
    excerpt.write_text("".join(f"{text}\n" for text in Run.load(trained).held_out("test")), "utf-8")
    assert "Note: " not in tw("evaluate", trained, excerpt)[1]


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
    for again in (False, True):  # a second demo replaces the first, also where it was killed
        if again:
            shutil.rmtree("shown/gpt")
            for left in ("lstm/.lock-holder", "lstm/.loss.png.part", "gpt/.lock"):
                Path("shown", left).parent.mkdir(exist_ok=True)
                Path("shown", left).touch()
        code, out, err = tw("demo", "--out", "shown")
        assert code == 0, err
        for line in ("LSTM", "GPT", "the truth"):
            assert line in out
        for family in ("lstm", "gpt"):
            assert Run.load(Path("shown") / family).config.model.family == family
    with locked(Path("shown/lstm")):
        assert "lstm is being trained by process" in refused(tw("demo", "--out", "shown"))
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


# Wrong use


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["train"], "No corpus was named; give a file"),
        (["train", "--resume"], "Name the run to resume: --out runs/NAME."),
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
        (["train", "NOTES", "--from", "~nosuchuser/gpt2"], "nor a folder ~nosuchuser/gpt2;"),
        (["summary", "~nosuchuser/gpt2"], "No preset is called '~nosuchuser/gpt2'"),
        (["train", "NOTES", "--set", 'model.family=["gpt"]'], "there is no family ['gpt']; choose"),
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
        (["corpus", "ONE", "--from", "RUN"], "There are too few documents, 0 to train on and 0"),
        (["summary", "auto"], "textwright corpus FILE shows it"),
        (["train", "NOTES", "--set", "train.epoch=3"], "perhaps train.epochs is meant"),
        (["train", "NOTES", "--set", "train.dropout=0"], "perhaps model.dropout is meant"),
        (["train", "NOTES", "--set", "model.family=x", "--set", "train.epoch=3"], "train.epochs"),
        (["generate", "RUN", "--length-penalty", "2"], "are about beams: add --beams"),
        (["generate", "RUN", "--early-stopping", "True"], "are about beams: add --beams"),
        (["generate", "RUN", "--interactive", "--field", "a=b"], "leave out --prompt"),
        (["train", "NOTES", "--time-budget", "40x"], "this is not a time; give seconds, or for"),
        (["summary", "small-gpt", "--set", "model.width=65"], "set key_width and value_width."),
        (["summary", "demo", "--set", "model.width=65"], "no option model.width of family lstm"),
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


@pytest.mark.parametrize(
    "argv",
    [
        ["train", "NOTES", "--out", "LONG"],
        ["train", "--resume", "--out", "LONG"],
        ["summary", "LONG"],
        ["bits", "LONG"],
        ["compare", "LONG"],
        ["compare", "RUN", "--out", "LONG.md"],
        ["inspect", "RUN", "--html", "LONG.html"],
        ["export", "RUN", "--to", "onnx", "--out", "LONG"],
    ],
    ids=" ".join,
)
def test_a_name_that_no_file_can_have_is_one_sentence(tw, notes, trained, argv):
    long = "long" * 100
    names = {"NOTES": str(notes), "RUN": str(trained)}
    sentence = refused(tw(*(names.get(part, part).replace("LONG", long) for part in argv)))
    assert long in sentence and "too long" in sentence


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


def test_a_name_that_is_no_utf_8_is_told_in_a_sentence(tmp_path):
    argv = [*MAIN, "generate", os.fsdecode(b"caf\xe9")]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True)
    assert done.returncode == 2
    assert b"No run at caf\\udce9" in done.stderr and b"Traceback" not in done.stderr


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
