"""The demo's report: what it is judged by, and its page."""

import jax
import jax.numpy as jnp
import numpy as np

from train.config.file import load_config
from train.modalities.files.writing import write_bytes
from train.modalities.shown import grid, png
from train.report import pictures
from train.report.pages import number, table
from train.report.run_pages import jumps_of
from train.report.sheets import sheet
from train.runtime.log import read_metrics
from vqdit.diffusion import DDIM, Confidence
from vqdit.metrics import nearest_neighbours
from vqdit.signal import to_uint8

SAMPLES = 1000
STEPS = 10  # of the trajectory that is shown

# How each generator is drawn from, and the guidance scale its headline is quoted at.
SETTINGS = {
    "flow": {"scale": 1.25, "sampler": {"steps": 25, "solver": DDIM(eta=0.5)}},
    "masked": {"scale": 1.4, "sampler": {"steps": 10, "solver": Confidence(noise=6.0)}},
}
RATIO = 3.5  # at most, of Fréchet distances; `bars` has what else the demo has to meet
# Mean and standard deviation over seeds, of accuracies at least that of 1,000 draws:
# the tokenizer's of 0 to 4 on a GPU and 0 to 3 on a CPU, the flow's of 0 to 4 and the
# masked model's of 0 to 3 on a CPU (RESULTS.md, section demo). Twice that is what a
# seed changes.
USUAL = {
    "PSNR, dB": (26.03, 0.28),
    "above k-means, dB": (3.30, 0.28),
    "codes in use": (1.0, 0.0),
    "accuracy, flow": (0.987, 0.005),
    "Fréchet ratio, flow": (2.20, 0.24),
    "memorisation, flow": (0.950, 0.009),
    "accuracy, masked": (0.984, 0.005),
    "Fréchet ratio, masked": (2.88, 0.26),
    "memorisation, masked": (0.997, 0.018),
}


def save_picture(path, drawn):
    """Every model's samples side by side, two classes a row, for a page about it."""
    sheets = []
    for image in drawn.values():
        sheet = grid(_by_class(image, 8), 16)
        sheets.append(np.pad(sheet, ((0, 0), (0, 4), (0, 0)), constant_values=255))
    write_bytes(path, png(np.concatenate(sheets, axis=1)[:, :-4], scale=3))


def _at(found, name):
    scale = SETTINGS[name]["scale"]
    return next(row for row in found["curves"][name] if row["guidance"] == scale)


def bars(found) -> dict:
    """Name -> value, note, whether its bar is met, and whether the value is within the
    usual spread of seeds. Speed is the machine's, and told without a bar."""
    tokenizer = found["tokenizer"]
    ahead = tokenizer["psnr_db"] - tokenizer["kmeans_psnr_db"]
    rows = [
        ("PSNR, dB", tokenizer["psnr_db"], 25, "held-out"),
        ("above k-means, dB", ahead, 0, "equal bits"),
        ("codes in use", tokenizer["usage_0"], 0.95, "held-out"),
    ]
    for name in SETTINGS:
        row, where = _at(found, name), f"{name}, w={SETTINGS[name]['scale']:g}"
        rows += [
            (f"accuracy, {name}", row["accuracy"], 0.97, where),
            (f"Fréchet ratio, {name}", row["distance_ratio"], RATIO, where),
            (f"memorisation, {name}", row["memorisation"], 0.9, where),
        ]
    met = {}
    for name, value, limit, note in rows:
        most = name.startswith("Fréchet")
        mean, spread = USUAL[name]
        met[name] = {
            "value": value,
            "note": f"{note}, at {'most' if most else 'least'} {limit:g}",
            "passed": bool(value <= limit if most else value >= limit),
            "usual": bool(abs(value - mean) <= 2 * spread),
        }
    return met


def drawings(folder, found, train, test, rebuilt, codes, drawn, generators):
    """The pictures of `page`, by name."""
    counts = np.sort(np.bincount(codes.reshape(-1), minlength=64))[::-1]
    shown = {
        "rebuilt": _pairs(test["x"], rebuilt, ("held-out", "from its codes")),
        "usage": pictures.bar_plot(counts, "code, by frequency", "times used"),
        "curve": _curve(found),
        "path": _path(generators["flow"]),
    }
    for name in ("tokenizer", *SETTINGS):
        rows = read_metrics(folder / name)
        line = {name: ([r["step"] for r in rows], [r["loss"] for r in rows])}
        moments = jumps_of(load_config(f"demo_{name}"))
        shown[f"loss {name}"] = pictures.line_plot(
            line, "step", "loss", log_y=True, moments=moments
        )
    for name, image in drawn.items():
        some = image[:20]
        closest = train["x"][nearest_neighbours(some, train["x"])[0][:, 0]]
        classes = [f"class {label}" for label in np.repeat(np.arange(10), 16)]
        shown[f"samples {name}"] = _sheet(_by_class(image, 16), 16, classes)
        shown[f"nearest {name}"] = _pairs(some, closest, ("sample", "nearest"))
    return shown


