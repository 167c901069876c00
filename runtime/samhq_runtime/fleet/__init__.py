"""Many images: prompts from a file, masks into a folder, in this process, in several, or on a Ray cluster.

`sources` says which images, `prompt_files` and `coco_prompts` which prompts; a job of `jobs` is both. `segmenter` does
one and `output` keeps it; `run` is the whole run, `processes` and `ray_data` do its jobs side by side.

In: images and a file of prompts. Out: a file of masks per image, and those of other tools. Imports predictor, masks,
formats and serve.
"""
