"""Weights files, folders and names -> a strictly loaded model.

In: a path, a release's name, or a model in memory. Out: a `Checkpoint`, or CheckpointError. Imports model and steps.
"""
