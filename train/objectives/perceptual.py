"""The networks whose features a tokenizer's reconstructions are compared in.

LPIPS, a tokenizer trained here (train.stage_one), a classifier (train.classifier).
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax

from train.config import Weights
from train.config.options.paths import spell
from train.errors import BadInput
from train.modalities.files.stored import from_home
from train.objectives.bundles import open_bundle
from train.runtime import hosts
from vqdit.losses.perceptual import LPIPS, feature_distance, lpips_params
from vqdit.trained.codec import Codec
from vqdit.trained.judge import Judge, mel_pictures

# (variables, x, x_hat) -> (b,)
Distance = Callable[[Any, jax.Array, jax.Array], jax.Array]

CONVERT = (
    "import lpips, safetensors.torch as s; s.save_file({k: v.clone() for k, v in "
    "lpips.LPIPS(net='vgg').state_dict().items()}, 'lpips_vgg.safetensors')"
)


def networks(
    weights: Weights, front: nn.Module | None = None
) -> tuple[dict[str, Any], dict[str, Distance]]:
    """(variables, distances) by name, of the networks that are named; none is trained.

    front: of the model, whose features are what is compared.
    Raises BadInput, in one line, for weights that are not there or of another network.
    A distance raises ValueError for signals that its network does not take.
    """
    variables: dict[str, Any] = {}
    distances: dict[str, Distance] = {}
    if weights.lpips is not None:
        variables["lpips"] = {"params": _lpips(from_home(weights.lpips))}
        apply: Any = LPIPS().apply  # which may return more where it is asked for
        distances["lpips"] = apply
    if weights.features is not None:
        at = f"losses.features={weights.features}"
        network: Any = open_bundle(weights.features, (Codec, Judge), at)
        if isinstance(network, Judge):
            variables["features"] = {"params": hosts.gather(network.params)}
            distances["features"] = partial(_judged, _sight(network, front, at))
        elif network.module.front is not None:
            raise BadInput(
                f"{at} has a front end, and what it compares is another signal; write "
                f"the workdir of a tokenizer without one"
            )
        else:
            # A collection without a part of the encoder has no state it could need.
            variables["features"] = {
                name: part["encoder"]
                for name, part in hosts.gather(network.variables).items()
                if "encoder" in part
            }
            distances["features"] = partial(_encoded, network)
    return variables, distances


def _sight(judge: Judge, front: nn.Module | None, at: str) -> Judge:
    """The judge, without its front end where that is the model's own."""
    if front is None:
        return judge
    if judge.front != front:
        other = f", or with model.front={spell(judge.front)}" if judge.front else ""
        raise BadInput(
            f"{at} and the model have different front ends; write a model without "
            f"one{other}"
        )
    return dataclasses.replace(judge, front=None)


def _judged(judge: Judge, variables, x, y) -> jax.Array:
    """The distance in a classifier's layers up to its features; of a video's frames
    the mean."""
    count = len(x)
    if judge.front is not None and x.ndim == 3:
        x, y = mel_pictures(judge.front, x), mel_pictures(judge.front, y)
    if x.ndim < 4 or x.shape[-3:] != judge.shape:
        raise ValueError(
            f"the classifier sees pictures {judge.shape}, here they are {x.shape[1:]}; "
            f"write one that was trained on signals of this shape"
        )
    x, y = (each.reshape(-1, *judge.shape) for each in (x, y))
    found = feature_distance(judge.network, variables, x, y, without=("logits",))
    return found.reshape(count, -1).mean(-1)


def _encoded(codec: Codec, variables, x, y) -> jax.Array:
    """The distance in the layers of a tokenizer's encoder."""
    shape = codec.contract.shape
    if x.ndim != 1 + len(shape) or x.shape[-1] != shape[-1]:
        raise ValueError(
            f"the tokenizer takes signals {shape}, here they are {x.shape[1:]}; write "
            f"one of as many axes and channels"
        )
    return feature_distance(codec.module.encoder, variables, x, y)


def _lpips(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BadInput(
            f"losses.lpips={path} is no file; where PyTorch and the lpips package are "
            f'installed, make it by: python -c "{CONVERT}"'
        )
    import safetensors.numpy  # of use only here

    try:
        return lpips_params(safetensors.numpy.load_file(path))
    except (ValueError, safetensors.SafetensorError, OSError) as error:
        raise BadInput(
            f'losses.lpips={path}: {error}; make it by: python -c "{CONVERT}"'
        ) from error
