"""The demo model in every precision against itself in float32 under PyTorch, on scenes it was not trained on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
import torch

from samhq_exporter.cli import main
from samhq_exporter.config import DEMO_CHECKPOINT
from samhq_exporter.demo.evaluate import held_out_seeds
from samhq_exporter.demo.fidelity import mask_ious
from samhq_exporter.model import Sam
from samhq_exporter.precision import measuring
from samhq_exporter.precision.policy import PRECISIONS, TABLE, policy_of
from samhq_exporter.weights.checkpoint import load_checkpoint
from samhq_runtime import Bundle, Predictor
from samhq_runtime.contract import IMAGE_ENCODER
from samhq_runtime.errors import BackendUnavailable, ConfigError, GraphError, ParityError
from tests.support.bundles import export
from tests.support.models import save_checkpoint, tiny_sam
from tests.support.shared import shared_bundle

SCENES = 4
COMPUTE = {  # of encoder and decoder
    "fp32": ("float32", "float32"),
    "fp16": ("float16", "float16"),
    "bf16": ("bfloat16", "float32"),
    "int8": ("float16", "float16"),
    "fp8": ("float16", "float16"),
}
OVERFLOWING = 2.0**16  # exact; weights of the demo model stay below 65504, what they compute does not
GATES = {"fp16": (min, 0.99), "bf16": (min, 0.97), "int8": (mean, 0.97), "fp8": (mean, 0.97)}


def test_every_precision_has_a_gate() -> None:
    """float32's masks are held to the official package's in `test_official_parity.py`."""
    assert {"fp32", *GATES} == set(PRECISIONS)


@pytest.fixture(scope="module", params=GATES)
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return shared_bundle(tmp_path_factory, DEMO_CHECKPOINT, precision=request.param)


def test_demo_masks(demo: Bundle) -> None:
    """Boxes and points, every object of the scenes, in every form that the bundle has."""
    judge, gate = GATES[demo.manifest.precision]
    for form in forms(demo):
        ious = mask_ious(form, load_checkpoint(DEMO_CHECKPOINT).sam, held_out_seeds(SCENES))
        values = ious["box"] + ious["point"]
        assert len(values) >= 4 * SCENES
        assert judge(values) >= gate


def forms(bundle: Bundle) -> list[Bundle]:
    """As the CPU opens it, and without the form for CPUs."""
    graphs = bundle.manifest.graphs
    if not any(entry.cpu_file for entry in graphs.values()):
        return [bundle]
    portable = {name: dataclasses.replace(entry, cpu_file=None) for name, entry in graphs.items()}
    return [bundle, Bundle(bundle.path, dataclasses.replace(bundle.manifest, graphs=portable))]


def test_the_manifest_says_what_was_measured(demo: Bundle) -> None:
    manifest = demo.manifest
    encoder = manifest.precision_policy[IMAGE_ENCODER]
    assert encoder["compute"] == TABLE[manifest.precision].compute
    assert bool(encoder["ranges"]) == TABLE[manifest.precision].needs_ranges
    assert bool(encoder["quantized_layers"]) == bool(TABLE[manifest.precision].number)
    if encoder["quantized_layers"]:
        assert encoder["ranges"]["source"] == "drawn scenes"
        assert all("/blocks." in name for name in encoder["quantized_layers"])


def test_bf16_says_that_the_cpu_cannot_run_it(demo: Bundle) -> None:
    if demo.manifest.precision != "bf16":
        with Predictor(demo):
            return
    assert "emulated" in demo.manifest.parity
    assert demo.manifest.opset == 22
    with pytest.raises(BackendUnavailable, match=r"bf16 graphs cannot run on the CPU.*samhq engine"):
        Predictor(demo)


@torch.no_grad()
def scaled(sam: Sam, factor: float) -> None:
    """The same function with values `factor` times larger in the middle of two places: v of attention, an MLP."""
    attention, dim = sam.image_encoder.blocks[1].attn, sam.arch.encoder_dim
    attention.qkv.weight[2 * dim :] *= factor
    attention.qkv.bias[2 * dim :] *= factor
    attention.proj.weight /= factor
    mlp = sam.mask_decoder.transformer.layers[0].mlp
    mlp.lin1.weight *= factor
    mlp.lin1.bias *= factor
    mlp.lin2.weight /= factor


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_overflow_is_met_with_measured_islands(precision: str, tmp_path: Path) -> None:
    """Without them the masks would be NaN: values reach a million, float16 ends at 65504."""
    sam = load_checkpoint(DEMO_CHECKPOINT).sam_hq
    scaled(sam, OVERFLOWING)
    checkpoint = save_checkpoint(sam, tmp_path / "scaled.pth")
    bundle = export(checkpoint, tmp_path / "bundle", precision=precision, token_fusion="hadamard")
    islands = {name: set(policy["measured_islands"]) for name, policy in bundle.manifest.precision_policy.items()}
    assert any("/blocks.1/attn/" in node for node in islands["image_encoder"])
    assert any("/layers.0/mlp/" in node for node in islands["mask_decoder"])
    assert not any("/blocks.0/" in node for node in islands["image_encoder"])
    judge, gate = GATES[precision]
    for form in forms(bundle):
        ious = mask_ious(form, sam, held_out_seeds(2))
        assert judge(ious["box"] + ious["point"]) >= gate


def test_overflow_without_measured_islands_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same checkpoint, so that it is the islands that help."""
    monkeypatch.setattr(measuring, "float16_islands", lambda model, largest, policy: {})
    sam = load_checkpoint(DEMO_CHECKPOINT).sam_hq
    scaled(sam, OVERFLOWING)
    checkpoint = save_checkpoint(sam, tmp_path / "scaled.pth")
    with pytest.raises(ParityError, match=r"relative error nan"):
        export(checkpoint, tmp_path / "bundle", precision="fp16", token_fusion="hadamard")


