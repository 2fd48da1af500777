"""Checkpoints: their folder, and the manifest by which one is known to be whole."""

from train.runtime.checkpoint.checkpoints import Checkpoints, NonFinite, SaveFailed

__all__ = ["Checkpoints", "NonFinite", "SaveFailed"]
