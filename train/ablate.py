"""Trains an experiment and all its variants, scores each, and makes one table.

python -m train.ablate --config=configs/quantizers_mnist.py --workdir=runs/quantizers \\
    --probe=600

Every row is a run of stage one with one field changed; `base` is CONFIG itself. With
--probe a small diffusion transformer is trained for as many steps on each tokenizer's
latents, always the same one, and its samples' Fréchet distance is a column too: what a
tokenizer is worth to stage two is not its PSNR. Writes WORKDIR/table.md and table.json
after every row; the same command goes on with what is missing. --only='("a","b")' takes
some of the variants, overrides such as --config.run.steps=300 hold for all.
"""

import dataclasses
import json
import math
import shutil
import sys
from pathlib import Path

import jax
import numpy as np

from train import stage_one, stage_two
from train.config import Optimizer, Run, StageOne, StageTwo, Stream, variants
from train.config.command import parse
from train.config.paths import diff
from train.config.validate import validate
from train.config.workdir import open_workdir
from train.errors import BadInput, near, run
from train.evaluation.judge import judge_of, train_judge
from train.evaluation.samples import Reference, curve
from train.evaluation.scores import evaluate_tokenizer
from train.modalities.files import write, write_bytes
from train.objectives import streams
from train.objectives.latents import encode_set
from train.objectives.start import open_start
from train.pipeline import open_examples
from train.runtime import hosts
from train.runtime.log import read_metrics, say
from vqdit.diffusion import Gaussian, LogitNormal
from vqdit.dit import DiT
from vqdit.nn import Block
from vqdit.trained.codec import Codec
from vqdit.values import describe

FLAGS = {
    "workdir": (str, "the folder of all rows; the same command goes on with the rest"),
    "force": (bool, "put rows of another experiment aside and train them anew"),
    "only": (tuple[str, ...], "the rows that are trained, such as ('base', 'fsq')"),
    "probe": (int, "steps of a diffusion transformer on each row's latents"),
    "samples": (int, "of each probe, which are scored (500)"),
    "probe_guidance": (float, "scale of the probe's sampler (1.5)"),
    "most": (int, "held-out examples that a row is scored on; else all"),
}
BASE = "base"
# The probe's sampler. Never the best for any one tokenizer, the same for all.
PROBE_STEPS, PROBE_GUIDANCE, PROBE_SAMPLES = 16, 1.5, 500


def rows_of(argv) -> dict[str, StageOne]:
    """Row name -> its experiment, overrides applied."""
    command = parse(argv, StageOne, flags=FLAGS)
    path = next((a.partition("=")[2] for a in argv if a.startswith("--config=")), None)
    if path is None:
        raise BadInput("write --config=FILE, whose variants are compared")
    if any(a.startswith("--variant") for a in argv):
        raise BadInput("--variant is one row: write --only=('NAME',)")
    names = [BASE, *variants(path)]
    only = command.flags.get("only") or names
    for name in only:
        if name not in names:
            raise BadInput(
                f"--only: {path} has no variant {name!r}; {near(name, names)}"
            )
    rows = {}
    for name in only:
        chosen = [] if name == BASE else [f"--variant={name}"]
        rows[name] = parse([*argv, *chosen], StageOne, flags=FLAGS).experiment
        validate(rows[name], jax.device_count())
        open_start(rows[name])
    return rows


