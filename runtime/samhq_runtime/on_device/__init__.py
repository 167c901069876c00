"""Images and masks that never leave the GPU: frames are resized there, masks are upscaled there.

In: images in device memory, low-resolution logits. Out: `input_image` and masks, on the device of the session they
belong to. Imports frames, masks, session, bundle and embeddings.

Small ONNX graphs do it, run by the provider that runs the encoder or the decoder. They are files of this package
and not of a bundle: nothing of a model is in them, sizes and normalisation being inputs, so they serve every bundle
that was ever written. `exporter/samhq_exporter/pixel_graphs.py` has them as text and writes them. Resizing is linear
and separable: a matrix for the rows and one for the columns, made in numpy by Pillow's rule. ONNX's own Resize with
antialiasing does not round where Pillow does, and TensorRT has none.
"""
