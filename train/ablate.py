"""Trains an experiment and all its variants, scores each, and makes one table.

python -m train.ablate --config=configs/quantizers_mnist.py --workdir=runs/quantizers \\
    --probe=600

Every row is a run of stage one with one field changed; `base` is CONFIG itself. With
--probe a small diffusion transformer is trained for as many steps on each tokenizer's
latents, always the same one, and its samples' Fréchet distance is a column too: what a
tokenizer is worth to stage two is not its PSNR. Writes WORKDIR/table.md and table.json
after every row; the same command goes on with what is missing. --only=a,b trains
some of the variants, beside which the table keeps those that were scored so before;
overrides such as --config.run.steps=300 hold for all.
"""

import contextlib
import dataclasses
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from train import stage_one, stage_two
from train.config import (
    Optimizer,
    Run,
    StageOne,
    StageTwo,
    Stream,
    load_config,
    variants,
)
from train.config.command import Command, dashed, parse
from train.config.options.paths import diff
from train.config.outputs import check_free
from train.config.override import overrides
from train.config.packages import own_packages
from train.config.validate import validate
from train.config.workdir import begun, open_workdir
from train.errors import BadInput, one_line, run
from train.evaluation.judge import judge_of, train_judge
from train.evaluation.samples import Reference, curve
from train.evaluation.scores import evaluate_tokenizer
from train.modalities.files.writing import finite, write, write_bytes
from train.objectives import caches
from train.objectives.latents import encode_set
from train.objectives.start import open_start
from train.pipeline import open_examples
from train.progress import say
from train.report.pages import markdown
from train.runtime import hosts
from train.runtime.log import read_metrics
from vqdit import sealed
from vqdit.diffusion import Gaussian, LogitNormal
from vqdit.dit import DiT
from vqdit.fields import Count, Finite, Names
from vqdit.nn import Block
from vqdit.trained.bundle import read_json
from vqdit.trained.codec import Codec
from vqdit.values import build, describe, near

FLAGS = {
    "workdir": (str, "the folder of all rows; the same command goes on with the rest"),
    "force": (bool, "put rows of another experiment aside and train them anew"),
    "only": (Names, "the rows that are trained, such as base,fsq"),
    "probe": (Count, "steps of a diffusion transformer on each row's latents"),
    "samples": (Count, "of each probe, which are scored (500)"),
    "probe_guidance": (Finite, "scale of the probe's sampler (1.5)"),
    "most": (Count, "held-out examples that a row is scored on; else all"),
}
BASE, DONE = "base", "row.json"
# The probe's sampler. Never the best for any one tokenizer, the same for all.
PROBE_STEPS, PROBE_GUIDANCE, PROBE_SAMPLES = 16, 1.5, 500
# Figure -> (its column's title, decimals).
COLUMNS = {
    "psnr_db": ("PSNR, dB", 2),
    "ssim": ("SSIM", 3),
    "rmse_reconstruction": ("RMSE", 4),
    "rmse_m": ("RMSE, m", 3),
    "accuracy": ("accuracy", 3),
    "si_sdr_db": ("SI-SDR, dB", 2),
    "log_mel_nat": ("log-mel, nat", 3),
    "kbps": ("kbps", 2),
    "usage": ("usage", 3),
    "perplexity": ("perplexity", 1),
    "bits_per_example": ("bits", 1),
    "step_ms": ("step, ms", 1),
    "probe_accuracy": ("probe accuracy", 3),
    "probe_distance": ("probe Fréchet", 1),
}


def command_of(argv) -> Command:
    return parse(argv, StageOne, FLAGS, variant=False, needed=["workdir"])


