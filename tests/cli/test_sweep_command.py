"""`textwright sweep`: every kind of run, what it prints, draws and saves, and what it refuses."""

import json
import shutil
import tomllib
from functools import partial

import conftest
import pytest

from textwright import grammar
from textwright.api import load
from textwright.config import Config
from textwright.run import Run
from textwright.training.session import train_run
from textwright.writing.sampling_options import SamplingOptions

FEW = ("--temperatures", "0.5,1", "--texts", "10", "--max-new-tokens", "12", "--device", "cpu")

refused = partial(conftest.refused, speakers=("textwright: ",))


@pytest.fixture
def tw(tw):
    """`textwright sweep` → exit code, stdout, stderr."""
    return partial(tw, "sweep")


@pytest.fixture
def mine(trained, tmp_path):
    """A run of one's own."""
    return shutil.copytree(trained, tmp_path / "mine")


@pytest.mark.parametrize("kind", ["neural", "counts", "mixture"])
def test_every_kind_of_run_is_swept(tw, kind, notes, tiny, tmp_path):
    preset = "counts" if kind == "counts" else "demo"
    settings = ["tokenizer.vocab_size=300"] if kind == "counts" else tiny
    settings = [*settings, *(["counts.longest=2"] if kind == "mixture" else [])]
    config = Config.resolve(preset, settings=settings)
    list(train_run([notes], tmp_path / "run", config))
    code, out, err = tw("run", *FEW, "--top-p", "0.9", "--min-p", "0.1", "--json")
    assert code == 0, err
    found = json.loads(out)
    names = [(each["temperature"], each["top_p"], each["min_p"]) for each in found["settings"]]
    assert names == [(0.5, 1, 0), (1, 1, 0), (1, 0.9, 0), (1, 1, 0.1)]
    assert all(0 <= each["new"] <= 1 for each in [found["real"], *found["settings"]])
    assert found["texts"] == 10 and found["max_tokens"] == 12


def test_the_table_names_judge_reference_and_recommendation(tw, mine):
    code, out, err = tw(mine, *FEW)
    assert code == 0, err
    lines = out.splitlines()
    assert [line.split("  ")[0].replace("\u00a0", " ") for line in lines[1:4]] == [
        *("real text", "temperature 0.5", "temperature 1")
    ]
    assert "Judge: Kneser-Ney counts" in out and "Recommended: temperature " in out


def test_saving_makes_the_setting_the_default_and_keeps_the_rest(tw, mine):
    run = Run.load(mine)
    sample = SamplingOptions(
        temperature=0.3, top_k=5, beams=3, forbid=["soup"], max_new_tokens=17, stop=["."]
    )
    run.write_config(run.config.model_copy(update={"sample": sample}))
    before = tomllib.loads((mine / "config.toml").read_text("utf-8"))
    code, out, err = tw(mine, "--top-p", "0.9", *FEW[2:], "--save", "--json")
    assert code == 0, err
    chosen = json.loads(out)["recommended"]
    after = tomllib.loads((mine / "config.toml").read_text("utf-8"))
    assert {**after, "sample": None} == {**before, "sample": None}
    assert set(after["sample"]) == set(before["sample"])
    expected = SamplingOptions(top_p=0.9, forbid=["soup"], max_new_tokens=17, stop=["."])
    assert chosen["top_p"] == 0.9
    assert load(mine).options() == expected


@pytest.mark.parametrize("name", ["sweep.png", "sweep.html", "sweep.md"])
def test_the_picture_is_written(tw, mine, tmp_path, name):
    pytest.importorskip("matplotlib")
    code, _, err = tw(mine, *FEW, "--top-p", "0.9", "--out", name)
    assert code == 0, err
    content = (tmp_path / name).read_bytes()
    if name.endswith(".png"):
        assert content.startswith(b"\x89PNG")
        return
    text = content.decode("utf-8")
    assert "Recommended: temperature " in text or "Recommended: top-p" in text
    if name.endswith(".html"):
        for shown in ("real text", "0.5", "0.9", "<svg", "1 − self-BLEU"):
            assert shown in text
        assert "http" not in text.replace("http://www.w3.org", "")


def test_another_run_judges(tw, mine, formed):
    code, out, err = tw(formed, *FEW, "--judge", mine, "--json")
    assert code == 0, err
    assert json.loads(out)["judge"] == str(mine)


def test_real_text_can_be_named_and_a_lost_corpus_is_told(tw, mine, tmp_path, notes):
    fresh = tmp_path / "fresh.txt"
    fresh.write_text("".join(f"{note}\n" for note in grammar.documents(40, seed=77)), "utf-8")
    known = (mine / "corpus.json").read_text("utf-8")
    (mine / "checksums.json").unlink()
    (mine / "corpus.json").write_text(known.replace("notes.txt", "gone.txt"), "utf-8")
    code, out, err = tw(mine, *FEW, "--corpus", fresh, "--json")
    assert code == 0, err
    assert "What is copied is not measured" in err and "is gone" in err
    assert json.loads(out)["real"]["new"] is None
    assert "was trained on" in refused(tw(mine, *FEW, "--corpus", notes))


def test_the_text_that_a_run_was_trained_on_is_no_real_text(tw, tiny, tmp_path):
    """Of a novel, the run holds parts out, which have no hash of their own."""
    novel = tmp_path / "novel.txt"
    novel.write_text("\n".join(grammar.documents(60, seed=8)), "utf-8")
    config = Config.resolve("demo", settings=[*tiny, "corpus.unit=file"])
    list(train_run([novel], tmp_path / "run", config))
    error = refused(tw("run", *FEW, "--corpus", novel))
    assert "is the corpus that run was trained on; leave it out" in error


def test_a_setting_that_was_compared_with_none_is_not_the_nearest_of_all(tw, mine):
    code, out, err = tw(mine, "--temperatures", "0.7", *FEW[2:])
    assert code == 0, err
    assert "no other setting was compared" in " ".join(out.split())


def test_wrong_use_is_refused_in_a_sentence(tw, mine, tmp_path):
    assert "should be numbers" in refused(tw(mine, "--temperatures", "warm"))
    assert "temperature cannot be -1.0" in refused(tw(mine, "--temperatures", "-1"))
    assert "top_p cannot be 2.0" in refused(tw(mine, "--top-p", "2"))
    assert "cannot judge what it writes itself" in refused(tw(mine, *FEW, "--judge", mine))
    assert "No run at" in refused(tw(mine, *FEW, "--judge", tmp_path / "none"))
    assert "should end in .png" in refused(tw(mine, *FEW, "--out", "sweep.gif"))
    (tmp_path / "plots.png").mkdir()
    assert "plots.png is a folder" in refused(tw(mine, *FEW, "--out", "plots.png"))


def test_a_run_without_held_out_documents_is_refused(tw, mine):
    (mine / "heldout.jsonl.gz").unlink()
    assert "heldout.jsonl.gz is damaged" in refused(tw(mine, *FEW))


def test_a_damaged_run_is_left_as_it_is(tw, mine):
    (mine / "model.safetensors").write_bytes(b"half of it")
    config = (mine / "config.toml").read_bytes()
    assert "is damaged" in refused(tw(mine, *FEW, "--save"))
    assert (mine / "config.toml").read_bytes() == config
    (mine / "config.toml").write_bytes(config[: len(config) // 2])
    half = (mine / "config.toml").read_bytes()
    assert "is damaged" in refused(tw(mine, *FEW, "--save"))
    assert (mine / "config.toml").read_bytes() == half
