"""The networks whose features a tokenizer's reconstructions are compared in."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import safetensors
import safetensors.numpy

from train.config import Weights
from train.errors import BadInput
from vqdit.bundle import load
from vqdit.codec import Codec
from vqdit.tokenizer.perceptual import LPIPS, feature_distance, lpips_params

# (variables, x, x_hat) -> (b,)
Distance = Callable[[Any, jax.Array, jax.Array], jax.Array]

CONVERT = (
    "import lpips, safetensors.torch as s; s.save_file({k: v.clone() for k, v in "
    "lpips.LPIPS(net='vgg').state_dict().items()}, 'lpips_vgg.safetensors')"
)


def networks(weights: Weights) -> tuple[dict[str, Any], dict[str, Distance]]:
    """(variables, distances) by name, of the networks that are named; none is trained.

    Raises BadInput, in one line, for weights that are not there or of another network.
    """
    variables, distances = {}, {}
    if weights.lpips is not None:
        variables["lpips"] = {"params": _lpips(Path(weights.lpips))}
        distances["lpips"] = LPIPS().apply
    if weights.features is not None:
        codec = _codec(weights.features)
        # A collection without a part of the encoder has no state that it could need.
        variables["features"] = {
            name: part["encoder"]
            for name, part in jax.device_get(codec.variables).items()
            if "encoder" in part
        }
        distances["features"] = partial(feature_distance, codec.module.encoder)
    return variables, distances


def _lpips(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BadInput(
            f"losses.lpips={path} is no file; where PyTorch and the lpips package are "
            f'installed, make it by: python -c "{CONVERT}"'
        )
    try:
        return lpips_params(safetensors.numpy.load_file(path))
    except (ValueError, safetensors.SafetensorError, OSError) as error:
        raise BadInput(
            f'losses.lpips={path}: {error}; make it by: python -c "{CONVERT}"'
        ) from error


def _codec(path: str) -> Codec:
    try:
        codec = load(path)
    except (ValueError, OSError) as error:
        raise BadInput(f"losses.features={path}: {error}") from error
    if not isinstance(codec, Codec):
        raise BadInput(
            f"losses.features={path} is a generator; write the workdir of a tokenizer"
        )
    if codec.module.front is not None:
        raise BadInput(
            f"losses.features={path} has a front end, and what it compares is another "
            f"signal; write the workdir of a tokenizer without one"
        )
    return codec
