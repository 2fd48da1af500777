"""Sources: random access to stored records, each part of a data set by index."""

from train.sources.open import open_source
from train.sources.source import Source

__all__ = ["Source", "open_source"]
