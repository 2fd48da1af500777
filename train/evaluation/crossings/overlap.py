"""How far boxes that are drawn overlap with the true ones, and with each other."""

import numpy as np
from scipy.optimize import linear_sum_assignment

from vqdit.shapes import Bool, Float, Int


def paired(
    drawn: Float[np.ndarray, "k 5"], true: Float[np.ndarray, "k 5"]
) -> tuple[Float[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """(overlap, class) of the true boxes: each with one of the drawn of its class, so
    that the sum is greatest; 0 of those that none is left for."""
    true, drawn = (x[x[:, 4] >= 0] for x in (true, drawn))
    both = overlap(true[:, None, :4], drawn[None, :, :4])
    both = np.where(true[:, None, 4] == drawn[None, :, 4], both, 0.0)
    best, (i, j) = np.zeros(len(true)), linear_sum_assignment(-both)
    best[i] = both[i, j]
    return best, true[:, 4].astype(int)


def overlap(
    a: Float[np.ndarray, "*b 4"], b: Float[np.ndarray, "*b 4"]
) -> Float[np.ndarray, "*b"]:
    """Intersection over union of boxes x0, y0, x1, y1; 0 of empty ones."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    sides = lambda box: np.maximum(box[..., 2:] - box[..., :2], 0)
    ends = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    both = np.maximum(ends, 0).prod(-1)
    union = sides(a).prod(-1) + sides(b).prod(-1) - both
    return both / np.maximum(union, 1e-12)


def central(
    boxes: Float[np.ndarray, "draws *frames k 5"], there: Bool[np.ndarray, "draws"]
) -> Float[np.ndarray, "*frames k 5"]:
    """Of each frame the boxes of the draw that all of them overlap most with."""
    frames = boxes[there].reshape(there.sum(), -1, *boxes.shape[-2:]).swapaxes(0, 1)
    found = []
    for draws in frames:
        # Of two draws 0 where they are the same, and -1 for each box that one lacks.
        both = [[2 * paired(b, a)[0].sum() for b in draws] for a in draws]
        count = (draws[..., 4] >= 0).sum(1)
        worth = np.array(both) - count - count[:, None]
        found.append(draws[worth.sum(1).argmax()])
    return np.stack(found).reshape(boxes.shape[1:])
