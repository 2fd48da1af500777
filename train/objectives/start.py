"""Stage one: what it opens at its start, and its train step."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict

from train.config import StageOne
from train.config.options.walk import walk
from train.config.validate import tokenizer_shapes
from train.errors import BadInput, blame
from train.modalities import Modality
from train.objectives.adversarial import make_adversarial_step, with_discriminator
from train.objectives.codebook import with_revival
from train.objectives.perceptual import Distance, networks
from train.objectives.reconstruction import Reconstruction
from train.objectives.transfer import Transfer, open_transfer
from train.pipeline.statistics import are_known, believe, moments_of, statistics_of
from train.runtime import hosts
from train.runtime.keys import key_of
from train.runtime.optim import factors_of, learning_rate, make
from train.runtime.step import TrainState, init_state, make_step
from vqdit.fields import Bound


@dataclasses.dataclass(frozen=True, eq=False)
class Start:
    """What a run of stage one opens, once, for all who need it.

    transfer:  the bundle that training starts from, if there is one.
    frozen:    variables of the networks that reconstructions are compared in.
    distances: these comparisons; see `networks`.
    waits:     whether the codebook is made from data by k-means: the quantizer says
        start="kmeans", and not all of it is brought.
    lost:      why a run that has begun does not find what it started from any more.
    """

    transfer: Transfer | None
    frozen: dict[str, Any]
    distances: Mapping[str, Distance]
    waits: bool
    lost: str = ""


def open_start(experiment: StageOne, begun: int | None = None) -> Start:
    """Opens what the experiment names, and checks that it fits the model.

    begun: the step that a run goes on from, which has what `init` brought.
    Raises BadInput, naming a field and what to write; compiles nothing.
    """
    model = experiment.model
    features, _, variables = tokenizer_shapes(model, experiment.data.shape)
    transfer, lost = open_transfer(experiment.init, model, begun is not None)
    waits = getattr(model.quantizer, "start", None) == "kmeans" and not (
        transfer is not None and transfer.brings_codes(variables)
    )
    if waits and lost:
        # Whether it brought codes is not known, and once k-means is past no matter.
        if experiment.kmeans and (begun or 0) < experiment.kmeans.step:
            raise BadInput(lost)
        waits = False
    if waits:
        _check_kmeans(experiment)
    _check_revival(experiment, variables)
    if transfer is not None:
        transfer.check(variables)
    frozen, distances = networks(experiment.losses, model.front)
    for name, distance in distances.items():
        with blame(f"losses.{name}={getattr(experiment.losses, name)}"):
            jax.eval_shape(distance, frozen[name], features, features)
    return Start(transfer, frozen, distances, waits, lost)


def share_statistics(data: Modality) -> None:
    """Statistics of the training split, each process reading its own records; of
    quantiles all of them, whose sample would be another one for other processes, and
    with it the scale by which a tokenizer knows its data."""
    if not hosts.several():
        return
    with hosts.together():  # it opens the data
        known = are_known(data)
    if hosts.agreed(known):
        return
    if data.normalise == "robust":
        with hosts.together():
            statistics_of(data)
        return
    with hosts.together():
        moments = moments_of(data, hosts.share())
    believe(data, moments.gathered(hosts.exchanged).finished())


def _check_kmeans(experiment: StageOne) -> None:
    quantizer, kmeans = experiment.model.quantizer, experiment.kmeans
    if kmeans is None:
        raise BadInput(
            "model.quantizer.start=kmeans waits for a k-means that kmeans=None never "
            "makes; write kmeans=KMeansInit(), or model.quantizer.start=normal"
        )
    early = Annotated[int, Bound(at_least=1, below=experiment.run.steps)]
    enough = Annotated[int, Bound(at_least=max(quantizer.code_counts))]
    walk(kmeans.step, early, "kmeans.step")
    walk(kmeans.samples, enough, "kmeans.samples")


def _check_revival(experiment: StageOne, variables: Mapping[str, Any]) -> None:
    """Raises BadInput for a codebook at no rate of which codes would be replaced."""
    factors = factors_of(experiment.optimizer.rates, variables["params"])
    flat = flatten_dict(factors)
    for path in flatten_dict(variables.get("revival", {})):
        codewords = (*path[:-1], "codewords")
        if not flat[codewords]:
            raise BadInput(
                f"optimizer.rates: {'/'.join(codewords)} stays as it is, and the "
                "quantizer replaces codes that are not used; write its revive=none, or "
                "a rate above 0"
            )


def build_step(experiment: StageOne, start: Start):
    """(init, step): the state's maker and the train step, for loop and bench."""
    model, optimizer = experiment.model, experiment.optimizer
    tx = make(optimizer, experiment.run.steps)
    example = jnp.zeros((1, *experiment.data.shape))

    def init() -> TrainState:
        key = key_of(experiment.run.seed)
        params_key, state_key = jax.random.split(key)
        (x, _), variables = model.init_with_output(params_key, example)
        if start.transfer is not None:
            variables = start.transfer.into(dict(variables))
        if start.frozen:
            variables = {**variables, "perceptual": start.frozen}
        state = init_state(state_key, dict(variables), tx)
        if experiment.adversarial is None:
            return state
        return with_discriminator(state, experiment, x.shape[1:])

    terms = Reconstruction(experiment, start.distances, optimizer.accumulate)
    if experiment.adversarial is None:
        rate = learning_rate(optimizer, experiment.run.steps)
        step = make_step(terms, tx, optimizer.ema, rate)
    else:
        step = make_adversarial_step(experiment, tx, terms)
    return init, with_revival(step)
