"""The whole system on real data in minutes: tokenizer, two generators, a report.

python -m train.demo

Trains on the handwritten digits that ship with scikit-learn, offline, and writes into
runs/demo (or --out=DIR): report.html (self-contained), report.json, samples.png,
samples_flow.npz and samples_masked.npz (`image` uint8 (n, h, w, c), `label` int), and
reconstructions.npz (`image`, `reconstruction`). Run again after an interruption, it
continues; --fresh starts over.
"""

import dataclasses
import datetime
import os
import platform
import shlex
import shutil
import time
from pathlib import Path

import jax
import numpy as np

from train import stage_one, stage_two
from train.config import load_config
from train.config.command import parse
from train.config.outputs import check_free, out_folder
from train.config.override import replaced
from train.config.workdir import CONFIG_FILE, read_config
from train.errors import BadInput, run
from train.evaluation.drawing import draw_all
from train.evaluation.evaluator import evaluated, reconstruct
from train.evaluation.judge import train_judge
from train.evaluation.samples import Reference
from train.evaluation.scores import evaluate_tokenizer
from train.modalities.files.arrays import npz
from train.modalities.files.writing import write, write_bytes
from train.objectives.latents import encode_set
from train.pipeline import LatentCache, whole
from train.progress import as_called, say
from train.report.demo_pages import (
    SAMPLES,
    SETTINGS,
    bars,
    drawings,
    page,
    save_picture,
)
from train.report.pages import render
from train.runtime import hosts
from train.runtime.keys import key_of
from vqdit.fields import Seed
from vqdit.values import build

SCALES = (1.0, 1.25, 1.4, 2.0, 3.0)
FLAGS = {
    "out": (str, "the folder of models and report (runs/demo)"),
    "workdir": (str, "the same as --out"),
    "fresh": (bool, "train anew what the folder holds"),
    "seed": (Seed, "of all three models and their samples (0)"),
}


STAGES = ("tokenizer", *SETTINGS)
FILES = (
    *("report.html", "report.json", "samples.png", "reconstructions.npz"),
    *(f"samples_{name}.npz" for name in SETTINGS),
)


def _refuse_foreign(folder: Path) -> None:
    """Raises BadInput where what the demo would replace is not the demo's own."""
    check_free(folder, FILES, (*STAGES, "cache"))
    for name in STAGES:
        own, there = f"demo_{name}", folder / name
        if not there.exists() or not any(there.iterdir()):
            continue
        config = there / CONFIG_FILE
        if not config.exists() or read_config(config).name != own:
            raise BadInput(f"{there} is no run of {own}; write another --out")
    cache = folder / "cache"
    if cache.exists() and not (folder / "tokenizer" / CONFIG_FILE).exists():
        raise BadInput(f"{cache} is none of the demo's; write another --out")


