"""Image and prompt frames: from the caller's pixels to the model's, and back to feeds of the graphs.

In: image files and arrays, points, boxes, masks in pixels of the image. Out: `input_image` and the decoder's feeds.
Imports the contract, files and errors.
"""