def page(found, examples):
    """The text, in what `train.report.pages` reads. examples: of the training set."""
    t, real = found["tokenizer"], found["real"]
    headlines = [
        (
            *(name, bar["value"], bar["note"], "✓" if bar["passed"] else "✗"),
            "{:g} ± {:g}".format(*USUAL[name]),
            "within" if bar["usual"] else "outside",
        )
        for name, bar in found["bars"].items()
    ]
    seconds = [
        (name, found["steps"].get(name), value)
        for name, value in found["seconds"].items()
    ]
    scores = [
        ("tokenizer", t["psnr_db"], t["ssim"]),
        ("k-means on patches", t["kmeans_psnr_db"], t["kmeans_ssim"]),
    ]
    newline = "\n\n"
    return f"""
# vqdit demo

A tokenizer learned {t["tokens"]} codes of {t["bits_per_example"] / t["tokens"]:g} bits
for each 8x8 digit; a flow transformer learned its latents and a masked transformer its
codes. {found["date"]}, {found["hardware"]}, jax {found["jax"]}, `{found["command"]}`.

{table(("", "", "bar", "", "other seeds", "the usual spread"), headlines)}

Other seeds: mean and standard deviation over four to nine runs of this program, on CPUs
and GPUs. A figure is within the usual spread where it is no more than two deviations
from the mean.

## The tokenizer

Held-out digits above their reconstructions from {t["bits_per_example"]:g} bits each.
Beside it, k-means on 2x2 patches with as many codes for as many tokens: the same bits
without learning. On held-out digits {100 * t["usage_0"]:.0f} % of the codes are used,
with a perplexity of {t["perplexity_0"]:.0f} of 64.

![originals, reconstructions](rebuilt)
![usage on held-out digits](usage)

{table(("", "PSNR, dB", "SSIM"), scores)}

## Loss

Training loss, mean over the steps between points. Up to k-means, the dotted line, the
tokenizer rebuilds from latents, and from there on from codes.

![tokenizer](loss tokenizer)
![flow](loss flow)
![masked](loss masked)

{newline.join(_samples(name, found) for name in SETTINGS)}

## Guidance: accuracy and distance together

Guidance buys accuracy and, past some scale, pays with diversity. Either figure alone
can be had; the row in bold is the setting the headline quotes.

![numbers are guidance scales](curve)

{newline.join(f"{name}{newline}{_guidance(found, name)}" for name in SETTINGS)}

## From noise to digits

The {STEPS} steps of one flow trajectory a class, decoded at every time: noise above,
data below.

![t = 1 to t = 0, top to bottom](path)

## How it was measured

Classes are judged by a small classifier trained on the {examples} real
training digits only; on the {real["heldout_count"]} held-out digits it is right in
{100 * real["judge_accuracy"]:.1f} %. The Fréchet distance is taken in its penultimate
features, of {SAMPLES} samples to the held-out digits, and divided by that of the
training set to the held-out digits ({real["train_distance"]:.2f});
{real["floor_count"]} real training digits have {real["floor_distance"]:.2f}.
Memorisation is the median distance from a sample to its nearest training digit over
that from a held-out digit to its own: well below 1 would mean copying. The guidance
scale of the headline was fixed in the program before this run.

{table(("part", "steps", "seconds"), seconds)}
"""


def _samples(name, found):
    setting, row = SETTINGS[name], _at(found, name)
    return f"""## Samples, {name}

Guidance {setting["scale"]:g}, {setting["sampler"]["steps"]} steps of
`{setting["sampler"]["solver"]}`; a row a class, not picked. Below, samples above their
nearest training digit. The judge agrees with the label in {100 * row["accuracy"]:.1f} %
of {SAMPLES}; Fréchet distance {number(row["distance_ratio"], 2)} times that of the
training set; memorisation {number(row["memorisation"], 2)}.

![samples by class](samples {name})
![samples, nearest training digits](nearest {name})"""


def _guidance(found, name):
    columns = ("guidance", "accuracy", "distance_ratio", "distance", "memorisation")
    rows = found["curves"][name]
    bold = [i for i, row in enumerate(rows) if row is _at(found, name)]
    return table(columns, [[row[c] for c in columns] for row in rows], bold)


def _curve(found):
    lines, points = {}, {}
    for name, rows in found["curves"].items():
        lines[name] = [[row[c] for row in rows] for c in ("accuracy", "distance_ratio")]
        points[name] = [f"{row['guidance']:g}" for row in rows]
    labels = ("class accuracy", "Fréchet distance ratio")
    return pictures.line_plot(lines, *labels, points=points, bars={"bar": RATIO})


def _trajectory(generator):
    scale, label = SETTINGS["flow"]["scale"], np.arange(10)
    draw = generator.sampler(steps=STEPS, guidance=scale, trajectory=True, decode=False)
    path = draw(jax.random.key(1), jnp.arange(10), label=label)["image_path"]
    decode = generator.tokenizers["image"].decode_latents
    return np.asarray(to_uint8(decode(path.reshape(-1, *path.shape[2:]))))


def _by_class(image, count):
    """The first samples of every class; ids run through the ten classes."""
    by_class = image.reshape(-1, 10, *image.shape[1:]).swapaxes(0, 1)
    return by_class[:, :count].reshape(-1, *image.shape[1:])


def _pairs(above, below, names):
    """Twenty of each, the second kind under the first."""
    both = np.concatenate([above[:20], below[:20]])
    return _sheet(both, 20, np.repeat(names, 20).tolist())


def _path(generator):
    steps = _trajectory(generator)
    times = np.linspace(1, 0, len(steps) // 10).repeat(10)
    return _sheet(steps, 10, [f"t = {time:.1f}" for time in times])


def _sheet(image, columns, names):
    return png(sheet("image", image, None, columns, names))
