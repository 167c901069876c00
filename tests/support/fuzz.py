"""Inputs that nobody would send on purpose, made from good ones by a seeded generator, and what each may come to.

A target takes one damaged input. It is *refused* if one of this project's errors comes out, *raw* if any other
exception does, and else accepted.
"""

from __future__ import annotations

import copy
import io
import json
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx.external_data_helper import _get_all_tensors
from PIL import Image

from samhq_exporter.weights.checkpoint import load_checkpoint
from samhq_runtime import Bundle, Predictor
from samhq_runtime.bundle.external_data import external_files
from samhq_runtime.commands.inspect import describe
from samhq_runtime.errors import SamHqError
from samhq_runtime.fleet.prompt_files import read_jobs
from samhq_runtime.frames.image_files import decode_image
from samhq_runtime.manifest import Manifest, printable
from samhq_runtime.manifest.seal import sealed
from samhq_runtime.nvidia.rebuild import rebuild_command
from tests.support.bundles import unsealed
from tests.support.fuzz_weights import write_odd_weights
from tests.support.manifest_fields import ENGINE
from tests.support.serving import IMAGE

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 2**64, 10**400, 1e-320, 1e308, 3e38, -3e38, float("nan"),
    float("inf"), "", "a", "\0", "\ud800", "../x", "/etc/passwd", "x" * 5000, [], {}, [[]], [1, [2]], {"a": {}},
)  # fmt: skip
PYTHON_ONLY: tuple[Any, ...] = (Fraction(1, 3), 1j, np.datetime64("2020-01-01"), b"x", object(), np.float64("nan"))
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")


@dataclass
class Outcome:
    """Of many cases; `raw` are the exceptions that were none of ours, with the seeds that repeat them."""

    cases: Counter[str] = field(default_factory=Counter)  # by target
    refused: Counter[str] = field(default_factory=Counter)
    raw: list[str] = field(default_factory=list)


Target = Callable[[np.random.Generator], object]


def run(targets: Mapping[str, Target], seeds: range, outcome: Outcome) -> None:
    """One case of every target for each seed, added to `outcome`."""
    for seed in seeds:
        for number, (name, target) in enumerate(targets.items()):
            outcome.cases[name] += 1
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of Pillow's, about damaged tags
                    target(np.random.default_rng([seed, number]))
            except SamHqError:
                outcome.refused[name] += 1
            except Exception as e:
                outcome.raw.append(f"{name}, seed {seed}: {type(e).__name__}: {e}"[:300])


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Bytes changed, cut out, repeated or appended at random places."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        start, size = int(rng.integers(0, len(data) + 1)), int(rng.integers(1, 40))
        piece = rng.integers(0, 256, size, dtype=np.uint8).tobytes()
        match rng.integers(0, 4):
            case 0:
                data[start : start + size] = piece
            case 1:
                del data[start : start + size]
            case 2:
                data[start:start] = piece
            case _:
                data[start:start] = data[max(0, start - size) : start]
    return bytes(data)


def odd_json(content: Any, rng: np.random.Generator, *, values: tuple[Any, ...] = ODD) -> Any:
    """A copy with a few values replaced, removed or put under another name."""
    content = copy.deepcopy(content)
    for _ in range(rng.integers(1, 4)):
        places = list(_places(content))
        if not places:
            return content
        holder, key = places[rng.integers(len(places))]
        value = copy.deepcopy(values[rng.integers(len(values))])  # what follows may change it
        match rng.integers(0, 4):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[f"{key}x"] = holder.pop(key)
            case _:
                holder[key] = value
    return content


def _places(content: Any) -> Any:
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield content, key
        yield from _places(value)


def targets_of(bundle: Bundle, checkpoint: Path, scratch: Path, predictor: Predictor) -> dict[str, Target]:
    """What takes input from elsewhere in this process; files go to `scratch`. `predictor` has an image set."""
    return {
        "image": _image_target(),
        "prompts": _prompts_target(predictor),
        "manifest": _manifest_target(bundle),
        "jobs": _jobs_target(scratch / "prompts.jsonl"),
        **file_targets(bundle, checkpoint, scratch),
    }


def file_targets(bundle: Bundle, checkpoint: Path, scratch: Path) -> dict[str, Target]:
    """Those of graphs and weights files."""
    state = torch.load(checkpoint, weights_only=True)
    return {
        "external data": _external_target(bundle, scratch / "graph.onnx"),
        "checkpoint": _checkpoint_target(checkpoint.read_bytes(), scratch / "weights.pth"),
        "weights": lambda rng: load_checkpoint(write_odd_weights(state, scratch, rng)),
    }


