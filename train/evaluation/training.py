"""What a run scores while it trains, beside the objective on held-out data."""

from typing import Any

import jax
import jax.numpy as jnp

from train.config import StageOne
from train.config.evaluations import Reconstructions, Samples
from train.errors import blame
from train.evaluation.evaluator import FeatureNetwork
from train.evaluation.features import Latents, network_of
from train.evaluation.samples import check_compared, prefixed, scored
from train.evaluation.scores import evaluate_tokenizer, references_of, tokenizer_figures
from train.modalities import Modality
from train.objectives.bundles import examples_for
from train.objectives.contract import averaged, unfinished
from train.objectives.streams import Streams
from train.runtime import hosts
from train.runtime.heldout import HeldOutFigures
from train.runtime.sharding import spread
from train.runtime.step import TrainState
from vqdit.trained.codec import Codec


def reconstruction_figures(
    experiment: StageOne, shapes: TrainState
) -> HeldOutFigures | None:
    """Of held-out reconstructions; None where the run asks for none. shapes: of its
    state."""
    how, data = experiment.run.evaluate, experiment.data
    if not isinstance(how, Reconstructions):
        return None
    names = tokenizer_figures(unfinished(experiment, averaged(shapes)), data)

    def of(state: TrainState) -> dict[str, Any]:
        codec = unfinished(experiment, averaged(state))
        found = evaluate_tokenizer(codec, data, how.most, baseline=False)
        return {name: found[name] for name in names}

    return HeldOutFigures(names, of, how.every)


def sample_figures(streams: Streams) -> HeldOutFigures | None:
    """Of samples of every stream; None where the run asks for none.

    Raises BadInput, with nothing read or computed, for what cannot be drawn or compared
    so.
    """
    experiment, how = streams.experiment, streams.experiment.run.evaluate
    if not isinstance(how, Samples):
        return None
    generator, data = streams.generator({}), experiment.sources
    with blame("run.evaluate"):
        check_compared(generator)
        draw = generator.sampler(steps=how.steps, guidance=how.guidance)

    def network(name: str, data: Modality, codec: Codec) -> FeatureNetwork:
        if how.judge is not None:
            return network_of(data, codec, how.judge, at="run.evaluate.judge")
        examples_for(codec, data, train=False)
        return Latents(codec)

    references = references_of(generator, data, network, how.copies)
    found = prefixed(references, generator).items()
    names = [name for prefix, each in found for name in each.names(prefix)]

    def of(state: TrainState) -> dict[str, Any]:
        params = jax.tree.map(jnp.asarray, hosts.own(state.ema))
        each = spread(draw, state.step.sharding)
        asked = (generator, each, references, how.num, how.seed)
        return scored(*asked, params=params)

    return HeldOutFigures(names, of, how.every)
