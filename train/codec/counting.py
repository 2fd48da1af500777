"""Counts a tokenizer's codes over its training set, for the codec's model of them."""

from collections.abc import Sequence

import numpy as np

from train.codec import prior as priors
from train.codec.files import open_tokenizer
from train.codec.prior import Prior
from train.config import Experiment
from train.config.command import OF_RUN, parse
from train.config.outputs import check_free
from train.errors import BadInput
from train.evaluation.evaluator import examples
from train.objectives.bundles import bundle_folder, examples_for
from train.progress import say
from vqdit.signal import to_signal
from vqdit.trained.codec import Codec

FLAGS = OF_RUN | {
    "fit": (bool, "count the codes of an experiment's training set"),
    "bundle": (str, "the tokenizer's folder; without it, the workdir's"),
    "force": (bool, "replace the counts that are there"),
}
# As what reads files lists them.
OF_FIT = {
    "workdir": (str, "of --fit: a run's folder, whose training set is counted"),
    "config": (str, "of --fit: the experiment, where no workdir says it"),
    "variant": (str, "of --fit: one of that file's VARIANTS"),
}


def fit_prior(codec: Codec, data, most: int | None = None) -> Prior:
    """Counts of a tokenizer's codes over the training part of an experiment's data.

    most: examples at most, evenly spaced.
    """
    contract = codec.contract
    chosen = examples_for(codec, data, train=True).spaced(most)
    parts = (
        np.asarray(codec.encode(to_signal(batch["x"])).codes)[batch["valid"]]
        for batch in examples(data, True, chosen, doing="counting codes")
    )
    return priors.count_codes(parts, contract.codes, contract.fingerprint)


def main(argv: Sequence[str]) -> None:
    """`train.compress --fit`: writes prior.npz into the bundle."""
    command = parse(argv, Experiment, FLAGS, inputs=True)
    if command.inputs:
        raise BadInput(f"--fit reads the training set; leave {command.inputs[0]} out")
    path = command.flags.get("bundle") or command.workdir
    if path is None:
        raise BadInput("write --workdir=DIR, or --bundle=DIR with --config=FILE")
    file = bundle_folder(path) / priors.FILE
    if file.exists() and not command.force:
        raise BadInput(
            f"{file} is there, and files coded under it could not be read under "
            f"another; write --force to replace it"
        )
    check_free(file.parent, [file.name])
    prior = fit_prior(open_tokenizer(path), command.experiment.one_data)
    priors.write_prior(file.parent, prior)
    places = "its own table at every place of the grid"
    for book, counts in enumerate(prior.counts):
        kind = places if len(counts) > 1 else "one table for all places"
        say(f"book {book}: {counts.sum():,} codes counted, {kind}")
    say(f"{file} is written; train.compress uses it from here on")
