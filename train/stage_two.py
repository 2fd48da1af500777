"""Stage two: a diffusion transformer learns a tokenizer's latents or codes.

python -m train.stage_two --config=configs/cifar10_dit.py --workdir=runs/dit \\
    --config.streams.image.tokenizer=runs/tok
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from train.config import StageTwo
from train.config.command import parse
from train.config.validate import validate
from train.config.workdir import open_workdir
from train.errors import run
from train.objectives.start import share_statistics
from train.objectives.streams import Streams, build_step, prepare
from train.report import pictures
from train.report.examples import show_augmented
from train.runtime import hosts
from train.runtime.launch import launch
from train.runtime.log import say
from train.runtime.loop import Hook
from train.runtime.sharding import DIT_RULES
from vqdit.trained.bundle import save
from vqdit.trained.generator import Generator

SHOWN = 8  # columns in a grid of samples, one row a class
STEPS = 25  # of the sampler that draws it


def train(
    experiment: StageTwo, workdir: Path, streams: Streams | None = None
) -> Generator:
    """Trains, writes the bundle into the workdir and returns it.

    streams: what `prepare` returned, for a caller that has it.
    """
    streams = streams or prepare(experiment)
    init, step_fn = build_step(experiment, streams.model, streams.processes)
    classes = streams.model.classes
    # One sampler for all pictures: its parameters are arguments, so it compiles once.
    drawn = {}

    def hooks(logger):
        if experiment.cache is None:
            for data in dict.fromkeys(experiment.sources.values()):
                show_augmented(logger, data, experiment.run.seed)

        def draw(step, state):
            params = hosts.own(state.ema)
            if not hosts.first():
                return
            if "draw" not in drawn:
                drawn["draw"] = streams.generator(params).sampler(steps=STEPS)
            rows = max(min(classes, 10), 1)
            label = np.repeat(np.arange(rows), SHOWN) if classes else None
            key = jax.random.key(experiment.run.seed)
            x = drawn["draw"](key, jnp.arange(rows * SHOWN), label=label, params=params)
            for name, codec in streams.codecs.items():
                kind = codec.contract.kind
                picture = pictures.sheet(kind, np.asarray(x[name]), SHOWN)
                logger.image(step, f"samples_{name}", picture)

        return [Hook(draw, experiment.run.sample_every)]

    # The name under which checkpoints have kept them from the first.
    depends = {
        f"tokenizers.{name}": codec.contract.fingerprint
        for name, codec in streams.codecs.items()
    }
    state = launch(
        experiment,
        workdir,
        init,
        step_fn,
        DIT_RULES,
        streams.batches,
        hooks,
        depends,
        streams.encoder,
    )
    params = hosts.gather(state.ema)
    result = streams.generator(params)
    if hosts.first():
        save(workdir / "bundle", result)
    hosts.wait("bundle")
    return result


def main(argv=None):
    command = parse(argv, StageTwo, processes=True)
    hosts.start(command.processes)
    with hosts.together():
        validate(command.experiment, jax.device_count())
    if command.experiment.cache is None:
        for data in dict.fromkeys(command.experiment.sources.values()):
            share_statistics(data)
    with hosts.together():
        streams = prepare(command.experiment)
    with hosts.together():
        workdir = open_workdir(
            command.workdir, command.experiment, command.force, write=hosts.first()
        )
    train(command.experiment, workdir, streams)
    say(
        f"the generator is in {workdir}/bundle; draw from it with "
        f"python -m train.sample --workdir={workdir} --out=grid.png"
    )


if __name__ == "__main__":
    run(main)
