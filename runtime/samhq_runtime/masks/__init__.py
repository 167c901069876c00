"""Masks: which to compute, upscaled to the image, boxed, run-length encoded, drawn.

In: low-resolution logits, or masks. Out: numpy arrays and text. Imports the contract, errors and frames.
"""
