"""What an experiment's data is, whatever its kind of signal."""

from typing import Any, ClassVar, Protocol

import numpy as np

Batch = dict[str, np.ndarray]


class Signals:
    """Base of the frozen dataclasses that say which signals an experiment reads.

    kind:    "image", "audio", "video", "series", "volume" or "range"; also the name of
        the signal in a batch.
    rate:    samples or frames a second; 0 where it means nothing.
    threads: workers that read and decode; 0 reads in the caller's own thread.
    masked:  batches have a "mask" of what was observed (see Examples).
    """

    kind: ClassVar[str]
    masked: ClassVar[bool] = False
    rate: Any = 0.0
    threads: Any = 0

    @property
    def preparation(self) -> tuple[tuple[str, Any], ...]:
        """(name, value) of what changes a file's values before they are normalised.

        Goes into the tokenizer's bundle, and `train.compress` does the same to files.
        """
        return ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example as the tokenizer sees it, channels last."""
        raise NotImplementedError

    def open(self, train: bool) -> "Examples":
        """The training or the held-out part; never empty.

        Raises BadInput, in one line, for whatever cannot be read.
        """
        raise NotImplementedError


class Examples(Protocol):
    """One part of the data as arrays of one shape.

    A batch has the signal under its kind, uint8 pixels or float32 in about [-1, 1], as
    (b, *shape), and "label" int32 (b,), -1 where there is none. It may have "mask",
    shaped like the signal, 1 where the value was observed.

    classes:       number of classes, 0 where examples have no label.
    class_names:   one per class, or empty.
    offset, scale: per channel; signal = (raw - offset) / scale. () where signals are
        used as they are.
    """

    classes: int
    class_names: tuple[str, ...]
    offset: tuple[float, ...]
    scale: tuple[float, ...]

    def __len__(self) -> int: ...

    def take(self, indices: np.ndarray) -> Batch:
        """The examples as they are evaluated: always the same for an index."""
        ...

    def augmented(self, indices: np.ndarray, epochs: np.ndarray, seed: int) -> Batch:
        """The examples as they are trained on: a function of (seed, epoch, index)."""
        ...
