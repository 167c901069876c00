"""Everything in the picture: masks of a grid of points, as the official automatic mask generators make them.

`grid` says where the points and crops are, `generator` prompts and filters, `nms` removes duplicates, `records` says
what a mask is told as; `output` writes the file of one image.

In: a predictor, an image, thresholds. Out: records of masks, COCO files. Imports frames, masks and predictor.
"""
