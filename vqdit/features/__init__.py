"""Networks that others are measured or aligned by: `features(x) -> (b, d)`."""

from vqdit.features.classifier import Classifier

__all__ = ["Classifier"]
