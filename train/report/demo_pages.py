"""The demo's report: what it is judged by, and its pages."""

import jax
import jax.numpy as jnp
import numpy as np

from train.report import pictures
from train.report.pages import Picture, Section, Table
from train.runtime.log import read_metrics
from vqdit.diffusion import DDIM, Confidence
from vqdit.metrics import nearest
from vqdit.signal import to_uint8

SAMPLES = 1000

# How each generator is drawn from, and the guidance scale its headline is quoted at.
SETTINGS = {
    "flow": {"scale": 1.4, "sampler": {"steps": 25, "solver": DDIM(eta=0.5)}},
    "masked": {
        "scale": 1.25,
        "sampler": {"steps": 10, "solver": Confidence(noise=6.0)},
    },
}
# What the demo is accepted by: figure -> bar.
BARS = {
    "seconds": 300,
    "psnr_db": 25.0,
    "usage": 0.95,
    "accuracy": 0.97,
    "distance_ratio": 3.5,
    "memorisation": 0.9,
}


def save_picture(path, drawn):
    """Every model's samples side by side, two classes a row, for a page about it."""
    sheets = []
    for image in drawn.values():
        by_class = image.reshape(-1, 10, *image.shape[1:]).swapaxes(0, 1)
        shown = by_class[:, :8].reshape(-1, *image.shape[1:])
        sheet = pictures.grid(shown, 16)
        sheets.append(np.pad(sheet, ((0, 0), (0, 4), (0, 0)), constant_values=255))
    pictures.save_png(path, np.concatenate(sheets, axis=1)[:, :-4], scale=3)


def _at(found, name):
    scale = SETTINGS[name]["scale"]
    return next(row for row in found["curves"][name] if row["guidance"] == scale)


def bars(found) -> dict:
    """Name -> value, note and whether its bar is met."""
    tokenizer, seconds = found["tokenizer"], found["seconds"]["total"]

    def bar(value, limit, note, low=True):
        return {
            "value": value,
            "note": f"{note} {'at least' if low else 'at most'} {limit:g}",
            "passed": bool(value >= limit if low else value <= limit),
        }

    found_bars = {}
    if found["cold_start"]:  # a continued run's seconds say nothing
        found_bars["seconds"] = bar(
            seconds, BARS["seconds"], "cold start to report,", low=False
        )
    found_bars |= {
        "PSNR, dB": bar(tokenizer["psnr_db"], BARS["psnr_db"], "held-out,"),
        "above k-means, dB": bar(
            tokenizer["psnr_db"] - tokenizer["kmeans_psnr_db"], 0, "equal bits,"
        ),
        "codes in use": bar(tokenizer["usage_0"], BARS["usage"], "held-out,"),
    }
    for name in SETTINGS:
        row, where = _at(found, name), f"{name}, w={SETTINGS[name]['scale']:g},"
        for figure, title, low in (
            ("accuracy", "accuracy", True),
            ("distance_ratio", "Fréchet ratio", False),
            ("memorisation", "memorisation", True),
        ):
            found_bars[f"{title}, {name}"] = bar(row[figure], BARS[figure], where, low)
    return found_bars


def lead(found):
    t = found["tokenizer"]
    return (
        f"A tokenizer learned {t['tokens']} codes of "
        f"{t['bits_per_example'] / t['tokens']:g} bits for each 8x8 digit; a flow "
        f"transformer learned its latents and a masked transformer its codes. "
        f"{found['date']}, {found['hardware']}, jax {found['jax']}, "
        f"`{found['command']}`."
    )


def sections(folder, found, train, test, rebuilt, codes, drawn, generators):
    real, tokenizer = found["real"], found["tokenizer"]
    return [
        _tokenizer_section(tokenizer, test["x"], rebuilt, codes),
        _loss_section(folder),
        *[
            _samples_section(name, found, drawn[name], train["x"], real)
            for name in SETTINGS
        ],
        _curve_section(found),
        _trajectory_section(generators["flow"]),
        Section(
            "How it was measured",
            f"Classes are judged by a small classifier trained on the "
            f"{len(train['image'])} real training digits only; on the "
            f"{real['heldout_count']} held-out digits it is right in "
            f"{100 * real['judge_accuracy']:.1f} %. The Fréchet distance is taken in "
            f"its penultimate features, of {SAMPLES} samples to the held-out digits, "
            f"and divided by that of the training set to the held-out digits "
            f"({real['train_distance']:.2f}); {real['floor_count']} real training "
            f"digits have {real['floor_distance']:.2f}. Memorisation is the median "
            f"distance from a sample to its nearest training digit over that from a "
            f"held-out digit to its own: well below 1 would mean copying. The guidance "
            f"scale of the headline was fixed in the program before this run.",
            tables=[
                Table(
                    ("part", "steps", "seconds"),
                    [
                        (name, found["steps"].get(name), value)
                        for name, value in found["seconds"].items()
                    ],
                )
            ],
        ),
    ]


