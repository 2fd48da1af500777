"""The weights of a tokenizer's losses."""

import dataclasses

from vqdit import losses
from vqdit.fields import Count, NonNegative


@dataclasses.dataclass(frozen=True)
class Ramp:
    """A weight that moves linearly from `start` to `end` in the first `steps` steps."""

    start: NonNegative
    end: NonNegative
    steps: Count


# Weights of a quantizer's losses as they are where an experiment says nothing.
USUAL = {
    "commit": 0.25,
    "codebook": 1.0,
    "kl": 1e-6,
    "entropy": 0.1,
    "orthogonal": 10.0,
}


@dataclasses.dataclass(frozen=True)
class Weights:
    """The tokenizer's loss: which reconstruction error, and the weight of each term.

    A term that is not there costs nothing: waveforms alone have spectra, and a
    perceptual loss is there when its network is named.

    pixel:      error of a value: "l1", "l2", and the like.
    reconstruction: weight of that error's mean.
    stft, mel:  multi-resolution STFT and multi-scale mel losses, at `windows` samples.
    windows:    of `stft` and `mel`, samples of each resolution, multiples of 8.
    lpips:      safetensors file with the weights of LPIPS over VGG-16.
    features:   workdir or bundle of a tokenizer whose encoder's layers are compared, or
        folder of a classifier (train.classifier), whose layers up to its features are.
    perceptual: weight of each of these two.
    quantizer:  weight of each loss that the quantizer returns, by its name, a number or
        a Ramp: {"entropy": Ramp(0.1, 0.0, 1000)}. One that is not written is that of
        `USUAL`, or else 1. The names of `USUAL` may be of no loss, so that a variant
        can exchange the quantizer; any other has to be of one.
    quantizer.commit: of the pull of latents to their codewords.
    quantizer.codebook: of the pull of codewords to their latents.
    quantizer.kl: of the sum over an example's latents, beside a mean error: a published
        weight beside a summed one, such as 1e-6, is that over an example's values here.
        Of a GumbelQuantizer it is a mean over vectors, of which 1e-6 is next to
        nothing; VQGAN has 5e-4 there.
    quantizer.entropy: of the loss by which all codes are used.
    quantizer.orthogonal: of the loss that keeps codewords at right angles.
    """

    pixel: losses.Pixel = "l2"
    reconstruction: NonNegative = 1.0
    stft: NonNegative = 0.0
    mel: NonNegative = 0.0
    windows: tuple[int, ...] = (64, 256, 1024)
    lpips: str | None = None
    features: str | None = None
    perceptual: NonNegative = 1.0
    quantizer: dict[str, NonNegative | Ramp] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "quantizer", USUAL | dict(self.quantizer))

    @staticmethod
    def upgraded(fields: dict) -> dict:
        """Fields as a file has them; in 0.1.0 each of `USUAL` was one."""
        if "quantizer" in fields:
            return fields
        fields = dict(fields)
        end, steps = fields.pop("entropy_end", 0.0), fields.pop("entropy_steps", 0)
        own = {name: fields.pop(name) for name in USUAL if name in fields}
        if steps:
            ramp = {"start": own["entropy"], "end": end, "steps": steps}
            own["entropy"] = {"class": "train.Ramp", "fields": ramp}
        return fields | {"quantizer": {"dict": own}}
