"""What a network over streams is trained to do, one file a method."""

from vqdit.diffusion.objectives.denoising import Denoising, first_loss, known_mean

__all__ = ["Denoising", "first_loss", "known_mean"]
