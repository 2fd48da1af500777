"""What a network over streams is trained to do, one file a method."""

from vqdit.diffusion.objectives.denoising import Denoising, known_mean

__all__ = ["Denoising", "known_mean"]
