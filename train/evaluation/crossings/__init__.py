"""Crossings: what is drawn of streams, or how likely they are, given others."""
