"""What a tokenizer minimises: reconstruction, spectra, perception, adversaries."""

from vqdit.losses.discriminators import (
    Discriminators,
    MultiPeriodDiscriminator,
    MultiResolutionDiscriminator,
    PatchDiscriminator,
    PeriodDiscriminator,
    ResolutionDiscriminator,
    Verdict,
)
from vqdit.losses.perceptual import LPIPS, feature_distance, lpips_params
from vqdit.losses.reconstruction import PIXEL, Pixel, masked_mean, observed
from vqdit.losses.spectral import mel_bands, mel_loss, stft_loss

__all__ = [
    "Pixel",
    "PIXEL",
    "masked_mean",
    "observed",
    "stft_loss",
    "mel_loss",
    "mel_bands",
    "LPIPS",
    "lpips_params",
    "feature_distance",
    "PatchDiscriminator",
    "MultiPeriodDiscriminator",
    "PeriodDiscriminator",
    "MultiResolutionDiscriminator",
    "ResolutionDiscriminator",
    "Discriminators",
    "Verdict",
]
