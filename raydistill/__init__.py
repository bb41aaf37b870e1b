"""Distil a large model's answers into small CPU models."""

__version__ = "0.1.0"
