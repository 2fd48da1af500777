import base64
import re
import types
from html.parser import HTMLParser

import jax
import numpy as np
import pytest
from PIL import Image

from train.errors import BadInput
from train.modalities.shown import png
from train.report import demo_pages
from train.report.demo_pages import SETTINGS, _by_class, bars, page, save_picture
from train.report.pages import number, render, table

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


def test_every_bar_is_of_its_own_figure():
    """Of the scale that the headline quotes; a Fréchet ratio is at most its limit."""
    tokenizer = {"psnr_db": 25.0, "kmeans_psnr_db": 22.0, "usage_0": 0.95}
    curves = {
        name: [
            {"guidance": 9.0, "accuracy": 0, "distance_ratio": 0, "memorisation": 0},
            {"guidance": setting["scale"], "accuracy": 0.97, "distance_ratio": 3.5}
            | {"memorisation": 0.9},
        ]
        for name, setting in SETTINGS.items()
    }
    found = bars({"tokenizer": tokenizer, "curves": curves})
    values = {name: (bar["value"], bar["note"]) for name, bar in found.items()}
    assert values == {
        "PSNR, dB": (25.0, "held-out, at least 25"),
        "above k-means, dB": (3.0, "equal bits, at least 0"),
        "codes in use": (0.95, "held-out, at least 0.95"),
        "accuracy, flow": (0.97, "flow, w=1.25, at least 0.97"),
        "Fréchet ratio, flow": (3.5, "flow, w=1.25, at most 3.5"),
        "memorisation, flow": (0.9, "flow, w=1.25, at least 0.9"),
        "accuracy, masked": (0.97, "masked, w=1.4, at least 0.97"),
        "Fréchet ratio, masked": (3.5, "masked, w=1.4, at most 3.5"),
        "memorisation, masked": (0.9, "masked, w=1.4, at least 0.9"),
    }
    assert all(bar["passed"] for bar in found.values())
    curves["flow"][1] |= {"accuracy": 0.96, "distance_ratio": 3.6, "memorisation": 0.8}
    missed = {
        n
        for n, bar in bars({"tokenizer": tokenizer, "curves": curves}).items()
        if not bar["passed"]
    }
    assert missed == {name for name in values if name.endswith("flow")}


def test_the_demos_pictures_are_of_what_they_are_named_for(tmp_path, monkeypatch):
    """Of each model its own loss, samples by class, and twenty over their nearest."""
    pictures = demo_pages.pictures
    monkeypatch.setattr(pictures, "line_plot", lambda *of, **how: (*of, how))
    monkeypatch.setattr(pictures, "bar_plot", lambda *of: of)
    monkeypatch.setattr(demo_pages, "_sheet", lambda *of: of)
    logs = lambda folder: [{"step": 5, "loss": len(folder.name), "lr": 1}]
    monkeypatch.setattr(demo_pages, "read_metrics", logs)
    steps = np.arange(30).reshape(30, 1, 1, 1)
    monkeypatch.setattr(demo_pages, "_trajectory", {"flow model": steps}.get)
    picture = lambda *values: np.array(values, np.uint8)[:, None, None, None]
    test, rebuilt = picture(*range(30)), picture(*range(100, 130))
    train = picture(0, 50, 200)
    drawn = {"flow": np.resize(picture(49, 201), (320, 1, 1, 1))}
    drawn["masked"] = np.resize(picture(*range(10)), (320, 1, 1, 1))
    curve = [{"guidance": 1.5, "accuracy": 0.5, "distance_ratio": 2.0}] * 2
    shown = demo_pages.drawings(
        tmp_path,
        {"curves": {"flow": curve}},
        {"x": train},
        {"x": test},
        rebuilt,
        np.array([[3, 3, 3], [1, 1, 7]]),
        drawn,
        {"flow": "flow model"},
    )
    labels = ["class accuracy", "Fréchet distance ratio"]
    how = {"points": {"flow": ["1.5", "1.5"]}, "bars": {"bar": 3.5}}
    lines = {"flow": [[0.5, 0.5], [2.0, 2.0]]}
    assert shown.pop("curve") == (lines, *labels, how)
    for name in ("tokenizer", *SETTINGS):
        moments = {"k-means": 200} if name == "tokenizer" else {}
        how = {"log_y": True, "moments": moments}
        loss = ({name: ([5], [len(name)])}, "step", "loss", how)
        assert shown.pop(f"loss {name}") == loss
    counts, *said = shown.pop("usage")
    assert counts.tolist() == [3, 2, 1] + 61 * [0]
    assert said == ["code, by frequency", "times used"]
    sheets = {name: (x.ravel().tolist(), *how) for name, (x, *how) in shown.items()}
    assert sheets.pop("rebuilt") == (
        [*range(20), *range(100, 120)],
        20,
        ["held-out"] * 20 + ["from its codes"] * 20,
    )
    times = [f"t = {t}" for t in ("1.0", "0.5", "0.0") for _ in range(10)]
    assert sheets.pop("path") == ([*range(30)], 10, times)
    classes = [f"class {i}" for i in range(10) for _ in range(16)]
    by_class = [i for i in range(10) for _ in range(16)]
    assert sheets.pop("samples masked") == (by_class, 16, classes)
    assert sheets.pop("samples flow")[0] == [
        49 if i % 2 == 0 else 201 for i in by_class
    ]
    names = ["sample"] * 20 + ["nearest"] * 20
    assert sheets.pop("nearest flow") == ([49, 201] * 10 + [50, 200] * 10, 20, names)
    assert sheets.pop("nearest masked") == ([*range(10)] * 2 + [0] * 20, 20, names)
    assert not sheets


