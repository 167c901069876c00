"""Training the HQ part of a frozen SAM: batches, prompts, losses, and steps that can be stopped and taken up again.

In: a checkpoint, images and masks. Out: the same model with other HQ parameters. Imports model, weights and the
runtime; needs the extra `train`. `config` alone is free of torch, for the command line.
"""
