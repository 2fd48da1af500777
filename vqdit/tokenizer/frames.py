"""A video as pictures: what a video tokenizer has to be better than."""

import flax.linen as nn

from vqdit.shapes import Array, Float


class PerFrame(nn.Module):
    """An encoder or decoder of pictures on every frame alone.

    (b, f, h, w, c) -> (b, f, h / s, w / s, out), or back.
    """

    image: nn.Module

    @property
    def out(self) -> int:
        return self.image.out

    @property
    def dtype(self) -> str:
        return self.image.dtype

    @property
    def factor(self) -> tuple[int, int, int]:
        """How the grid changes in time, not at all, height and width."""
        return (1, *self.image.factor)

    @property
    def causal(self) -> bool:
        """Whether frames are ordered: they do not see each other."""
        return False

    @property
    def context(self) -> tuple[int, int]:
        """Frames that a frame sees before and after: none."""
        return 0, 0

    def grid(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Latent grid of (frames, height, width); raises ValueError as a picture's."""
        if len(shape) != 3:
            raise ValueError(f"a video has (frames, height, width), not {shape}")
        grid = self.image.grid(shape[1:])
        if len(grid) != 2:
            raise ValueError(
                f"{type(self.image).__name__} has a grid of {len(grid)} axes, and a "
                f"frame's is (height, width)"
            )
        return (shape[0], *grid)

    def __call__(self, x: Float[Array, "b f *grid c"]) -> Float[Array, "b f *grid2 d"]:
        y = self.image(x.reshape(-1, *x.shape[2:]))
        return y.reshape(*x.shape[:2], *y.shape[1:])
