"""Drawn scenes with exact masks, and prompts for any image: what calibration, parity and training run on.

In: seeds and sizes. Out: numpy images, masks, boxes, decoder feeds. Imports the runtime alone; no torch.
"""
