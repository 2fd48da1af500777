"""The pipeline: records of a source, as batches of examples of a modality.

The only room that knows Grain.
"""

from train.pipeline.batching import endless, once, spaced
from train.pipeline.cache import CachedExamples, LatentCache
from train.pipeline.examples import Examples, open_examples, whole
from train.pipeline.statistics import keep_statistics, recall_statistics
from train.pipeline.streams import JointExamples, having

__all__ = [
    "Examples",
    "JointExamples",
    "open_examples",
    "whole",
    "having",
    "endless",
    "once",
    "spaced",
    "CachedExamples",
    "LatentCache",
    "keep_statistics",
    "recall_statistics",
]