def probe(
    codec: Codec,
    data,
    reference: Reference,
    workdir: Path,
    steps: int,
    samples: int = PROBE_SAMPLES,
    guidance: float = PROBE_GUIDANCE,
) -> dict:
    """Scores of the one small flow transformer on this tokenizer's latents.

    Width 96, depth 4, batch 64, rectified flow: about 0.7M parameters whatever the
    tokenizer, so a difference between rows is one of latents.
    """
    classes = open_examples(data, train=True).classes
    name = data.kind
    # The cache holds what is not augmented.
    data = dataclasses.replace(data, **streams.augmenting(data))
    experiment = StageTwo(
        name="probe",
        data=data,
        model=DiT(width=96, depth=4, classes=classes, block=Block(4, qk_norm="rms")),
        streams={name: Stream(Gaussian(), str(workdir), LogitNormal())},
        cache=str(workdir / "cache"),
        optimizer=Optimizer(
            peak_lr=2e-3,
            schedule="cosine",
            warmup=min(100, steps // 5),
            b2=0.99,
            ema=0.995,
        ),
        run=Run(steps=steps, batch=64, save_every=steps),
    )
    validate(experiment, jax.device_count())
    if not (workdir / "cache").exists():
        encode_set(codec, data, workdir / "cache")
    open_workdir(workdir / "probe", experiment)
    generator = stage_two.train(experiment, workdir / "probe")
    (scores,) = curve(generator, reference, (guidance,), samples, steps=PROBE_STEPS)
    # The cache is large and made again in seconds.
    shutil.rmtree(workdir / "cache")
    return {f"probe_{key}": value for key, value in scores.items()}


def row(
    experiment: StageOne, workdir: Path, flags: dict, reference, force: bool = False
) -> dict:
    """One row's figures, trained where they are not on disk."""
    done = workdir / "row.json"
    wanted = {"experiment": describe(experiment), "flags": _plain(flags)}
    if done.exists():
        found = json.loads(done.read_text())
        if found["of"] == json.loads(json.dumps(wanted)):
            return found["figures"]
    open_workdir(workdir, experiment, force)
    codec = stage_one.train(experiment, workdir)
    data, judge = experiment.data, None
    if data.front is not None:
        judge = judge_of(data, open_examples(data, train=True).classes)
    figures = evaluate_tokenizer(codec, data, flags.get("most"), False, judge)
    log = read_metrics(workdir)
    seconds = [line["step_seconds"] for line in log if "step_seconds" in line]
    figures["step_ms"] = 1e3 * float(np.median(seconds))
    figures["parameters"] = sum(
        leaf.size for leaf in jax.tree.leaves(codec.variables["params"])
    )
    if reference is not None:
        figures |= probe(
            codec,
            data,
            reference,
            workdir,
            flags["probe"],
            flags.get("samples", PROBE_SAMPLES),
            flags.get("probe_guidance", PROBE_GUIDANCE),
        )
    write(done, {"of": wanted, "figures": figures})
    return figures


def _plain(flags: dict) -> dict:
    return {name: value for name, value in flags.items() if name != "only"}


def table(rows: dict[str, dict], changes: dict[str, str]) -> str:
    """Markdown: a line a row, the figures that any row has."""
    columns = {
        "psnr_db": "PSNR, dB",
        "ssim": "SSIM",
        "rmse_reconstruction": "RMSE",
        "rmse_m": "RMSE, m",
        "accuracy": "accuracy",
        "si_sdr_db": "SI-SDR, dB",
        "log_mel_nat": "log-mel, nat",
        "kbps": "kbps",
        "usage": "usage",
        "perplexity": "perplexity",
        "bits_per_example": "bits",
        "step_ms": "step, ms",
        "probe_accuracy": "probe accuracy",
        "probe_distance": "probe Fréchet",
    }
    columns = {k: v for k, v in columns.items() if any(k in r for r in rows.values())}
    lines = [
        "| row | changed | " + " | ".join(columns.values()) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    for name, figures in rows.items():
        cells = [_cell(column, figures.get(column)) for column in columns]
        lines.append(f"| {name} | {changes[name]} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


DECIMALS = {
    "psnr_db": 2,
    "ssim": 3,
    "usage": 3,
    "probe_accuracy": 3,
    "accuracy": 3,
    "rmse_reconstruction": 4,
    "rmse_m": 3,
    "si_sdr_db": 2,
    "log_mel_nat": 3,
    "kbps": 2,
}


def _cell(column: str, value) -> str:
    if value is None:
        return ""
    if isinstance(value, list):  # a value a book
        value = float(np.mean(value))
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return f"{value:.{DECIMALS.get(column, 1)}f}"


def main(argv=None):
    argv = list(sys.argv[1:] if argv is None else argv)
    hosts.alone()
    rows = rows_of(argv)
    command = parse(argv, StageOne, flags=FLAGS)
    flags = dict(command.flags)
    if command.workdir is None:
        raise BadInput("write --workdir=DIR, a folder for all rows")
    for name in ("probe", "samples"):
        if flags.get(name, 1) < 1:
            raise BadInput(f"--{name}={flags[name]}: write 1 or more")
    base = next(iter(rows.values()))
    reference = None
    if "probe" in flags:
        classes = open_examples(base.data, train=True).classes
        if not base.data.judged or base.data.front is not None or not classes:
            raise BadInput("--probe scores samples of labelled images; leave it out")
        reference = Reference.of(train_judge(base.data), base.data)
    figures = {}
    changes = {
        name: ", ".join(diff(command.experiment, experiment)) or "-"
        for name, experiment in rows.items()
    }
    command.workdir.mkdir(parents=True, exist_ok=True)
    for name, experiment in rows.items():
        say(f"row {name}")
        figures[name] = row(
            experiment, command.workdir / name, flags, reference, command.force
        )
        found = {"rows": figures, "changed": changes}
        if reference is not None:
            found["real"] = reference.figures(flags.get("samples", PROBE_SAMPLES))
        write(command.workdir / "table.json", found)
        text = table(figures, changes)
        write_bytes(command.workdir / "table.md", text.encode())
    print(text)


if __name__ == "__main__":
    run(main)
