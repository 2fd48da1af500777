"""Stage one: a tokenizer learns to rebuild its signal.

python -m train.stage_one --config=configs/cifar10_tokenizer.py --workdir=runs/tok
"""

import math
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from train import pictures
from train.adversarial import make_adversarial_step, with_discriminator
from train.command import parse
from train.config import StageOne
from train.data import batches, prepare, whole
from train.data.normalise import keep_statistics, recall_statistics
from train.data.pipeline import once
from train.errors import BadInput, run
from train.launch import launch
from train.log import say
from train.loop import Hook
from train.objective import Reconstruction
from train.optim import learning_rate, make
from train.perceptual import networks
from train.pictures_of import show_augmented
from train.sharding import TOKENIZER_RULES
from train.step import TrainState, init_state, make_step
from train.transfer import Transfer, waits_for_kmeans
from train.validate import validate
from train.workdir import open_workdir
from vqdit.bundle import contract_of, save
from vqdit.codec import Codec
from vqdit.tokenizer import to_signal

SHOWN = 8  # pictures in a grid of reconstructions
# Examples encoded at a time outside training, and the values they may have in all.
CHUNK, CHUNK_VALUES = 256, 2**24


def with_revival(step):
    """The step, and after it the rows of gradient codebooks that the quantizer gave up.

    Their moving average is replaced with them, and their moments start from zero: a
    revived code inherits nothing from the dead one.
    """

    def revive(state: TrainState) -> TrainState:
        plans = {
            path[1:-1]: leaf for path, leaf in _named(state.stats) if path[-1] == "dead"
        }
        fresh = {
            path[1:-1]: leaf
            for path, leaf in _named(state.stats)
            if path[0] == "revival" and path[-1] == "fresh"
        }

        def replace(tree, reset):
            def leaf(path, value):
                names = tuple(getattr(k, "key", getattr(k, "name", "")) for k in path)
                for owner, dead in plans.items():
                    if names[-len(owner) - 1 :] == (*owner, "codewords"):
                        new = jnp.zeros_like(value) if reset else fresh[owner]
                        return jnp.where(dead[:, None], new, value)
                return value

            return jax.tree_util.tree_map_with_path(leaf, tree)

        if not plans:
            return state
        done = jax.tree.map(jnp.zeros_like, state.stats["revival"])
        return state.replace(
            stats={**state.stats, "revival": done},
            params=replace(state.params, reset=False),
            ema=replace(state.ema, reset=False),
            opt=replace(state.opt, reset=True),
        )

    def revived(state, batch):
        state, metrics = step(state, batch)
        return revive(state), metrics

    return revived


def _named(tree):
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(tuple(k.key for k in path), leaf) for path, leaf in leaves]


def build(experiment: StageOne):
    """(init, step): the state's maker and the train step, for loop and bench.

    Raises BadInput for a perceptual network that cannot be read.
    """
    model, optimizer = experiment.model, experiment.optimizer
    tx = make(optimizer, experiment.run.steps)
    frozen, distances = networks(experiment.losses, model.front)
    transfer = Transfer(experiment.init, model) if experiment.init else None
    example = jnp.zeros((1, *experiment.data.shape))

    def init() -> TrainState:
        key = jax.random.key(experiment.run.seed)
        params_key, state_key = jax.random.split(key)
        (x, _), variables = model.init_with_output(params_key, example)
        if transfer is not None:
            variables = transfer.into(dict(variables))
        if frozen:
            variables = {**variables, "perceptual": frozen}
        state = init_state(state_key, dict(variables), tx)
        if experiment.adversarial is None:
            return state
        return with_discriminator(state, experiment, x.shape[1:])

    def plain(state, batch):
        # Made for the step at hand: some weights change with it.
        objective = Reconstruction(experiment, state.step, distances).plain
        rate = learning_rate(optimizer, experiment.run.steps)
        step = make_step(objective, tx, optimizer.ema, optimizer.accumulate, rate)
        return step(state, batch)

    if experiment.adversarial is None:
        return init, with_revival(plain)
    return init, with_revival(make_adversarial_step(experiment, tx, distances))


