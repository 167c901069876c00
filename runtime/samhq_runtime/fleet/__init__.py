"""Many images: prompts from a file, masks into a folder, in this process or on a Ray cluster.

`jobs` says what there is to do, `output` what is done; `segmenter` does it, here or in the actors of `ray_data`.

In: a folder of images and a file of prompts. Out: a file of masks per image. Imports predictor, masks and serve.
"""
