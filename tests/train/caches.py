"""Latent caches of a few records."""

from train.pipeline.cache import new_cache, seal_cache, write_part


def write_cache(folder, records, contract, count, versions=1):
    """In one part, as one process of train.encode writes it."""
    with new_cache(folder) as unfinished:
        part = write_part(unfinished, records)
        seal_cache(unfinished, [part], contract, count, versions)