def codebook_from_data(experiment: StageOne, step: int, state: TrainState):
    """The state with its codebook set by k-means over real encoder outputs."""
    model, how = experiment.model, experiment.kmeans
    kind, sites = experiment.data.kind, _grid_size(experiment)
    # Whole examples, since a quantizer over several scales needs their grids.
    count = -(-how.samples // sites)
    signals = whole(experiment.data, train=True, count=count)[kind]
    variables = {"params": state.params, **state.stats}
    rows = partial(np.take, signals, axis=0)
    z = np.concatenate(
        [
            np.asarray(_encode(model, variables, batch["x"])[batch["valid"]])
            for batch in once(lambda i: {"x": rows(i)}, len(signals), CHUNK, threads=0)
        ]
    )
    z = jnp.asarray(z.reshape(-1, z.shape[-1]))
    quantizer = model.quantizer
    key = jax.random.fold_in(state.key, step)

    def placed(params):
        own = {
            "params": params.get("quantizer", {}),
            "codebook": state.stats["codebook"]["quantizer"],
        }
        new, found = quantizer.from_data(own, key, z, how.iterations)
        if new["params"]:
            params = {**params, "quantizer": new["params"]}
        codebook = {**state.stats["codebook"], "quantizer": new["codebook"]}
        return params, codebook, found

    params, codebook, found = placed(state.params)
    ema, *_ = placed(state.ema)
    found = ", ".join(f"{name} {float(v):.3g}" for name, v in found.items())
    say(f"step {step}: codebook set by k-means over {len(z)} latents; {found}")
    ema = jax.tree.map(jnp.copy, ema)  # donated: one buffer cannot be given twice
    return state.replace(
        params=params, ema=ema, stats={**state.stats, "codebook": codebook}
    )


def _grid_size(experiment: StageOne) -> int:
    return math.prod(experiment.model.grid(experiment.data.shape[:-1]))


@partial(jax.jit, static_argnums=0)
def _encode(model, variables, x):
    return model.apply(variables, to_signal(x), method="latents")


def finished(experiment: StageOne, state: TrainState) -> Codec:
    """The tokenizer as it is used: averaged weights, and the latents' statistics."""
    model, data = experiment.model, experiment.data
    stats = {n: v for n, v in state.stats.items() if n == "codebook"}
    variables = jax.device_get({"params": state.ema, **stats})
    examples = prepare(data, train=True)
    total, squares, sites = 0.0, 0.0, 0
    chunk = _chunk(data.shape)
    for batch in once(examples.take, len(examples), chunk, threads=data.threads):
        z = _encode(model, variables, batch[data.kind])[batch["valid"]]
        grid, z = z.shape[1:-1], np.asarray(z, np.float64).reshape(-1, z.shape[-1])
        total, squares = total + z.sum(0), squares + np.square(z).sum(0)
        sites += len(z)
    mean = total / sites
    std = np.sqrt(np.maximum(squares / sites - np.square(mean), 1e-12))
    signal = {
        "kind": data.kind,
        "shape": data.shape,
        "rate": data.rate,
        "offset": examples.offset,
        "scale": examples.scale,
        "code_grid": _code_grid(model, variables, data.shape),
        "preparation": data.preparation,
    }
    contract = contract_of(model, signal, grid, mean, std, variables)
    return Codec(model, variables, contract)


def _code_grid(model, variables, shape) -> tuple[int, ...]:
    """() where a code belongs to a latent, else the grid of a quantizer's own."""
    x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    run = partial(model.apply, method=lambda m, x: m.quantize(m.encode(x)).codes)
    codes = jax.eval_shape(run, variables, x)
    return () if codes is None else codes.shape[1:-1]


def _chunk(shape: tuple[int, ...]) -> int:
    """Examples encoded at a time: CHUNK small ones, fewer of what is large."""
    return max(1, min(CHUNK, CHUNK_VALUES // math.prod(shape)))


@partial(jax.jit, static_argnums=0)
def _reconstruct(model, variables, x):
    """The signal and what the tokenizer makes of it."""
    x = to_signal(x)

    def run(model, x):
        return model.decode(model.quantize(model.encode(x)).latents)

    return x, model.apply(variables, x, method=run)


def train(experiment: StageOne, workdir: Path) -> Codec:
    """Trains, writes the bundle into the workdir and returns it."""
    model, data = experiment.model, experiment.data
    keep_statistics(data, workdir, write=jax.process_index() == 0)
    init, step_fn = build(experiment)
    waits = waits_for_kmeans(experiment)
    latents = len(prepare(data, train=True)) * _grid_size(experiment)
    most = max(model.quantizer.code_counts) if waits else 0
    if latents < most:
        raise BadInput(
            f"model.quantizer has {most} codes: k-means needs as many latents and the "
            f"data has {latents}; write fewer codes"
        )
    shown = whole(data, train=False, count=SHOWN)[data.kind]

    def open_batches(position, sharding):
        process = (jax.process_index(), jax.process_count())
        return (
            {n: batch[n] for n in (data.kind, "mask") if n in batch}
            for batch in batches(
                data, True, experiment.run.batch, experiment.run.seed, position, process
            )
        )

    def hooks(logger):
        show_augmented(logger, data, experiment.run.seed)

        def draw(step, state):
            variables = {"params": state.ema, **state.stats}
            pair = np.concatenate(_reconstruct(model, variables, shown))
            picture = pictures.sheet(data.kind, pair, len(shown))
            logger.image(step, "reconstruction", picture)

        found = [Hook(draw, experiment.run.sample_every)]
        if waits:
            start = partial(codebook_from_data, experiment)
            found.append(Hook(start, at=(experiment.kmeans.step,), changes=True))
        return found

    state = launch(
        experiment, workdir, init, step_fn, TOKENIZER_RULES, open_batches, hooks
    )
    codec = finished(experiment, state)
    if jax.process_index() == 0:
        save(workdir / "bundle", codec)
    return codec


def main(argv=None):
    command = parse(argv, StageOne)
    validate(command.experiment, jax.device_count())
    recall_statistics(command.experiment.data, command.workdir)
    for part in (True, False):
        prepare(command.experiment.data, part)
    first = jax.process_index() == 0
    workdir = open_workdir(
        command.workdir, command.experiment, command.force, write=first
    )
    train(command.experiment, workdir)
    say(
        f"the tokenizer is in {workdir}/bundle; score it with "
        f"python -m train.evaluate --workdir={workdir}"
    )


if __name__ == "__main__":
    run(main)