def main(argv=None):
    started = time.time()
    hosts.alone()
    command = parse(argv, None, flags=FLAGS)
    seed = command.flags.get("seed", 0)
    if command.workdir is not None and "out" in command.flags:
        raise BadInput("--workdir and --out are the same here; write one")
    folder = Path(command.flags.get("out") or command.workdir or "runs/demo")
    out_folder(folder, there=True)
    _refuse_foreign(folder)
    if command.flags.get("fresh"):
        for name in (*STAGES, "cache"):
            shutil.rmtree(folder / name, ignore_errors=True)
    cold = not (folder / "tokenizer").exists()
    seconds, began = {}, time.time()

    def lap(part):
        """What has passed since the last lap is this part's."""
        seconds[part] = time.time() - began - sum(seconds.values())

    tokenizer = _experiment("tokenizer", seed)
    codec = stage_one.train(tokenizer, folder / "tokenizer")
    lap("tokenizer")
    cache = folder / "cache"
    if not _fits(cache, codec):
        shutil.rmtree(cache, ignore_errors=True)
        encode_set(codec, tokenizer.data, cache)
    generators = {}
    for name in SETTINGS:
        experiment = dataclasses.replace(_experiment(name, seed), cache=str(cache))
        experiment = replaced(
            experiment, {"streams.image.tokenizer": str(folder / "tokenizer")}
        )
        generators[name] = stage_two.train(experiment, folder / name)
        lap(name)

    train, test = whole(tokenizer.data, True), whole(tokenizer.data, False)
    judge = train_judge(tokenizer.data)
    reference = Reference(judge, tokenizer.data)
    real = reference.figures(SAMPLES)
    lap("judge")

    say("scoring")
    figures = evaluate_tokenizer(codec, tokenizer.data)
    rebuilt, codes = reconstruct(codec, test["x"])
    found = _scores(reference, rebuilt, test["label"])
    figures["judge_accuracy"] = found["accuracy"]
    figures["distance_ratio"] = found["distance"] / real["train_distance"]
    curves, drawn, labels = {}, {}, np.resize(np.arange(10), SAMPLES)
    for name, generator in generators.items():
        setting, curves[name] = SETTINGS[name], []
        draw = generator.sampler(guidance=1.0, **setting["sampler"])
        for scale in SCALES:
            image = draw_all(
                *(generator, draw, key_of(seed), np.arange(SAMPLES), labels),
                guidance=scale,
            )["image"]
            row = {"guidance": scale} | _scores(reference, image, labels)
            row["distance_ratio"] = row["distance"] / real["train_distance"]
            curves[name].append(row)
            if scale == setting["scale"]:
                drawn[name] = image
    lap("scoring")

    arrays = npz(image=test["x"], reconstruction=rebuilt)
    write_bytes(folder / "reconstructions.npz", arrays)
    for name, image in drawn.items():
        arrays = npz(image=image, label=labels)
        write_bytes(folder / f"samples_{name}.npz", arrays)
    found = {
        "date": datetime.date.today().isoformat(),
        "command": " ".join(["python -m train.demo", *(argv or [])]),
        "hardware": f"{os.cpu_count()} x {platform.processor() or platform.machine()}",
        "jax": f"{jax.__version__} on {jax.default_backend()}",
        "tokenizer": figures,
        "real": real,
        "settings": {
            name: {k: str(v) for k, v in setting.items()}
            for name, setting in SETTINGS.items()
        },
        "curves": curves,
        "steps": {n: _experiment(n, seed).run.steps for n in STAGES},
        "seconds": seconds,
    }
    save_picture(folder / "samples.png", drawn)
    shown = drawings(folder, found, train, test, rebuilt, codes, drawn, generators)
    lap("report")
    # Importing is part of the wait: its CPU seconds are nearly its wall seconds.
    seconds["total"] = time.time() - started + _IMPORTED
    found["cold_start"] = cold
    found["bars"] = bars(found)
    write(folder / "report.json", found)
    text = page(found, len(train["x"]))
    write_bytes(folder / "report.html", render(text, shown).encode())
    missed = [name for name, bar in found["bars"].items() if not bar["passed"]]
    odd = [name for name, bar in found["bars"].items() if not bar["usual"]]
    say(
        f"{seconds['total']:.0f} s; "
        + (f"missed: {missed}" if missed else "all bars met")
        + (f"; outside the usual spread: {odd}" if odd else "")
    )
    print(f"The report is {folder}/report.html. Draw more samples with")
    flow = shlex.quote(str(folder / "flow"))
    more = f"  python -m train.sample --workdir={flow} --label=3 --guidance=1.25"
    print(as_called(more))


def _scores(reference, image, label) -> dict:
    batch = {"x": image, "label": label, "index": np.arange(len(image))}
    return evaluated(reference.evaluator(len(image)), [batch])


def _experiment(name, seed):
    return replaced(load_config(f"demo_{name}"), {"run.seed": seed})


def _fits(cache, codec) -> bool:
    if not cache.exists():
        return False
    try:
        return build(LatentCache(cache).contract["tokenizer"]) == codec.contract
    except (BadInput, KeyError, ValueError):
        return False


_IMPORTED = time.process_time()

if __name__ == "__main__":
    run(main)
