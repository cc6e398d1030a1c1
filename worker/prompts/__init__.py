"""Prompt versions: their texts, the experiment that shares sessions among them, and the figures that compare them."""
