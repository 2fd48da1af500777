"""The judge: a trained classifier in use. It names classes and gives features."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.features.classifier import Classifier
from vqdit.platform import in_32_bits
from vqdit.shapes import AnyArray, Array, Float, Shaped
from vqdit.signal import to_signal, to_uint8
from vqdit.signal.rows import by_chunks
from vqdit.tokenizer import LogMel
from vqdit.trained import inputs
from vqdit.trained.extractor import JudgeExtractor

# Pictures judged at once, and clips made pictures at once. Fixed, so that there is one
# shape to compile.
SCORED, HEARD = 500, 100
# Magnitude of floats that no longer are in about [-1, 1].
BEYOND = 128.0


@dataclasses.dataclass(frozen=True)
class Judge:
    """A trained classifier of images uint8 (n, h, w, c), or of other signals as
    `as_pictures` makes them such.

    uint8 only: samples are scored as the pictures that a reader would see, by the one
    rounding rule of `vqdit.signal.to_uint8`.

    shape:    of a picture, as the network sees it.
    protocol: what its figures depend on, for a report; `fingerprint` is of its weights.
    front:    what makes a recording a picture; None for all else.
    held_out: what tells the signals that were kept from it from others, as who trained
              it has found; None of one that does not say.
    seconds:  that its training took, of one that was trained just now; not kept.
    """

    network: Classifier
    params: Any
    shape: tuple[int, int, int]
    protocol: dict[str, Any]
    front: LogMel | None = None
    held_out: dict[str, Any] | None = None
    seconds: float | None = dataclasses.field(default=None, compare=False)

    def accuracy(self, x: np.ndarray, labels: np.ndarray) -> float:
        """Share of signals whose likeliest class is their label, in [0, 1]. Raises
        ValueError unless there is one label for each."""
        labels = np.asarray(labels)
        if labels.shape != (len(x),) or not len(x):
            raise ValueError(
                f"{len(x)} images and labels {list(labels.shape)}: accuracy needs "
                f"one label for every image"
            )
        return float((self.predict(x) == labels).mean())

    def predict(self, x: np.ndarray) -> np.ndarray:
        """The likeliest class of every signal, int32 (n,)."""
        return self.logits(x).argmax(-1).astype(np.int32)

    def logits(self, x: np.ndarray) -> np.ndarray:
        """float32 (n, classes), of every signal."""
        return self._outputs(x)[1]

    @property
    def dim(self) -> int:
        return self.network.dim

    def features(self, x: np.ndarray) -> np.ndarray:
        """float32 (n, dim), for `vqdit.metrics.frechet`."""
        return self._outputs(x)[0]

    @property
    def variables(self) -> dict[str, Any]:
        return {"params": self.params}

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of what `extractor` gives, in their order."""
        return JudgeExtractor(self, ()).outer

    def extractor(
        self, layers: str | Sequence[str] = "features", pool: str = "mean"
    ) -> JudgeExtractor:
        """Features of signals, jitted; raises ValueError for a layer that is none."""
        return JudgeExtractor(self, inputs.names("layers", layers), pool)

    @in_32_bits
    def signal(self, x: Array) -> Array:
        """Signals as the network sees them; for use inside a jit."""
        return to_signal(_pictured(self.front, x))

    def check_signals(self, x: Any) -> None:
        """Raises ValueError for what is no signal, of other than pictures."""
        check_signals(self.front, x)

    def check(self, pictures: Any) -> None:
        """Raises ValueError for pictures of another shape or type."""
        if pictures.dtype != np.uint8 or pictures.shape[1:] != self.shape:
            raise ValueError(
                f"the classifier scores uint8 images [n, *{list(self.shape)}], not "
                f"{pictures.dtype}{list(pictures.shape)}"
            )

    @in_32_bits
    def _outputs(self, x) -> tuple[np.ndarray, np.ndarray]:
        images = as_pictures(self.front, np.asarray(x))
        self.check(images)
        run = functools.partial(_apply, self.network, self.params)
        return by_chunks(run, images, SCORED)


def check_signals(front: LogMel | None, x: Any) -> None:
    """Raises ValueError for signals that are none. Of 8 bits, which all are judged as,
    NaN would be any, and whatever is not in [-1, 1] an end; what reaches a little
    beyond is taken for that, and of series, whose spikes do, all of it."""
    shape, floats = tuple(x.shape), jnp.issubdtype(x.dtype, jnp.floating)
    if front is not None and (len(shape) != 3 or shape[-1] != 1 or not floats):
        raise ValueError(
            f"the classifier takes clips (n, l, 1) of floats in [-1, 1]; got {x.dtype} "
            f"{shape}"
        )
    if not 3 <= len(shape) <= 5:
        raise ValueError(
            f"the classifier takes series (n, l, c), images (n, h, w, c), clips or "
            f"volumes (n, d, h, w, c); got {shape}"
        )
    if front is None and (x.dtype == np.uint8 or len(shape) == 4):
        return  # the shape and type of a picture are checked as such
    if not floats:
        raise ValueError(
            f"the classifier takes uint8 or floats in [-1, 1]; got {x.dtype}"
        )
    if not x.size:
        return
    ends = inputs.extremes(x)
    low, high = ends.min(), ends.max()
    wide = max(-low, high) > BEYOND or len(shape) == 5 and low >= 0 and high > 2
    if wide and (front is not None or len(shape) == 5):
        raise ValueError(
            f"the classifier takes floats in [-1, 1]; got {low:g} to {high:g}: for 0 "
            f"to 255 write x / 127.5 - 1"
        )


def as_pictures(front: LogMel | None, x: np.ndarray) -> np.ndarray:
    """What is judged, uint8 (n, h, w, c): images themselves, of recordings their
    log-mel; of clips and volumes all frames or slices as channels of one picture, and
    series as pictures one wide. Raises ValueError for what is no signal."""
    check_signals(front, x)
    if front is not None:
        return by_chunks(functools.partial(_picture, front), x, HEARD)
    return np.asarray(_pictured(front, x))


def _pictured(front, x):
    """The same, within a jit, too."""
    if front is not None:
        return to_uint8(mel_pictures(front, x))
    if x.ndim == 4:
        return x
    return one_picture(x if x.dtype == np.uint8 else to_uint8(x))


_picture = jax.jit(_pictured, static_argnums=0)


def one_picture(x: Shaped[AnyArray, "n *grid c"]) -> Any:
    """Signals as pictures of `picture_shape`, values as they are."""
    shape = (len(x), *picture_shape(x.shape[1:]))
    return (x.transpose(0, 2, 3, 1, 4) if x.ndim == 5 else x).reshape(shape)


def picture_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Of a signal (*grid, c) without a front end, as `as_pictures` makes it one."""
    if len(shape) == 2:
        return (shape[0], 1, shape[1])
    if len(shape) == 3:
        return (shape[0], shape[1], shape[2])
    return (shape[1], shape[2], shape[0] * shape[3])


def mel_pictures(
    front: LogMel, x: Float[Array, "n l 1"]
) -> Float[Array, "n frames bands 1"]:
    """Log-mel pictures in [-1, 1]; a last part of a hop is filled with silence."""
    x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % front.hop), (0, 0)))
    return jnp.asarray(front.apply({}, x))


@functools.partial(jax.jit, static_argnums=0)
def _apply(network, params, x):
    return network.apply({"params": params}, to_signal(x))
