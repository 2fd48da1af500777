"""Mathematics of signals: pixels, short-time spectra, grids."""

from vqdit.signal.grids import divide, divide_frames, divide_samples, fold, unfold
from vqdit.signal.pixels import to_signal, to_uint8
from vqdit.signal.spectra import hann, istft, magnitude, mel_filterbank, stft

__all__ = [
    "to_signal",
    "to_uint8",
    "stft",
    "istft",
    "hann",
    "magnitude",
    "mel_filterbank",
    "fold",
    "unfold",
    "divide",
    "divide_frames",
    "divide_samples",
]
