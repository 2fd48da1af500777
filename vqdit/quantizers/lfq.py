"""Lookup-free quantization (MAGVIT-v2, arXiv:2310.05737, section 3.1)."""

from vqdit.quantizers.bits import Bits


class LFQ(Bits):
    """Every channel's sign is a bit (eq. 3 and 4); 0 counts as positive.

    entropy:     the loss "entropy" of eq. 5: the mean of the entropies minus the
        entropy of the mean, of p(code | z) = softmax(-|z - q|^2 / temperature).
    temperature: 1 gives every z of a code's size a gradient; the 0.01 of several
        implementations is felt only within about 0.01 of a change of sign.
    group:       beyond this many bits the second entropy is a sum over groups of
        bits (BSQ, eq. 12), an upper bound.
    """

    @property
    def size(self) -> float:
        return 1.0
