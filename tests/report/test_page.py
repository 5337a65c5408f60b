"""Pages: nothing of the network, what comes from users escaped, the same in Markdown; charts place
what they draw where it belongs."""

import errno
import re
import sys
from itertools import combinations
from xml.etree import ElementTree

import pytest

from textwright.errors import ReportError
from textwright.report import page as pages
from textwright.report.charts import (
    HEIGHT,
    WIDTH,
    Curve,
    Interval,
    interval_plot,
    label,
    line_chart,
    log_ticks,
    ticks,
)
from textwright.report.page import (
    Excerpt,
    Excerpts,
    Figure,
    Heading,
    Html,
    Paragraph,
    Section,
    Table,
    check_writable,
    in_markdown,
    render_html,
    render_markdown,
    write_page,
)

EVIL = "<script>alert('1')</script> & *so* | \"quoted\""
BLOCKS = [
    Paragraph(EVIL),
    Heading(EVIL),
    Table(["model", "bits", "note"], [[EVIL, "1.25", EVIL], ["b", "−0.5", "plain"]], EVIL),
    Figure("<svg></svg>", EVIL, "words"),
    Excerpts([Excerpt(EVIL, EVIL, EVIL)]),
]
SECTIONS = [Section(EVIL, BLOCKS), Section("Second"), Section("Third")]


def test_what_comes_from_users_is_escaped():
    page = render_html(EVIL, SECTIONS, EVIL)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 10


def test_a_page_asks_the_network_for_nothing():
    page = render_html("Title", SECTIONS)
    assert not re.search(r"(src|href)=\"(?!#)|@import|url\(|//[a-z]", page)


def test_a_page_has_what_a_reader_without_eyes_or_mouse_needs():
    page = render_html("Title", SECTIONS)
    assert '<html lang="en">' in page
    assert 'href="#content"' in page
    assert page.count("<h1>") == 1
    anchors = re.findall(r'<li><a href="#([^"]+)">', page)
    assert len(anchors) == len(SECTIONS)
    assert all(f'<section id="{anchor}"' in page for anchor in anchors)
    assert 'role="group" tabindex="0"' in page  # a wide table scrolls by keyboard
    assert 'scope="row"' in page
    for scheme in ("prefers-color-scheme: dark", "@media print", "max-width: 34rem"):
        assert scheme in page


def test_columns_of_numbers_stand_to_the_right():
    table = Table(
        ["name", "bits", "range", "words"],
        [["1", "1.25", "1.2 to 1.3", "a"], ["2", "–", "−1 to +2", "3"]],
    )
    assert table.markdown().splitlines()[1] == "| --- | ---: | ---: | --- |"
    assert table.html().count('<td class="number">') == 4
    assert Table(["a", "b"], []).html()


def test_markdown_says_the_same():
    text = render_markdown("Title", SECTIONS, "Lead.")
    assert text.startswith("# Title\n\nLead.\n\n## ")
    assert "\\<script\\>" in text
    assert "\\*so\\*" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    cells = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
    assert cells == {4}  # a bar inside a cell does not end it
    assert "> \\<script" in text
    assert f"\n\n### {in_markdown(EVIL)}\n\n" in text
    assert Html("<b>x</b>").markdown() == ""


def test_the_ending_of_the_name_says_what_is_written(tmp_path):
    write_page("Title", SECTIONS, tmp_path / "deep" / "a.html")
    write_page("Title", SECTIONS, tmp_path / "a.md")
    assert (tmp_path / "deep" / "a.html").read_text("utf-8").startswith("<!doctype html>")
    assert (tmp_path / "a.md").read_text("utf-8").startswith("# Title")
    with pytest.raises(ReportError, match=r"should end in \.html or \.md"):
        write_page("Title", SECTIONS, tmp_path / "a.pdf")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(ReportError, match=r"a\.md: Not a directory; name another place"):
        check_writable(tmp_path / "a.md" / "b.html")  # known before the work begins
    with pytest.raises(ReportError, match="is a folder; name a file"):
        write_page("Title", SECTIONS, tmp_path / "folder.html")


def test_a_full_disk_is_a_sentence_and_the_old_page_stays(tmp_path, monkeypatch):
    path = tmp_path / "a.md"
    write_page("Old", [], path)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pages, "write_text", full)
    with pytest.raises(ReportError, match=r"Cannot write .*: the disk is full; name another file"):
        write_page("New", [], path)
    assert path.read_text("utf-8") == "# Old\n"


def test_without_jinja2_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ReportError, match=r"pip install 'textwright\[report\]'"):
        write_page("Title", [], tmp_path / "a.html")
    write_page("Title", [], tmp_path / "a.md")  # needs none


# Charts


def parsed(drawing):
    return ElementTree.fromstring(f"<div>{drawing}</div>")


