"""Pictures of a source at one size, as stacked arrays, augmented for training."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Int

from train.data.augment import Draws
from train.data.images import Images, fit
from train.data.signals import Batch
from train.data.sources import MIRROR, PLACE, Source, chance

# Fitted pictures of a set stay in memory up to this many bytes: MNIST is 47 MB.
KEPT_BYTES = 2**30
# Pictures read at once, light ones and others; bounds how many lie in memory unfitted.
LIGHT_CHUNK, CHUNK = 4096, 256


class Fitted:
    """Pictures of a Source at one size, stacked; kept once decoded where they fit."""

    offset: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    def __init__(self, images: Images, source: Source):
        self.classes, self.class_names = source.classes, source.class_names
        self.images, self.source = images, source
        shape = (len(source), images.size, images.size, images.channels)
        self._kept = None
        if np.prod(shape, dtype=np.int64) <= KEPT_BYTES:
            # Untouched pages of an empty array cost no memory.
            self._kept = np.empty(shape, np.uint8)
            self._label = np.empty(len(source), np.int32)
            self._have = np.zeros(len(source), bool)

    def __len__(self) -> int:
        return len(self.source)

    def take(
        self, indices: Int[np.ndarray, "b"], place: np.ndarray | None = None
    ) -> Batch:
        """Stacked examples. `place` (b,) in [0, 1) slides each crop along the longer
        side; None is the centre."""
        if place is not None and not self.source.square:
            return self._read(indices, place)
        if self._kept is None:
            return self._read(indices, None)
        missing = np.unique(indices[~self._have[indices]])
        if missing.size:
            # Two threads may both decode an example; they write the same bytes.
            read = self._read(missing, None)
            self._kept[missing], self._label[missing] = read["image"], read["label"]
            self._have[missing] = True
        return {"image": self._kept[indices], "label": self._label[indices]}

    def augmented(
        self, indices: Int[np.ndarray, "b"], epochs: Int[np.ndarray, "b"], seed: int
    ) -> Batch:
        """Randomly placed and mirrored, as the Images say."""
        place = None
        if self.images.crop == "random":
            place = chance(PLACE, seed, epochs, indices)
        stacked = self.take(indices, place)
        if self.images.flip:
            mirror = chance(MIRROR, seed, epochs, indices) < 0.5
            image = stacked["image"]
            image = np.where(mirror[:, None, None, None], image[:, :, ::-1], image)
            stacked["image"] = image
        if self.images.augment is not None:
            draws = Draws(seed, epochs, indices)
            stacked = self.images.augment(stacked, "image", draws)
        return stacked

    def _read(self, indices: np.ndarray, place: np.ndarray | None) -> Batch:
        size, channels = self.images.size, self.images.channels
        image = np.empty((len(indices), size, size, channels), np.uint8)
        label = np.empty(len(indices), np.int32)

        def fill(low: int) -> None:
            examples = self.source.take(indices[low : low + chunk])
            for row, example in enumerate(examples, low):
                at = 0.5 if place is None else float(place[row])
                image[row] = fit(example["image"], size, channels, at)
                label[row] = example["label"]

        chunk = LIGHT_CHUNK if self.source.light else CHUNK
        starts = range(0, len(indices), chunk)
        # A batch of training is one chunk, read on one of Grain's threads.
        if len(starts) == 1 or self.source.light or not self.images.threads:
            for low in starts:
                fill(low)
        else:
            with ThreadPoolExecutor(self.images.threads) as pool:
                list(pool.map(fill, starts))
        return {"image": image, "label": label}
