"""Pictures moved within their borders, and their boxes with them."""

import numpy as np

from vqdit.shapes import Float, Num

SLIVER = 1e-4  # of a side, below which nothing is left of a box


def warp(
    x: Num[np.ndarray, "b *frames h w c"], matrix: Float[np.ndarray, "b 2 3"]
) -> Num[np.ndarray, "b *frames h w c"]:
    """Bilinear: output (y, x), about the centre, is read at matrix @ (y, x, 1).

    One matrix an example, for all its frames. Edges are held beyond the border; uint8
    is rounded, and whole steps and quarter turns are exact.
    """
    height, width, channels = x.shape[-3:]
    y, z = np.meshgrid(
        np.arange(height) - (height - 1) / 2,
        np.arange(width) - (width - 1) / 2,
        indexing="ij",
    )
    place = np.stack([y.ravel(), z.ravel(), np.ones(y.size)])
    frames = x.reshape(len(x), -1, height * width, channels)
    out = np.empty(frames.shape, x.dtype)
    for each, into, m in zip(frames, out, matrix, strict=True):
        rows, columns = m @ place
        # Rounding noise about a whole pixel would otherwise cost an exact copy.
        rows = np.clip(np.round(rows + (height - 1) / 2, 6), 0, height - 1)
        columns = np.clip(np.round(columns + (width - 1) / 2, 6), 0, width - 1)
        top, left = rows.astype(np.intp), columns.astype(np.intp)
        low, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
        v = (rows - top).astype(np.float32)[:, None]
        u = (columns - left).astype(np.float32)[:, None]
        total = each[:, top * width + left] * ((1 - v) * (1 - u))
        total += each[:, top * width + right] * ((1 - v) * u)
        total += each[:, low * width + left] * (v * (1 - u))
        total += each[:, low * width + right] * (v * u)
        into[:] = np.rint(total) if x.dtype == np.uint8 else total
    return out.reshape(x.shape)


def move_boxes(
    boxes: Float[np.ndarray, "b *k 4"],
    matrix: Float[np.ndarray, "b 2 3"],
    height: int,
    width: int,
) -> Float[np.ndarray, "b *k 4"]:
    """Boxes where `warp` by the same matrices puts what they hold."""
    whole = np.concatenate(
        [matrix, np.broadcast_to([[[0.0, 0.0, 1.0]]], (len(matrix), 1, 3))], 1
    )
    back = np.linalg.inv(whole)[:, :2]  # the matrix says where to read, not to write
    flat = boxes.reshape(len(boxes), -1, 4)
    x = (flat[..., [0, 2, 0, 2]] - 0.5) * width
    y = (flat[..., [1, 1, 3, 3]] - 0.5) * height
    corners = np.stack([y, x, np.ones_like(x)], -1)
    moved = corners @ back.swapaxes(1, 2)[:, None]
    y, x = moved[..., 0] / height + 0.5, moved[..., 1] / width + 0.5
    hull = np.stack([x.min(-1), y.min(-1), x.max(-1), y.max(-1)], -1)
    return np.clip(hull, 0, 1).astype(boxes.dtype).reshape(boxes.shape)


def without_slivers(boxes: Float[np.ndarray, "*k 5"]) -> Float[np.ndarray, "*k 5"]:
    """The boxes; one that was moved or cut out of the picture is absent."""
    gone = (boxes[..., 2:4] - boxes[..., :2] < SLIVER).any(-1) & (boxes[..., 4] >= 0)
    return np.where(gone[..., None], [0, 0, 0, 0, -1], boxes).astype(boxes.dtype)