def _tokenizer_section(t, image, rebuilt, codes):
    pair = np.concatenate([image[:20], rebuilt[:20]])
    counts = np.sort(np.bincount(codes.reshape(-1), minlength=64))[::-1]
    return Section(
        "The tokenizer",
        "Held-out digits above their reconstructions from "
        f"{t['bits_per_example']:g} bits each. Beside it, k-means on 2x2 patches with "
        "as many codes for as many tokens: the same bits without learning.",
        [
            Picture(
                pictures.png(pictures.grid(pair, 20)), "originals, reconstructions"
            ),
            Picture(
                pictures.bar_plot(counts, "code, by frequency", "times used"),
                f"usage on held-out digits: {100 * t['usage_0']:.0f} % of codes, "
                f"perplexity {t['perplexity_0']:.0f} of 64",
                plot=True,
            ),
        ],
        [
            Table(
                ("", "PSNR, dB", "SSIM"),
                [
                    ("tokenizer", t["psnr_db"], t["ssim"]),
                    ("k-means on patches", t["kmeans_psnr_db"], t["kmeans_ssim"]),
                ],
            )
        ],
    )


def _loss_section(folder):
    plots = []
    for name in ("tokenizer", *SETTINGS):
        rows = read_metrics(folder / name)
        line = ([r["step"] for r in rows], [r["loss"] for r in rows])
        plot = pictures.line_plot({name: line}, "step", "loss", log_y=True)
        plots.append(Picture(plot, name, plot=True))
    return Section("Loss", "Training loss, mean over the steps between points.", plots)


def _samples_section(name, found, image, train, real):
    setting, row = SETTINGS[name], _at(found, name)
    # Ids run through the classes, so every tenth sample is of one class.
    by_class = image.reshape(-1, 10, *image.shape[1:]).swapaxes(0, 1)
    shown = by_class[:, :16].reshape(-1, *image.shape[1:])
    some = image[:20]
    closest = train[nearest(some, train)[0][:, 0]]
    return Section(
        f"Samples, {name}",
        f"Guidance {setting['scale']:g}, {setting['sampler']['steps']} steps of "
        f"`{setting['sampler']['solver']}`; a row a class, not picked. Below, samples "
        f"above their nearest training digit. The judge agrees with the label in "
        f"{100 * row['accuracy']:.1f} % of {SAMPLES}; Fréchet distance "
        f"{row['distance_ratio']:.2f} times that of the training set; memorisation "
        f"{row['memorisation']:.2f}.",
        [
            Picture(pictures.png(pictures.grid(shown, 16)), "samples by class"),
            Picture(
                pictures.png(pictures.grid(np.concatenate([some, closest]), 20)),
                "samples, nearest training digits",
            ),
        ],
    )


def _curve_section(found):
    lines, points = {}, {}
    for name, rows in found["curves"].items():
        lines[name] = (
            [row["accuracy"] for row in rows],
            [row["distance_ratio"] for row in rows],
        )
        points[name] = [f"{row['guidance']:g}" for row in rows]
    columns = ("guidance", "accuracy", "distance_ratio", "distance", "memorisation")
    tables = [
        Table(
            columns,
            [[row[c] for c in columns] for row in rows],
            name,
            [i for i, r in enumerate(rows) if r["guidance"] == SETTINGS[name]["scale"]],
        )
        for name, rows in found["curves"].items()
    ]
    plot = pictures.line_plot(
        lines,
        "class accuracy",
        "Fréchet distance ratio",
        points=points,
        bars={"bar": BARS["distance_ratio"]},
    )
    return Section(
        "Guidance: accuracy and distance together",
        "Guidance buys accuracy and, past some scale, pays with diversity. Either "
        "figure alone can be had; the row in bold is the setting the headline quotes.",
        [Picture(plot, "numbers are guidance scales", plot=True)],
        tables,
    )


def _trajectory_section(generator):
    setting = SETTINGS["flow"]
    steps = 10
    draw = generator.sampler(
        steps=steps, guidance=setting["scale"], trajectory=True, decode=False
    )
    label = np.arange(10)
    path = draw(jax.random.key(1), jnp.arange(10), label=label)["image_path"]
    codec = generator.tokenizers["image"]
    flat = path.reshape(-1, *path.shape[2:])
    image = np.asarray(to_uint8(codec.decode_latents(flat)))
    return Section(
        "From noise to digits",
        f"The {steps} steps of one flow trajectory a class, decoded at every time: "
        "noise above, data below.",
        [
            Picture(
                pictures.png(pictures.grid(image, 10)), "t = 1 to t = 0, top to bottom"
            )
        ],
    )
