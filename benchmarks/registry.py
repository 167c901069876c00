"""The benchmarks: name, and what it tells."""

from __future__ import annotations

BENCHMARKS = {
    "ablation": "which token fusion is best, at the demo model's scale",
    "checkpoint_parity": "bundles against the official packages, per variant, weights and fusion",
    "eval_demo": "the demo model on held-out scenes, precisions side by side",
    "export_cost": "time and memory of an export, and of loading what it wrote",
    "fleet": "a folder of images on a Ray cluster, a worker killed in the middle",
    "gpu": "TensorRT, ONNX Runtime and PyTorch on an NVIDIA GPU",
    "input_size": "what another `--image-size` costs in mask quality",
    "peers": "against the official package and other exporters",
    "precision": "masks and sizes of every precision; int8 time on the CPU",
    "scaling": "what one more prompt, or one more image, costs",
    "serve_load": "what the server costs over the bare runtime",
    "session_options": "what ONNX Runtime's memory options cost and save",
}
