"""Stage one: a tokenizer learns to rebuild its signal.

python -m train.stage_one --config=configs/cifar10_tokenizer.py --workdir=runs/tok
"""

import shlex
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from train.config import StageOne
from train.config.command import parse
from train.config.packages import own_packages
from train.config.validate import validate
from train.config.workdir import begun, open_workdir
from train.errors import BadInput, blame, run
from train.evaluation.training import reconstruction_figures
from train.objectives.bundles import keep
from train.objectives.codebook import codebook_from_data, grid_size
from train.objectives.contract import SOME, averaged, finished, summary
from train.objectives.reconstruction import SIGNAL, Reconstruction
from train.objectives.start import build_step, open_start, share_statistics
from train.pipeline import (
    JointExamples,
    keep_statistics,
    open_examples,
    recall_statistics,
    whole,
)
from train.progress import say
from train.report.examples import play, show_augmented, units_of
from train.report.sheets import sheet
from train.runtime import hosts
from train.runtime.heldout import MOST, HeldOut
from train.runtime.launch import FLAGS, claimed, fits, launch
from train.runtime.loop import Hook
from train.runtime.sharding import TOKENIZER_RULES
from vqdit.signal import to_signal
from vqdit.trained.bundle import load
from vqdit.trained.codec import Codec

SHOWN = 8  # pictures in a grid of reconstructions


@partial(jax.jit, static_argnums=0)
def _reconstruct(model, variables, x):
    """The signal and what the tokenizer makes of it."""
    x = to_signal(x)

    def run(model, x):
        return model.decode(model.quantize(model.encode(x)).latents)

    return x, model.apply(variables, x, method=run)


def train(
    experiment: StageOne,
    workdir: str | Path | None,
    force: bool = False,
    reschedule: bool = False,
) -> Codec:
    """Trains, from wherever the workdir stands, writes the bundle into it and returns
    it.

    force, reschedule: of `open_workdir`. Raises BadInput, before anything is compiled
        or written, for what cannot be run, and in this folder.
    """
    model, data, kmeans = experiment.model, experiment.data, experiment.kmeans
    with hosts.together():
        validate(experiment, jax.device_count())
        open_workdir(workdir, experiment, force, False, reschedule)
        start = open_start(experiment, begun(workdir, experiment, reschedule))
        recall_statistics(data, workdir)
    share_statistics(data)
    with hosts.together():
        for part in (True, False):
            open_examples(data, part)
    init, step_fn = build_step(experiment, start)

    def open_heldout(rows):
        joined = JointExamples({SIGNAL: data}, {}, train=False)
        return joined.in_order(experiment.run.batch, rows, MOST)

    def keep_some(state, folder):
        keep(folder, finished(experiment, averaged(state), SOME))

    with hosts.together():
        heldout = HeldOut(
            Reconstruction(experiment, start.distances),
            open_heldout,
            keep_some,
            kmeans.step if kmeans and start.waits else 0,
            loss="nonadversarial_loss" if experiment.adversarial else "loss",
            figures=reconstruction_figures(experiment, jax.eval_shape(init)),
        )
        fits(experiment, init, TOKENIZER_RULES, heldout, start.waits)
    latents = len(open_examples(data, True)) * grid_size(experiment)
    quantizer: Any = model.quantizer  # there is one that waits
    most = max(quantizer.code_counts) if start.waits else 0
    if latents < most:
        raise BadInput(
            f"model.quantizer has {most} codes: k-means needs as many latents and the "
            f"data has {latents}; write fewer codes"
        )
    with hosts.together():
        shown = whole(data, train=False, count=SHOWN)["x"]

    joined = JointExamples({SIGNAL: data}, {}, train=True)

    def open_batches(position, rows):
        run = experiment.run
        return joined.batches(run.batch, run.seed, position, rows)

    def hooks(logger):
        show_augmented(logger, data, experiment.run.seed)

        def draw(step, state):
            variables = hosts.own({"params": state.ema, **state.stats})
            if not hosts.first():
                return
            pair = np.concatenate(_reconstruct(model, variables, shown))
            count, units = len(shown), units_of(data, open_examples(data, False))
            names = ["original"] * count + ["reconstruction"] * count
            picture = sheet(data.kind, pair, units, count, names)
            logger.image(step, "reconstruction", picture)
            for name, x in (
                ("original", pair[:count]),
                ("reconstruction", pair[count:]),
            ):
                play(logger, step, name, data, x, units)

        found = [Hook(draw, experiment.run.sample_every)]
        if start.waits:
            made = partial(codebook_from_data, experiment)
            at = (kmeans.step,) if kmeans else ()
            found.append(Hook(made, at=at, changes=True))
        return found

    parts = (init, step_fn, TOKENIZER_RULES, open_batches, hooks)
    with claimed(workdir, experiment, force, reschedule) as folder:
        with hosts.together():
            keep_statistics(data, folder, write=hosts.first())
        about = partial(summary, experiment)
        how: dict[str, Any] = {"reschedule": reschedule, "heldout": heldout}
        how["lost"] = start.lost
        how["made_of"] = joined.made_of
        state = launch(experiment, folder, *parts, about, **how)
        codec = keep(folder / "bundle", finished(experiment, averaged(state)))
        best = folder / "best"
        if experiment.run.best and best.exists():  # whose statistics are of SOME so far
            with hosts.together(), blame("run.best"):
                kept: Any = load(best, own_packages(experiment))  # a tokenizer
            keep(best, finished(experiment, kept.variables))
        return codec


def main(argv=None):
    command = parse(argv, StageOne, FLAGS, processes=True)
    hosts.start(command.processes)
    train(command.experiment, command.workdir, command.force, **command.flags)
    say(
        f"the tokenizer is in {command.workdir}/bundle; score it with "
        f"python -m train.evaluate --workdir={shlex.quote(str(command.workdir))}"
    )


if __name__ == "__main__":
    run(main)
