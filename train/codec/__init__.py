"""The .vqd file: codes of a signal, range coded."""
