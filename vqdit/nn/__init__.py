"""Layers of the transformer: attention, blocks, embeddings, positions, patches."""

from vqdit.nn.attention import Attention, attend
from vqdit.nn.block import Block
from vqdit.nn.embedding import LabelEmbedding, TimeEmbedding, sincos_positions
from vqdit.nn.patching import patchify, unpatchify
from vqdit.nn.rotary import rotary_table, rotate
from vqdit.nn.streams import Continuous, Discrete

__all__ = [
    "Block",
    "Attention",
    "attend",
    "TimeEmbedding",
    "LabelEmbedding",
    "sincos_positions",
    "rotary_table",
    "rotate",
    "patchify",
    "unpatchify",
    "Continuous",
    "Discrete",
]