def rows_of(command: Command) -> dict[str, StageOne]:
    """Row name -> its experiment, overrides applied, known to fit."""
    if command.config is None:
        raise BadInput("write --config=FILE, whose variants are compared")
    names = [BASE, *variants(command.config)]
    workdir = Path(command.workdir or "")  # which has to be given
    check_free(workdir, ["table.json", "table.md"], names)
    rows: dict[str, StageOne] = {}
    for name in command.flags.get("only", names):
        if name not in names:
            raise BadInput(
                f"--only: {command.config} has no variant {name!r}; {near(name, names)}"
            )
        try:
            experiment = rows[name] = _experiment(command, name)
            validate(experiment, jax.device_count())
            folder = open_workdir(workdir / name, experiment, command.force, False)
            check_free(folder, [DONE])
            # A row that has begun has what its init brought.
            open_start(experiment, begun(folder, experiment, False))
        except BadInput as error:  # of a field that others may have
            raise BadInput(f"row {name}: {error}") from error
    return rows


def _experiment(command: Command, name: str) -> StageOne:
    chosen = load_config(command.config or "", None if name == BASE else name)
    assert isinstance(chosen, StageOne)  # as CONFIG is, whose kind all are of
    return overrides(chosen, command.changes)


def probe(
    codec: Codec,
    data,
    reference: Reference,
    workdir: Path,
    steps: int,
    samples: int,
    guidance: float,
) -> dict:
    """Scores of the one small flow transformer on this tokenizer's latents.

    Width 96, depth 4, batch 64, rectified flow: about 0.7M parameters whatever the
    tokenizer, so a difference between rows is one of latents.
    """
    classes = open_examples(data, True).classes
    name = data.kind
    # A tokenizer that was trained anew has a probe of its own.
    place = workdir / f"probe_{codec.contract.fingerprint[:8]}"
    cache = place / "cache"
    # Neither are they mirrored, so that rows compare whatever augments their data.
    data = dataclasses.replace(data, **caches.augmenting(data))
    experiment = StageTwo(
        name="probe",
        data=data,
        model=DiT(width=96, depth=4, classes=classes, block=Block(4, qk_norm="rms")),
        streams={name: Stream(Gaussian(), str(workdir), LogitNormal())},
        cache=str(cache),
        optimizer=Optimizer(
            peak_lr=2e-3,
            schedule="cosine",
            warmup=min(100, steps // 5),
            b2=0.99,
            ema=0.995,
        ),
        run=Run(steps=steps, batch=64, save_every=steps),
    )
    # One of a sweep that was stopped may be half removed.
    shutil.rmtree(cache, ignore_errors=True)
    encode_set(codec, data, cache)
    # One of other settings makes room; the same goes on.
    generator = stage_two.train(experiment, place, force=True)
    how = {"steps": PROBE_STEPS}
    (scores,) = curve(generator, {name: reference}, (guidance,), samples, **how)
    # The cache is large and made again in seconds.
    shutil.rmtree(cache)
    return {f"probe_{key}": value for key, value in scores.items()}


def row(
    experiment: StageOne, workdir: Path, flags: dict, reference, force: bool
) -> dict:
    """One row's figures, trained where they are not on disk."""
    if found := scored(experiment, workdir, flags):
        return found
    codec = stage_one.train(experiment, workdir, force)
    data, judge = experiment.data, None
    if data.front is not None:
        judge = judge_of(data, open_examples(data, True).classes)
    figures = evaluate_tokenizer(codec, data, flags.get("most"), False, judge)
    log = read_metrics(workdir)
    seconds = [line["step_seconds"] for line in log if "step_seconds" in line]
    figures["step_ms"] = 1e3 * float(np.median(seconds))
    figures["parameters"] = sum(
        leaf.size for leaf in jax.tree.leaves(codec.variables["params"])
    )
    if reference is not None:
        count = flags.get("samples", PROBE_SAMPLES)
        how = flags["probe"], count, flags.get("probe_guidance", PROBE_GUIDANCE)
        figures |= probe(codec, data, reference, workdir, *how)
    figures = finite(figures)  # or the file would be no JSON, and not be read again
    wanted = {"experiment": describe(experiment), "flags": _settings(flags)}
    write(workdir / DONE, sealed.sealed({"of": wanted, "figures": figures}))
    return figures


def _settings(flags: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if name != "only"}


def scored(experiment: StageOne, folder: Path, flags: Mapping[str, Any]) -> dict:
    """A row's figures, as its folder has them; {} where it was not scored so. Raises
    BadInput for another file than `row` writes."""
    done = folder / DONE
    if not done.exists():
        return {}
    try:
        found = sealed.opened(read_json(done))
        of, figures = (found.get(name) for name in ("of", "figures"))
        if of is None or figures is None:
            raise ValueError("it has no figures")
    except ValueError as error:
        raise BadInput(
            f"{done}: {one_line(error)}; remove it to score the row again"
        ) from error
    packages = ("vqdit", "train", *own_packages(experiment))
    # Of values: a field that came later has its default.
    with contextlib.suppress(KeyError, TypeError, ValueError):
        if build(of["experiment"], packages) == experiment:
            return figures if of["flags"] == _settings(flags) else {}
    return {}


def earlier(
    command: Command, rows: Collection[str]
) -> dict[str, tuple[StageOne, dict]]:
    """Rows of the table that were scored before and are not asked for now: what was
    trained, and its figures."""
    found, folder = {}, Path(command.workdir or "")  # which has to be given
    for name in {BASE, *variants(command.config or "")}.difference(rows):
        with contextlib.suppress(BadInput):  # an override may be of others alone
            experiment = _experiment(command, name)
            if figures := scored(experiment, folder / name, command.flags):
                found[name] = experiment, figures
    return found


def table(rows: dict[str, dict], changes: dict[str, str]) -> str:
    """Markdown: a line a row, the figures that any row has."""
    columns = [k for k in COLUMNS if any(k in row for row in rows.values())]
    lines = []
    for name, figures in rows.items():
        cells = [_cell(figures.get(column), COLUMNS[column][1]) for column in columns]
        lines.append([name, changes[name], *cells])
    return markdown(["row", "changed", *(COLUMNS[n][0] for n in columns)], lines)


def _cell(value, decimals: int) -> str:
    # Of several books each has a value, or none.
    found = [x for x in np.atleast_1d(value).tolist() if x is not None]
    return f"{float(np.mean(found)):.{decimals}f}" if found else ""


def main(argv=None):
    hosts.alone()
    command = command_of(argv)
    rows, flags = rows_of(command), command.flags
    base = next(iter(rows.values()))
    reference = None
    for name in () if "probe" in flags else {"samples", "probe_guidance"} & {*flags}:
        raise BadInput(f"--{dashed(name)} is of --probe; write it, too")
    if "probe" in flags:
        of_images = base.data.judged and base.data.front is None
        if not of_images or not open_examples(base.data, True).classes:
            raise BadInput("--probe scores samples of labelled images; leave it out")
        reference = Reference(train_judge(base.data), base.data)
    before = earlier(command, rows)
    every = {name: experiment for name, (experiment, _) in before.items()} | rows
    figures = {name: found for name, (_, found) in before.items()}
    order = [name for name in (BASE, *variants(command.config)) if name in every]
    changes = {
        name: ", ".join(diff(command.experiment, every[name])) or "-" for name in order
    }
    text = ""
    for name, experiment in rows.items():
        say(f"row {name}")
        folder = command.workdir / name
        figures[name] = row(experiment, folder, flags, reference, command.force)
        so_far = {name: figures[name] for name in order if name in figures}
        found = {"rows": so_far, "changed": changes}
        if reference is not None:
            found["real"] = reference.figures(flags.get("samples", PROBE_SAMPLES))
        write(command.workdir / "table.json", found)
        text = table(so_far, changes)
        write_bytes(command.workdir / "table.md", text.encode())
    print(text)


if __name__ == "__main__":
    run(main)
