"""Scores of trained models, and what they are compared with."""
