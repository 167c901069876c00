"""A bundle as a model repository of the Triton Inference Server: encoder, decoder, and a pipeline over both.

In: a bundle. Out: a model repository; `pipeline` is its Python model, run by Triton. Imports bundle, predictor, serve.
"""