def _image_target() -> Target:
    files = [_encoded(name) for name in FORMATS]

    def image(rng: np.random.Generator) -> object:
        pixels = decode_image(damaged(files[rng.integers(len(files))], rng), check_hw=_small)
        assert pixels.ndim == 3
        return pixels

    return image


def _prompts_target(predictor: Predictor) -> Target:
    good = {"point_coords": [[3, 4], [5, 6]], "point_labels": [1, 0], "box": [1, 2, 30, 40]}

    def prompts(rng: np.random.Generator) -> object:
        given = odd_json(good, rng, values=(*ODD, *PYTHON_ONLY))
        return predicted(predictor, {name: given[name] for name in good if name in given})

    return prompts


def predicted(predictor: Predictor, prompts: Mapping[str, Any]) -> object:
    """Masks of the current image, whose numbers are finite."""
    masks, iou, logits = predictor.predict(**prompts)
    assert np.isfinite(iou).all()
    assert np.isfinite(logits).all()
    return masks


def _manifest_target(bundle: Bundle) -> Target:
    manifest = with_engine(bundle)
    return lambda rng: shown(bundle, odd_json(manifest, rng))


def with_engine(bundle: Bundle) -> dict[str, Any]:
    """The content of its manifest, with an engine in it, too."""
    return {**unsealed(bundle.path), "engines": {"mask_decoder.tensorrt": ENGINE}}


def shown(bundle: Bundle, content: dict[str, Any]) -> Manifest:
    """What reads a manifest and prints of it, where no control character may come through."""
    read = Manifest.from_json(sealed(content))
    text = describe(Bundle(bundle.path, read))
    assert printable(text.replace("\n", "")) == text.replace("\n", "")
    for entry in read.engines.values():
        rebuild_command(bundle.path, read.graphs[entry.graph].spec, entry)
    return read


def _jobs_target(path: Path) -> Target:
    lines = [{"image": f"{i}.png", "box": [[1, 2, 30, 40]], "point_coords": [[3, 4]]} for i in range(3)]

    def jobs(rng: np.random.Generator) -> object:
        path.write_bytes("\n".join(json.dumps(odd_json(line, rng)) for line in lines).encode("utf-8", "replace"))
        return [job.arguments() for job in read_jobs(path)]

    return jobs


def _external_target(bundle: Bundle, path: Path) -> Target:
    graphs = [(bundle.path / "mask_decoder.cpu.onnx").read_bytes(), *[_graph_of_external_data()] * 4]

    def external(rng: np.random.Generator) -> object:
        content = damaged(graphs[rng.integers(len(graphs))], rng)
        path.write_bytes(content)
        try:
            found = external_files(path)
        except ValueError as e:
            raise SamHqError(str(e)) from e  # as `load_bundle` does
        assert _locations_by_onnx(content) <= found, "hidden external data"
        return found

    return external


def _checkpoint_target(weights: bytes, path: Path) -> Target:
    def checkpoint(rng: np.random.Generator) -> object:
        path.write_bytes(damaged(weights, rng))
        return load_checkpoint(path)

    return checkpoint


def _graph_of_external_data() -> bytes:
    """Tensors in files of their own, wherever a graph may have them."""
    tensors = [onnx.TensorProto(name=f"w{i}", data_type=1, dims=[1], data_location=1) for i in range(3)]
    for i, tensor in enumerate(tensors):
        for key, value in (("location", f"far{i}.bin"), ("offset", "0"), ("length", "4")):
            tensor.external_data.add(key=key, value=value)
    constant = onnx.helper.make_node("Constant", [], ["c"], value=tensors[0])
    inner = onnx.helper.make_graph([constant], "inner", [], [], [tensors[1]])
    nodes = [constant, onnx.helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "outer", [], [], tensors))
    return model.SerializeToString()


def _locations_by_onnx(content: bytes) -> set[str]:
    """As another reader finds them; none in what it cannot read."""
    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError:
        return set()
    return {entry.value for t in _get_all_tensors(model) for entry in t.external_data if entry.key == "location"}


def _small(hw: tuple[int, int]) -> None:
    if hw[0] * hw[1] > 1_000_000:
        raise SamHqError("larger than a case may be")


def _encoded(name: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(IMAGE).save(buffer, name, **({"progressive": True} if name == "JPEG" else {}))
    return buffer.getvalue()
