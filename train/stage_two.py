"""Stage two: a diffusion transformer learns a tokenizer's latents or codes.

python -m train.stage_two --config=configs/cifar10_dit.py --workdir=runs/dit \\
    --config.streams.image.tokenizer=runs/tok
"""

import functools
import hashlib
import json
import shlex
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from train.config import StageTwo
from train.config.command import parse
from train.config.validate import validate
from train.config.workdir import begun, open_workdir
from train.errors import run
from train.evaluation.training import sample_figures
from train.modalities.shown import class_words
from train.objectives.bundles import keep
from train.objectives.denoising import build_step
from train.objectives.start import share_statistics
from train.objectives.streams import prepare
from train.progress import say
from train.report.examples import show_augmented, show_samples
from train.runtime import hosts
from train.runtime.heldout import HeldOut
from train.runtime.keys import key_of
from train.runtime.launch import FLAGS, claimed, fits, launch
from train.runtime.loop import Hook
from train.runtime.sharding import DIT_RULES, spread
from vqdit.trained.generator import Generator
from vqdit.values import describe

SHOWN = 8  # columns in a grid of samples, one row a class
STEPS = 25  # of the sampler that draws it


def train(
    experiment: StageTwo,
    workdir: str | Path | None,
    force: bool = False,
    reschedule: bool = False,
) -> Generator:
    """Trains, from wherever the workdir stands, writes the bundle into it and returns
    it.

    force, reschedule: of `open_workdir`. Raises BadInput, before anything is compiled
        or written, for what cannot be run, and in this folder.
    """
    with hosts.together():
        validate(experiment, jax.device_count())
        open_workdir(workdir, experiment, force, False, reschedule)
    held = experiment.run.evaluate is not None or experiment.run.heldout_every
    if experiment.cache is None or held:
        for data in dict.fromkeys(experiment.sources.values()):
            share_statistics(data)
    with hosts.together():
        streams = prepare(experiment, begun(workdir, experiment, reschedule))
    parts = (streams.model, streams.processes, streams.transfer, streams.codewords)
    init, step_fn = build_step(experiment, *parts)

    def write(state, folder):
        return keep(folder, streams.generator(hosts.gather(state.ema)))

    # One for training and for held-out data, which have one sharding.
    encoder = functools.cache(streams.encoder)
    with hosts.together():
        heldout = HeldOut(
            streams.objective,
            streams.heldout,
            write,
            encode=streams.encoded,
            encoder=encoder,
            figures=sample_figures(streams),
        )
        fits(experiment, init, DIT_RULES, heldout)
    classes = streams.model.classes
    # One sampler for all pictures: its parameters are arguments, so it compiles once.
    drawn = {}

    def hooks(logger):
        if experiment.cache is None:
            for data in dict.fromkeys(experiment.sources[n] for n in streams.codecs):
                show_augmented(logger, data, experiment.run.seed)

        def draw(step, state):
            params = hosts.own(state.ema)
            if not hosts.first():
                return
            generator = streams.generator(params)
            if "draw" not in drawn:
                draw = generator.sampler(steps=STEPS)
                drawn["draw"] = spread(draw, state.step.sharding)
            shown = generator.trained_labels[:10]
            rows = len(shown) or 1
            label = np.repeat(shown, SHOWN) if classes else None
            names = class_words(label, generator.class_names) if classes else ()
            key = key_of(experiment.run.seed)
            x = drawn["draw"](key, jnp.arange(rows * SHOWN), label=label, params=params)
            show_samples(logger, step, generator, x, SHOWN, names)

        return [Hook(draw, experiment.run.sample_every)]

    # The name under which checkpoints have kept them from the first.
    depends = {
        f"tokenizers.{name}": codec.contract.fingerprint
        for name, codec in streams.codecs.items()
    }
    for name, value in streams.values.items():
        if value != experiment.values[name]:  # as the data have settled it
            text = json.dumps(describe(value))
            depends[f"tokenizers.{name}"] = hashlib.sha256(text.encode()).hexdigest()
    if streams.order:
        depends["order of classes"] = streams.order
    with claimed(workdir, experiment, force, reschedule) as folder:
        state = launch(
            experiment,
            folder,
            init,
            step_fn,
            DIT_RULES,
            streams.batches,
            hooks,
            streams.told,
            depends,
            None if streams.source.cached else encoder,
            reschedule,
            heldout,
            streams.lost,
            streams.source.made_of,
        )
        return write(state, folder / "bundle")


def main(argv=None):
    command = parse(argv, StageTwo, FLAGS, processes=True)
    hosts.start(command.processes)
    train(command.experiment, command.workdir, command.force, **command.flags)
    say(
        f"the generator is in {command.workdir}/bundle; draw from it with "
        f"python -m train.sample --workdir={shlex.quote(str(command.workdir))} "
        "--out=drawn"
    )


if __name__ == "__main__":
    run(main)
