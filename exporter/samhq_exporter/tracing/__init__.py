"""Torch modules -> float32 ONNX graphs with the contract's names and dynamic sizes.

In: a `Sam`. Out: one `onnx_ir.Model` per graph of the contract, as traced. Imports model and the runtime's contract.
"""
