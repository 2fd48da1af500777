import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from train.errors import BadInput
from train.report import pages as report
from train.report.pages import Figure, Picture, Section, Table
from train.report.pictures import png

PIXELS = png(np.arange(48, dtype=np.uint8).reshape(6, 8))


class Page(HTMLParser):
    """Checks that tags nest, and keeps attributes and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def test_a_page_is_one_file_with_its_pictures(tmp_path):
    path = tmp_path / "runs" / "report.html"
    sections = [
        Section(
            "One", "First.\n\nRun `python -m x`.", [Picture(PIXELS, "eight by six")]
        ),
        Section("Two", pictures=[Picture(PIXELS, plot=True)]),
        Section("Three", tables=[Table(["a", "b"], [["x", 1.5]])]),
    ]
    report.write(path, "A title", "A lead.", sections, [Figure("PSNR", 26.31, "dB")])
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    pixels, plot = page.all("img")
    assert base64.b64decode(pixels["src"].split(",")[1]) == PIXELS
    assert pixels["class"] == "pixels" and plot["class"] == "plot"
    # Square pixels, a whole number of the screen's for each.
    assert int(pixels["width"]) / 8 == int(pixels["height"]) / 6 == 6
    assert page.text.count("First.") == 1 and "26.31" in page.text
    assert [c for c in page.all("a")] == [{"href": f"#s{i}"} for i in range(3)]
    assert [s["id"] for s in page.all("section")] == ["s0", "s1", "s2"]
    assert not page.all("script") and not page.all("link")
    assert not re.search(r"https?:|@import|url\(", text)


def test_text_cannot_become_markup():
    nasty = "<script>\"&'</script>"
    text = report.render(
        nasty,
        nasty,
        [
            Section(
                nasty,
                f"`{nasty}`",
                [Picture(PIXELS, nasty)],
                [Table([nasty], [[nasty]], nasty)],
            )
        ],
        [Figure(nasty, nasty, nasty)],
    )
    page = Page(text)
    assert not page.all("script")
    assert page.all("img")[0]["alt"] == nasty
    assert len(page.all("code")) == 1


def cells(table, tag="td"):
    text = report.render("t", "", [Section("s", tables=[table])])
    return re.findall(rf"<{tag}( [^>]*)?>(.*?)</{tag}>", text)


def test_numbers_of_a_column_have_their_points_in_line():
    rows = [["flow", 0.924, 12.87, 1437], ["masked", 1.0, 2.5, None]]
    found = cells(Table(["model", "accuracy", "distance", "n"], rows))
    assert [text for _, text in found] == [
        *("flow", "0.924", "12.87", "1,437"),
        *("masked", "1.000", "2.50", "–"),
    ]
    kinds = [kind for kind, _ in found]
    assert kinds == ["", *[' class="number"'] * 3] * 2
    head = cells(Table(["model", "accuracy", "distance", "n"], rows), "th")
    assert [kind for kind, _ in head] == kinds[:4]


def test_a_column_with_words_is_text():
    found = cells(Table(["steps"], [[25], ["adaptive"]]))
    assert found == [("", "25"), ("", "adaptive")]


@pytest.mark.parametrize(
    "value,text",
    [
        (0.99444, "0.9944"),
        (np.float32(0.992), "0.992"),
        (1.0, "1.0"),
        (26.3094, "26.31"),
        (1234.56, "1,235"),
        (123456.0, "123,456"),
        (-3.5, "−3.5"),
        (0.00012, "1.20e−04"),
        (0.0, "0.0"),
        (float("nan"), "nan"),
        (float("-inf"), "−inf"),
        (60000, "60,000"),
        (np.int64(7), "7"),
        (True, "yes"),
        (None, "–"),
        ("26.3 dB", "26.3 dB"),
    ],
)
def test_numbers_are_written_to_four_digits(value, text):
    assert report.number(value) == text


def test_a_figure_says_whether_its_bar_was_met():
    text = report.render(
        "t", "", [], [Figure("a", 1, "x", True), Figure("b", 2, "x", 0)]
    )
    assert [c["class"] for c in Page(text).all("div") if "figure " in c["class"]] == [
        "figure passed",
        "figure missed",
    ]


def test_what_does_not_fit_is_refused():
    with pytest.raises(BadInput, match="3 columns and a row of 2"):
        cells(Table(["a", "b", "c"], [[1, 2]], "t"))
    with pytest.raises(BadInput, match="no PNG"):
        report.render("t", "", [Section("s", "", [Picture(b"GIF89a", "x")])])
