"""Data opened anew, where a test has changed its files meanwhile."""

from train.pipeline import examples, statistics
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
