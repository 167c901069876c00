"""A bundle as a model repository of the Triton Inference Server: encoder, decoder, and a pipeline over both."""