def test_overflow_where_half_is_promised_is_refused(tmp_path: Path) -> None:
    sam = tiny_sam()
    with torch.no_grad():
        sam.image_encoder.neck[3].weight *= 1e6
    checkpoint = save_checkpoint(sam, tmp_path / "large.pth")
    with pytest.raises(GraphError, match="image_embeddings reaches"):
        export(checkpoint, tmp_path / "bundle", precision="fp16")
    assert [path.name for path in tmp_path.iterdir()] == ["large.pth"]


def test_keep_fp32_calibration_and_report(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)).save(images / "a.png")
    command = ["--checkpoint", str(tiny_checkpoint), "--output", str(tmp_path / "b"), "--precision", "fp16"]
    command += ["--keep-fp32", "/blocks.0/", "--keep-fp32", "*/hypernetworks/*", "--calibration", str(images)]
    assert main([*command, "--precision-report"]) == 0
    out = capsys.readouterr().out
    assert "--keep-fp32 /blocks.0/" in out
    assert "stated Softmax" in out
    policy = json.loads((tmp_path / "b" / "manifest.json").read_text())["precision_policy"]
    assert policy["image_encoder"]["keep_fp32"] == ["/blocks.0/"]
    assert policy["mask_decoder"]["keep_fp32"] == ["*/hypernetworks/*"]
    assert policy["image_encoder"]["ranges"] == {"images": 1, "source": "1 of 1 given images", "safety": 8.0}


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ({"keep_fp32": ("/nowhere/",)}, "no node has such a name"),
        ({"calibration": (Path("nowhere"),)}, "no such file or folder"),
        ({"clipping": "guess"}, "unknown clipping rule"),
    ],
)
def test_wishes_that_cannot_be_met(
    tiny_checkpoint: Path, tmp_path: Path, option: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        export(tiny_checkpoint, tmp_path / "bundle", precision="fp16", **option)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("fusion", ["none", "independent", "sum", "hadamard"])
def test_islands_only_where_precision_is_lost(precision: str, fusion: str) -> None:
    encoder, decoder = (policy_of(precision, name, token_fusion=fusion) for name in ("image_encoder", "mask_decoder"))
    assert (encoder.compute, decoder.compute) == COMPUTE[precision]
    for policy in (encoder, decoder):
        assert bool(policy.fp32_islands) == (policy.compute != "float32")
    assert "/token_fusion/" not in encoder.fp32_islands
    assert ("/token_fusion/" in decoder.fp32_islands) == (
        decoder.compute == "float16" and fusion in ("sum", "hadamard")
    )
    assert ("/hq_fusion/" in encoder.fp32_islands) == (encoder.compute == "bfloat16" and fusion != "none")