def test_ticks_are_round_and_enclose_the_values():
    for values in ([0.13, 0.21], [-4.0, 9.0], [3.0, 3.0], [1e-9, 2e-9], [0.0, 123456.0], []):
        found = ticks(values)
        assert found[0] <= min(values, default=0.0)
        assert found[-1] >= max(values, default=1.0)
        assert 3 <= len(found) <= 9
        step = found[1] - found[0]
        assert round(step / 10 ** len(str(int(step))), 6) == pytest.approx(
            step / 10 ** len(str(int(step))), abs=1e-6
        )
    assert ticks([0.0, 10.0]) == [0, 2, 4, 6, 8, 10]
    assert [label(tick, [0.0, 0.05]) for tick in (0.0, -0.05)] == ["0.00", "−0.05"]


def test_logarithmic_ticks_are_1_2_and_5_and_enclose_the_values():
    assert log_ticks([1, 64]) == [1, 2, 5, 10, 20, 50, 100]
    assert log_ticks([0.03, 0.4]) == [0.02, 0.05, 0.1, 0.2, 0.5]
    assert log_ticks([10, 10]) == [5, 10, 20]
    assert log_ticks([7]) == [5, 10]
    assert log_ticks([3, 40_000]) == [1, 10, 100, 1_000, 10_000, 100_000]
    drawing = line_chart(
        [Curve("a", [(1, 0.0), (10, 1.0), (100, 2.0)], 0)],
        x="x",
        y="y",
        title="",
        description="",
        log_x=True,
    )
    root = parsed(drawing)
    shown = [e.text for e in root.iter("text")]
    assert shown[-8:-1] == ["1", "2", "5", "10", "20", "50", "100"]
    [line] = root.iter("polyline")
    first, second, third = (float(pair.split(",")[0]) for pair in line.get("points").split())
    assert second - first == pytest.approx(third - second, abs=0.11)  # equal ratios, equal steps


def test_a_curve_runs_from_corner_to_corner():
    drawing = line_chart(
        [Curve("rises", [(0, 0), (10, 1)], 0), Curve("falls <b>", [(0, 1), (10, 0)], 1, dots=True)],
        x="step",
        y="bits",
        title="Two",
        description="One rises, one falls.",
    )
    root = parsed(drawing)
    rises, falls = (
        [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]
        for line in root.iter("polyline")
    )
    assert rises[0][0] < rises[1][0] <= WIDTH
    assert HEIGHT >= rises[0][1] > rises[1][1] >= 0  # up the page is less
    assert falls == [(rises[0][0], rises[1][1]), (rises[1][0], rises[0][1])]
    assert [e.text for e in root.iter("desc")] == ["One rises, one falls."]
    assert "var(--series-1)" in drawing
    assert "#" not in drawing  # colors are the page's
    dashes = [line.get("stroke-dasharray") for line in root.iter("polyline")]
    assert dashes[0] != dashes[1]


def test_points_that_are_no_numbers_are_left_out():
    drawing = line_chart(
        [Curve("a", [(1, float("nan")), (10, 2.0), (100, 3.0)], 0)],
        x="x",
        y="y",
        title="",
        description="",
        log_x=True,
    )
    [line] = parsed(drawing).iter("polyline")
    assert len(line.get("points").split()) == 2
    empty = {"x": "x", "y": "y", "title": "", "description": ""}
    assert "nan" not in line_chart([Curve("a", [], 0)], **empty).replace("dominant", "")


def test_an_interval_stands_around_its_value():
    rows = [Interval("a", 1.0, 0.5, 2.0, note="1.0"), Interval("b", -1.0, -2.0, -0.5, 9)]
    drawing = interval_plot(rows, x="bits", title="", description="", zero=True)
    root = parsed(drawing)
    first, second = (float(circle.get("cx")) for circle in root.iter("circle"))
    [zero] = [line for line in root.iter("line") if line.get("class") == "axis"]
    assert second < float(zero.get("x1")) < first
    low, high = re.search(r"M([\d.]+) [\d.]+H([\d.]+)", drawing).groups()
    assert float(low) < first < float(high)


def test_labels_of_points_that_lie_close_do_not_cover_each_other():
    points = [(place, place + place % 2 / 9) for place in (1.0, 1.3, 1.5, 1.6, 2.0, 2.4, 3.0)]
    drawing = line_chart(
        [
            Curve("a", points, 0, dots=True, labels=[f"{at:g}" for at, _ in points]),
            Curve("b", points[1:4], 1, dots=True, labels=["0.95", "0.9", "0.8"]),
        ],
        x="x",
        y="y",
        title="",
        description="",
    )
    labels = list(parsed(drawing).iter("text"))[-10:]
    boxes = []
    for each in labels:
        width, x, y = 8 * len(each.text), float(each.get("x")), float(each.get("y"))
        left = x - width * {"start": 0, "middle": 0.5, "end": 1}[each.get("text-anchor")]
        boxes.append((left, y - 11, left + width, y + 2))
    for one, other in combinations(boxes, 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart, (one, other)


def test_points_without_a_line_are_stars_in_the_drawing_and_its_legend():
    curve = Curve("real text", [(1.0, 2.0)], 4, dots=True, joined=False)
    drawing = line_chart([curve], x="x", y="y", title="", description="")
    stars = [e.get("points").split() for e in parsed(drawing).iter("polygon")]
    assert [len(star) for star in stars] == [10, 10]
    assert "<circle" not in drawing
