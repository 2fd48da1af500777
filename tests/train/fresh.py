"""Data opened anew, where a test has changed its files meanwhile; and in batches."""

from train.pipeline import endless, examples, once, statistics
from train.sources import folder, open_source


def forget():
    """What was opened and read before is opened and read again."""
    examples.open_examples.cache_clear()
    statistics.records_of.cache_clear()
    folder.folder_of.cache_clear()


def fresh(data, train: bool):
    forget()
    return examples.open_examples(data, train)


def fresh_source(data, train: bool):
    forget()
    return open_source(data, train)


def batches(data, train: bool, batch: int, seed: int, start: int = 0, rows=None):
    """Of training without end, or once through the held-out part."""
    opened = examples.open_examples(data, train)
    if not train:
        return once(opened.take, len(opened), batch, rows, data.threads)
    take = lambda indices, epochs: opened.augmented(indices, epochs, seed)
    return endless(take, len(opened), batch, seed, start, rows, data.threads)
