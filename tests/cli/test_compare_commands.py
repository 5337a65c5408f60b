"""`compare` and `bits` as a user calls them."""

import errno
import json
import re
import shutil

import pytest


def test_compare_writes_a_table_a_page_and_json(tw, trained, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    short = ["--no-easy", "--documents", "6", "--characters", "30", "--prompt", "Take"]
    page = tmp_path / "report.html"
    code, out, err = tw("compare", trained, other, *short, "--out", page)
    assert code == 0, err
    assert re.search(r"other\s+\d\.\d{4}\s+\d\.\d{4} to \d\.\d{4}", out)
    assert "bytes charged: " in out
    assert "+0.0000 (+0.0000 to +0.0000)" in out
    assert "The report: " in out
    html = page.read_text("utf-8")
    assert all(f">{title}</h2>" in html for title in ("Scores", "Differences", "Protocol", "Texts"))
    code, out, _ = tw("compare", trained, other, *short, "--json")
    found = json.loads(out)
    assert code == 0
    assert f"{found['runs'][0]['bits_per_character']:.4f}" in html
    assert found["runs"][0]["texts"][0] in html.replace("&#x27;", "'")
    assert found["prompts"] == ["Take"]


def test_the_report_says_more_of_each_run_where_it_is_asked_to(tw, trained, tmp_path):
    page = tmp_path / "report.md"
    moved = tmp_path / "moved"  # its training text cannot be found from there
    shutil.copytree(trained, moved)
    shutil.rmtree(moved / "checkpoints")
    short = ["--no-easy", "--documents", "2", "--characters", "5", "--prompt", "Take"]
    looks = ["--with", "inside", "--with", "memorisation"]
    code, _, err = tw("compare", moved, *short, *looks, "--out", page)
    assert code == 0, err
    said = page.read_text("utf-8")
    inside = said.partition("## Inside moved")[2]
    assert "### Surprisal\n" in inside and "### Saliency\n" in inside
    assert "## What moved has memorized" in said
    assert said.index("## Texts") < said.index("## Inside moved")
    code, _, err = tw("compare", trained, *short, "--with", "inside")
    assert code == 2
    assert "name its file with --out" in err


def test_the_json_has_the_audit_of_what_a_run_has_memorized_where_it_is_asked_for(tw, trained):
    short = ["--no-easy", "--documents", "2", "--characters", "5", "--json"]
    code, out, err = tw("compare", trained, *short, "--with", "memorisation")
    assert code == 0, err
    audit = json.loads(out)["runs"][0]["memorisation"]
    assert {"propensity", "capability", "checkpoints"} <= audit.keys()
    code, out, _ = tw("memorisation", trained, "--json")
    assert json.loads(out) == audit
    code, out, err = tw("compare", trained, *short, "--with", "sweep")
    assert code == 2
    assert "name its file with --out" in err


def test_bits_tells_how_far_it_is_in_one_long_text(tw, trained, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(
        "textwright.cli.display.progress.Progression.show",
        lambda self, stage, done, total, note="": told.append((stage, done, total)),
    )
    novel = tmp_path / "novel.txt"
    novel.write_text("Now peel the long carrots and wait. " * 120, "utf-8")
    code, _, err = tw("bits", trained, novel)
    assert code == 0, err
    scored = [(done, total) for stage, done, total in told if stage.startswith("Scoring")]
    assert len(scored) > 3
    assert sorted(scored) == scored
    assert scored[-1][0] == scored[-1][1] > 500  # tokens


def test_a_full_disk_does_not_take_the_scores_with_it(tw, trained, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("textwright.report.page.write_text", full)
    short = ["--no-easy", "--documents", "2", "--characters", "5", "--prompt", "Take"]
    code, out, err = tw("compare", trained, *short, "--out", tmp_path / "a.html")
    assert code == 2
    assert "bytes charged: " in out
    assert "the disk is full; name another file" in err
    assert not (tmp_path / "a.html").exists()


def test_bits_prints_the_proof(tw, trained):
    code, out, err = tw("bits", trained, "--documents", "3")
    assert code == 0, err
    assert "restored byte for byte by a decoder" in out
    code, out, _ = tw("bits", trained, "--documents", "3", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["proof"]["documents"] == 3
    assert found["protocol"]["bytes charged"].startswith(f"{found['bytes_charged']:,}")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["compare", "{run}", "--out", "x.pdf"], "should end in .html or .md"),
        (["compare", "{run}", "--part", "train"], "--part is test or valid, not 'train'"),
        (["compare", "{run}", "--part", "test", "--corpus", "a"], "leave out --part"),
        (["compare", "{run}", "--top-p", "0"], "top_p cannot be 0"),
        (["compare", "{run}", "--text", "note"], "say how a corpus is read; name one"),
        (["bits", "{run}", "a.csv", "--text", "note"], "leave out --text, --template and --unit"),
        (["compare", "nothing"], "There is no nothing; name a run"),
        (["compare", "{run}", "{empty}"], "is neither a run nor a folder with a model"),
        (["bits", "{empty}"], "is neither a run nor a folder with a model"),
        (["bits", "{run}", "nothing.txt"], "nothing.txt"),
    ],
)
def test_wrong_use_is_one_sentence(tw, trained, tmp_path, arguments, sentence):
    names = {"run": trained, "empty": tmp_path}
    code, out, err = tw(*(argument.format(**names) for argument in arguments))
    assert code == 2
    assert sentence in err
    assert "Traceback" not in err
    assert not out
    assert err.strip().splitlines()[-1].startswith("textwright: ")