def test_samples_of_all_models_stand_side_by_side_for_a_page_about_it(tmp_path):
    """Eight of each class, two classes a row, three pixels for each."""
    image = np.resize(np.arange(10, dtype=np.uint8), (320, 1, 1, 1))
    image = image.repeat(2, 1).repeat(2, 2)
    save_picture(tmp_path / "a.png", {"flow": image, "masked": image + 100})
    found = np.asarray(Image.open(tmp_path / "a.png"))[1::3, 1::3]
    wide = 16 * 3 - 1
    assert found.shape[:2] == (5 * 3 - 1, 2 * wide + 4)
    assert found[0, ::3].tolist()[:16] == [0] * 8 + [1] * 8
    assert found[3, :wide:3].tolist() == [2] * 8 + [3] * 8
    assert (found[:, wide : wide + 4] == 255).all()
    assert found[0, wide + 4 :: 3].tolist() == [100] * 8 + [101] * 8


def test_a_trajectory_is_decoded_at_every_time():
    """One of each class by the flow's own scale: noise first, then the data."""
    asked = []

    def draw(key, ids, label):
        asked.append((key, ids.tolist(), label.tolist()))
        steps = np.linspace(-1, 1, 3)[:, None, None, None, None]
        return {"image_path": steps + np.zeros((3, 10, 2, 2, 1))}

    codec = types.SimpleNamespace(decode_latents=lambda x: x)
    model = types.SimpleNamespace(
        sampler=lambda **how: asked.append(how) or draw, tokenizers={"image": codec}
    )
    found = demo_pages._trajectory(model)
    how = {"steps": 10, "guidance": 1.25, "trajectory": True, "decode": False}
    assert asked == [how, (jax.random.key(1), [*range(10)], [*range(10)])]
    assert found.dtype == np.uint8 and found.shape == (30, 2, 2, 1)
    assert [int(x) for x in found[::10, 0, 0, 0]] == [0, 128, 255]


def test_the_demos_page_says_every_figure_where_it_belongs():
    row = {"accuracy": 0.98, "distance_ratio": 2.25, "distance": 9.0}
    row |= {"memorisation": 0.95}
    weak = dict.fromkeys(row, 0.5) | {"guidance": 1.0}
    curves = {
        name: [weak, row | {"guidance": setting["scale"]}]
        for name, setting in SETTINGS.items()
    }
    curves["masked"][1] = curves["masked"][1] | {"accuracy": 0.96}
    tokenizer = {"psnr_db": 26.03, "kmeans_psnr_db": 22.5, "ssim": 0.91}
    tokenizer |= {"kmeans_ssim": 0.82, "tokens": 16, "bits_per_example": 96}
    tokenizer |= {"usage_0": 0.953, "perplexity_0": 60.4}
    real = {"heldout_count": 360, "judge_accuracy": 0.975, "train_distance": 2.5}
    real |= {"floor_count": 300, "floor_distance": 1.25}
    found = {"tokenizer": tokenizer, "real": real, "curves": curves}
    found |= {"steps": {"flow": 2500}, "seconds": {"flow": 61.5, "total": 400.5}}
    found |= {"date": "today", "hardware": "2 x abacus", "jax": "1 on cpu"}
    text = page(found | {"command": "the command", "bars": bars(found)}, 1437)
    words = " ".join(text.split())
    for said in (
        "A tokenizer learned 16 codes of 6 bits for each 8x8 digit",
        "today, 2 x abacus, jax 1 on cpu, `the command`.",
        "their reconstructions from 96 bits each",
        "On held-out digits 95 % of the codes are used, with a perplexity of 60 of 64.",
        "trained on the 1437 real training digits only",
        "on the 360 held-out digits it is right in 97.5 %.",
        "of 1000 samples to the held-out digits",
        "training set to the held-out digits (2.50);",
        "300 real training digits have 1.25.",
        "Guidance 1.25, 25 steps of `DDIM(",
        "agrees with the label in 98.0 % of 1000; Fréchet distance 2.25 times",
        "agrees with the label in 96.0 % of 1000; Fréchet distance 2.25 times",
        "that of the training set; memorisation 0.95.",
    ):
        assert said in words
    for line in (
        "| PSNR, dB | 26.03 | held-out, at least 25 | ✓ | 26.03 ± 0.28 | within |",
        "| accuracy, masked | 0.96 | masked, w=1.4, at least 0.97 | ✗ "
        "| 0.984 ± 0.005 | outside |",
        "| tokenizer | 26.03 | 0.91 |",
        "| k-means on patches | 22.50 | 0.82 |",
        "| 1.00 | 0.50 | 0.50 | 0.5 | 0.50 |",
        "| **1.25** | **0.98** | **2.25** | **9.0** | **0.95** |",
        "| flow | 2,500 | 61.5 |",
        "| total | – | 400.5 |",
    ):
        assert line in text.splitlines(), line
