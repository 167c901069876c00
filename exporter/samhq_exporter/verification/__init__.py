"""Parity as a gate: a written bundle against the PyTorch model it was made from, and a picture for people.

In: a bundle folder and the model. Out: a `ParityReport`, or ParityError. Imports model, passes, scenes and the runtime.
"""
