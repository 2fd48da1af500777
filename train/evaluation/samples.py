"""What a trained tokenizer and a trained generator are scored by."""

import dataclasses
from collections.abc import Iterable

import jax
import numpy as np

from train.errors import BadInput
from train.evaluation.baselines import patch_kmeans
from train.evaluation.drawing import draw_all
from train.evaluation.signals import rebuild
from vqdit.metrics import (
    frechet_distance,
    memorisation_ratio,
    perplexity,
    psnr,
    ssim,
    statistics,
    usage,
)
from vqdit.signal import to_uint8
from vqdit.trained.codec import Codec
from vqdit.trained.generator import Generator
from vqdit.trained.judge import Judge


def reconstruct(
    codec: Codec, image: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """uint8 pictures -> (uint8 reconstructions, codes or None), in chunks."""
    x, codes = rebuild(codec, image)
    return np.asarray(to_uint8(x)), codes


def score_tokenizer(
    codec: Codec,
    train: np.ndarray | None,
    heldout: np.ndarray,
    patch: int | None = None,
) -> tuple[dict, np.ndarray, np.ndarray | None]:
    """(figures, reconstructions, codes) on held-out uint8 pictures.

    PSNR and SSIM of the 8-bit pictures, usage and perplexity of the codes over all
    held-out codes, and beside them k-means on patches of `patch` pixels a side, by
    default as many as the tokenizer has tokens, with as many codes: equal bits. That
    baseline is left out without `train` pictures to fit it on, and for codes that do
    not tile the picture.
    """
    x, codes = reconstruct(codec, heldout)
    figures = {
        "examples": len(heldout),
        "psnr_db": psnr(x, heldout),
        "ssim": ssim(x, heldout),
    }
    contract = codec.contract
    if codes is not None:
        figures["tokens"] = int(np.prod(contract.code_grid))
        figures["bits_per_example"] = contract.bits
        for i, k in enumerate(contract.codes):
            figures[f"usage_{i}"] = usage(codes[..., i], k)
            figures[f"perplexity_{i}"] = perplexity(codes[..., i], k)
        for name in ("usage", "perplexity"):
            books = [figures[f"{name}_{i}"] for i in range(len(contract.codes))]
            figures[name] = float(np.mean(books))
        sides, grid = contract.shape[:-1], contract.code_grid
        patch = patch or sides[0] // grid[0]
        fits = patch and tuple(patch * cell for cell in grid) == sides
        if train is not None and len(contract.codes) == 1 and fits:
            try:
                baseline = patch_kmeans(train, heldout, patch, contract.codes[0])
            except BadInput as error:  # too few pictures for as many codes
                figures["kmeans"] = f"none: {error}"
                return figures, x, codes
            figures["kmeans_psnr_db"] = psnr(baseline, heldout)
            figures["kmeans_ssim"] = ssim(baseline, heldout)
    return figures, x, codes


@dataclasses.dataclass(frozen=True)
class Reference:
    """What samples are compared with: a judge, and the real pictures.

    Pictures are uint8 (n, h, w, c), labels (n,) ints.
    """

    judge: Judge
    train: np.ndarray
    train_labels: np.ndarray
    heldout: np.ndarray
    heldout_labels: np.ndarray

    def figures(self, count: int) -> dict:
        """The judge's own accuracy, and the distances of real pictures.

        train_distance: of the whole training set to the held-out one. floor_distance:
        of `count` training pictures, as many of each class as the samples have: what
        perfect samples of that number and balance would have.
        """
        rows = balanced_rows(self.train_labels, count)
        held = self._statistics(self.heldout)
        return {
            "judge_accuracy": self.judge.accuracy(self.heldout, self.heldout_labels),
            "judge": self.judge.protocol,
            "train_distance": frechet_distance(self._statistics(self.train), held),
            "floor_distance": frechet_distance(
                self._statistics(self.train[rows]), held
            ),
            "floor_count": len(rows),
            "heldout_count": len(self.heldout),
        }

    def distance(self, image: np.ndarray) -> float:
        """Fréchet distance of pictures to the held-out ones, in judge's features."""
        return frechet_distance(self._statistics(image), self._statistics(self.heldout))

    def score(self, image: np.ndarray, label: np.ndarray) -> dict:
        """Accuracy, Fréchet distance and memorisation ratio of samples."""
        return {
            "accuracy": self.judge.accuracy(image, label),
            "distance": self.distance(image),
            "memorisation": memorisation_ratio(image, self.heldout, self.train),
        }

    def _statistics(self, image):
        return statistics(self.judge.features(image))


def balanced_rows(labels: np.ndarray, count: int) -> np.ndarray:
    """Rows of `count` examples spread evenly over the classes; all, if there are fewer.

    The balance of labels moves a Fréchet distance as much as picture quality does.
    """
    order = np.random.default_rng(0).permutation(len(labels))
    # The place of each example within its class, in shuffled order.
    place = np.empty(len(labels), np.int64)
    for y in np.unique(labels):
        mine = order[labels[order] == y]
        place[mine] = np.arange(len(mine))
    return np.lexsort((labels, place))[:count]


def balanced_labels(classes: int, count: int) -> np.ndarray:
    """(count,) labels, every class as often as any other, give or take one."""
    return np.arange(count) % classes


def curve(
    generator: Generator,
    reference: Reference,
    scales: Iterable[float],
    count: int,
    seed: int = 0,
    stream: str = "image",
    **sampler,
) -> tuple[list[dict], dict[float, np.ndarray]]:
    """Scores at every guidance scale: (rows, scale -> samples).

    Accuracy alone can be bought with guidance and distance without it: both are given,
    for the same samples, with class-balanced labels. One compilation for all scales.
    """
    draw = generator.sampler(guidance=1.0, **sampler)
    label = balanced_labels(generator.module.classes, count)
    rows, samples = [], {}
    for scale in scales:
        x = draw_all(
            generator,
            draw,
            jax.random.key(seed),
            np.arange(count),
            label,
            guidance=scale,
        )[stream]
        samples[scale] = x
        rows.append({"guidance": scale, **reference.score(x, label)})
    return rows, samples
