import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from train.errors import BadInput
from train.report.demo_pages import SETTINGS, _by_class, bars, page
from train.report.pages import number, render, table
from train.report.pictures import png

PIXELS = png(np.arange(48, dtype=np.uint8).reshape(6, 8))
PLOT = png(np.zeros((300, 920), np.uint8))


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


def test_a_page_is_one_file_with_its_pictures():
    shown = {"eight": PIXELS, "plot": PLOT}
    text = f"""# A title

First, `code`
and **bold**.

## Section

![eight by six](eight)
![](plot)

{table(["a", "b"], [["x", 1.5]])}
"""
    html = render(text, shown)
    found = Page(html)
    pixels, plot = found.all("img")
    assert base64.b64decode(pixels["src"].split(",")[1]) == PIXELS
    assert pixels["class"] == "pixels" and plot["class"] == "plot"
    # Square pixels, a whole number of the screen's for each; plots at half their size.
    assert int(pixels["width"]) / 8 == int(pixels["height"]) / 6 == 6
    assert (plot["width"], plot["height"]) == ("460", "150")
    tags = [tag for tag, _ in found.tags]
    assert [tags.count(tag) for tag in ("h1", "h2", "p", "code", "b")] == [1] * 5
    assert tags.count("table") == 1 and tags.count("td") == 2
    assert found.text.count("First") == 1 and "<title>A title</title>" in html
    assert not found.all("script") and not found.all("link")
    assert not re.search(r"https?:|@import|url\(", html)


def test_text_cannot_become_markup():
    nasty = "<script>\"&'|</script>"
    blocks = f"# {nasty}", f"`{nasty}`", f"![{nasty}](x)", table([nasty], [[nasty]])
    found = Page(render("\n\n".join(blocks), {"x": PIXELS}))
    assert not found.all("script") and len(found.all("td")) == 1
    assert found.all("img")[0]["alt"] == nasty
    assert len(found.all("code")) == 1


def test_numbers_of_a_column_have_their_points_in_line():
    rows = [["flow", 0.924, 12.87, 1437], ["masked", 1.0, 2.5, None]]
    assert table(["model", "accuracy", "distance", "n"], rows, bold=[1]).split(
        "\n"
    ) == [
        "| model | accuracy | distance | n |",
        "| flow | 0.924 | 12.87 | 1,437 |",
        "| **masked** | **1.000** | **2.50** | **–** |",
    ]


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
    assert number(value) == text


def test_what_does_not_fit_is_refused():
    with pytest.raises(BadInput, match="3 columns and a row of 2"):
        table(["a", "b", "c"], [[1, 2]])
    with pytest.raises(BadInput, match="no PNG"):
        render("![x](x)", {"x": b"BM"})


def test_the_demos_page_shows_which_bars_were_met():
    row = {
        "accuracy": 0.99,
        "distance_ratio": 4.0,
        "distance": 9.0,
        "memorisation": 0.965,
    }
    scores = {"psnr_db": 26.0, "kmeans_psnr_db": 20.0, "ssim": 0.9, "kmeans_ssim": 0.8}
    scores |= {"tokens": 16, "bits_per_example": 96, "usage_0": 1.0, "perplexity_0": 60}
    names = "heldout_count", "judge_accuracy", "train_distance", "floor_count"
    found = {
        "curves": {n: [row | {"guidance": s["scale"]}] for n, s in SETTINGS.items()},
        "tokenizer": scores,
        "real": dict.fromkeys([*names, "floor_distance"], 1.0),
        "seconds": {"total": 400.0},
        "steps": {},
        "cold_start": True,
        **dict.fromkeys(("date", "hardware", "jax", "command"), "x"),
    }
    found["bars"] = bars(found)
    missed = [name for name, bar in found["bars"].items() if not bar["passed"]]
    assert missed == [f"Fréchet ratio, {name}" for name in SETTINGS]
    odd = {name for name, bar in found["bars"].items() if not bar["usual"]}
    few = {"above k-means, dB"}
    assert odd == few | set(missed)
    assert all(bars(found)[n]["passed"] for n in odd - set(missed))
    text = page(found, 1437)
    assert "26.03 ± 0.28" in text
    named = re.findall(r"^!\[.*\]\((.*)\)$", text, re.M)
    html = Page(render(text, dict.fromkeys(named, PIXELS)))
    assert len(html.all("img")) == len(named) == 11
    assert html.text.count("✗") == 2 and len(html.all("table")) == 5
    assert "**" not in html.text and "|" not in html.text and "![" not in html.text


def test_a_row_of_the_demos_samples_is_of_one_class():
    """Samples run through the ten classes, one after the other."""
    image = np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1)
    found = _by_class(image, 3).reshape(10, 3)
    assert (found % 10 == np.arange(10)[:, None]).all()
    assert found[7].tolist() == [7, 17, 27]
