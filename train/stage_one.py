"""Stage one: a tokenizer learns to rebuild its signal.

python -m train.stage_one --config=configs/cifar10_tokenizer.py --workdir=runs/tok
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from train import pictures
from train.command import parse
from train.config import StageOne, Weights
from train.data import batches, open_source, whole
from train.data.pipeline import once, prepare
from train.errors import BadInput, run
from train.launch import launch
from train.log import say
from train.loop import Hook
from train.optim import learning_rate, make
from train.sharding import TOKENIZER_RULES
from train.step import TrainState, init_state, make_step
from train.validate import validate
from train.workdir import open_workdir
from vqdit.bundle import contract_of, save
from vqdit.codec import Codec
from vqdit.quantizers import kmeans
from vqdit.tokenizer import Tokenizer, to_signal, to_uint8

SHOWN = 8  # pictures in a grid of reconstructions
CHUNK = 256  # examples encoded at a time outside training


def objective(model: Tokenizer, weights: Weights):
    """Reconstruction and the quantizer's own losses, on batch["image"]."""

    def compute(params, stats, batch, key):
        x = to_signal(batch["image"])
        (x_hat, quantized), stats = model.apply(
            {"params": params, **stats}, x, train=True, key=key, mutable=list(stats)
        )
        error = x_hat - x
        reconstruction = {
            "l1": lambda: jnp.abs(error).mean(),
            "l2": lambda: jnp.square(error).mean(),
        }[weights.pixel]()
        loss = weights.reconstruction * reconstruction
        for name, value in quantized.losses.items():
            if not hasattr(weights, name):
                raise BadInput(
                    f"losses has no weight {name!r}, a loss of the quantizer"
                )
            loss = loss + getattr(weights, name) * value
        metrics = {"reconstruction": reconstruction, **quantized.metrics}
        metrics |= {f"loss_{name}": value for name, value in quantized.losses.items()}
        # Peak 2: signals are in [-1, 1].
        metrics["psnr"] = 10 * jnp.log10(4 / jnp.square(error).mean())
        return loss, (dict(stats), metrics)

    return compute


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
    """(init, step): the state's maker and the train step, for loop and bench."""
    model, optimizer = experiment.model, experiment.optimizer
    tx = make(optimizer, experiment.run.steps)
    data = experiment.data
    example = jnp.zeros((1, data.size, data.size, data.channels))

    def init() -> TrainState:
        key = jax.random.key(experiment.run.seed)
        params_key, state_key = jax.random.split(key)
        return init_state(state_key, dict(model.init(params_key, example)), tx)

    step = make_step(
        objective(model, experiment.losses),
        tx,
        optimizer.ema,
        optimizer.accumulate,
        learning_rate(optimizer, experiment.run.steps),
    )
    return init, with_revival(step)


def codebook_from_data(experiment: StageOne, step: int, state: TrainState):
    """The state with its codebook set by k-means over real encoder outputs."""
    model, how = experiment.model, experiment.kmeans
    sites = _grid_size(experiment)
    images = whole(experiment.data, train=True, count=-(-how.samples // sites))
    variables = {"params": state.params, **state.stats}
    z = np.concatenate(
        [np.asarray(each) for each in _encoded(model, variables, images["image"])]
    )
    quantizer = model.quantizer
    key = jax.random.fold_in(state.key, step)
    codewords, counts = kmeans(
        key,
        jnp.asarray(
            z.reshape(-1, z.shape[-1])[: max(how.samples, quantizer.num_codes)]
        ),
        quantizer.num_codes,
        how.iterations,
        quantizer.cosine,
    )
    say(
        f"step {step}: codebook of {quantizer.num_codes} set by k-means; "
        f"{int((counts > 0).sum())} codes in use"
    )

    def placed(params):
        own = {
            "params": params.get("quantizer", {}),
            "codebook": state.stats["codebook"]["quantizer"],
        }
        new = quantizer.with_codewords(own, codewords, counts)
        if new["params"]:
            params = {**params, "quantizer": new["params"]}
        return params, {**state.stats["codebook"], "quantizer": new["codebook"]}

    params, codebook = placed(state.params)
    ema, _ = placed(state.ema)
    ema = jax.tree.map(jnp.copy, ema)  # donated: one buffer cannot be given twice
    return state.replace(
        params=params, ema=ema, stats={**state.stats, "codebook": codebook}
    )


def _grid_size(experiment: StageOne) -> int:
    return (experiment.data.size // experiment.model.factor) ** 2


@partial(jax.jit, static_argnums=0)
def _encode(model, variables, image):
    return model.apply(variables, to_signal(image), method="latents")


def _encoded(model, variables, image):
    """Latents of all images, CHUNK at a time, the last chunk filled up."""
    for start in range(0, len(image), CHUNK):
        part = image[start : start + CHUNK]
        rows = len(part)
        if rows < CHUNK and start:
            part = np.concatenate([part, np.repeat(part[-1:], CHUNK - rows, axis=0)])
        yield _encode(model, variables, part)[:rows]


def finished(experiment: StageOne, state: TrainState) -> Codec:
    """The tokenizer as it is used: averaged weights, and the latents' statistics."""
    model, data = experiment.model, experiment.data
    stats = {n: v for n, v in state.stats.items() if n == "codebook"}
    variables = jax.device_get({"params": state.ema, **stats})
    fitted = prepare(data, train=True)
    total, squares, sites = 0.0, 0.0, 0
    for batch in once(fitted.take, len(fitted), CHUNK, threads=data.threads):
        z = _encode(model, variables, batch["image"])[batch["valid"]]
        grid, z = z.shape[1:-1], np.asarray(z, np.float64).reshape(-1, z.shape[-1])
        total, squares = total + z.sum(0), squares + np.square(z).sum(0)
        sites += len(z)
    mean = total / sites
    std = np.sqrt(np.maximum(squares / sites - np.square(mean), 1e-12))
    signal = {"kind": "image", "shape": (data.size, data.size, data.channels)}
    contract = contract_of(model, signal, grid, mean, std, variables)
    return Codec(model, variables, contract)


@partial(jax.jit, static_argnums=0)
def _reconstruct(model, variables, image):
    return to_uint8(model.apply(variables, to_signal(image))[0])


def train(experiment: StageOne, workdir: Path) -> Codec:
    """Trains, writes the bundle into the workdir and returns it."""
    model, data = experiment.model, experiment.data
    init, step_fn = build(experiment)
    waits = getattr(model.quantizer, "start", "normal") == "kmeans"
    latents = len(prepare(data, train=True)) * _grid_size(experiment)
    if waits and latents < model.quantizer.num_codes:
        raise BadInput(
            f"model.quantizer.num_codes={model.quantizer.num_codes}: k-means needs as "
            f"many latents and the data has {latents}; write fewer codes"
        )
    shown = whole(data, train=False, count=SHOWN)["image"]

    def open_batches(position, sharding):
        process = (jax.process_index(), jax.process_count())
        return (
            {"image": batch["image"]}
            for batch in batches(
                data, True, experiment.run.batch, experiment.run.seed, position, process
            )
        )

    def hooks(logger):
        def draw(step, state):
            variables = {"params": state.ema, **state.stats}
            pair = np.stack([shown, _reconstruct(model, variables, shown)])
            pair = pair.reshape(-1, *shown.shape[1:])
            logger.image(step, "reconstruction", pictures.grid(pair, len(shown)))

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
    open_source(command.experiment.data, train=True)
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
