"""Tokenizers: raw signal to latents and codes, and back."""

from vqdit.tokenizer.bins import Boxes, Labels
from vqdit.tokenizer.chunks import decode_chunks, encode_chunks
from vqdit.tokenizer.columns import Category, Number
from vqdit.tokenizer.conv import CausalDecoder, CausalEncoder, ConvDecoder, ConvEncoder
from vqdit.tokenizer.frames import PerFrame
from vqdit.tokenizer.mel import LogMel
from vqdit.tokenizer.table import Table
from vqdit.tokenizer.text import BPE, Bytes
from vqdit.tokenizer.titok import TiTokDecoder, TiTokEncoder
from vqdit.tokenizer.tokenizer import Tokenizer
from vqdit.tokenizer.value import Value
from vqdit.tokenizer.vit import ViTDecoder, ViTEncoder
from vqdit.tokenizer.vocos import VocosDecoder, VocosEncoder
from vqdit.tokenizer.wave import WaveDecoder, WaveEncoder

__all__ = [
    "Tokenizer",
    "ConvEncoder",
    "ConvDecoder",
    "CausalEncoder",
    "CausalDecoder",
    "ViTEncoder",
    "ViTDecoder",
    "TiTokEncoder",
    "TiTokDecoder",
    "PerFrame",
    "WaveEncoder",
    "WaveDecoder",
    "VocosEncoder",
    "VocosDecoder",
    "LogMel",
    "encode_chunks",
    "decode_chunks",
    "Bytes",
    "BPE",
    "Labels",
    "Boxes",
    "Table",
    "Number",
    "Category",
    "Value",
]
