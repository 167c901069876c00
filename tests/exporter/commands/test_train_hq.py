"""`samhq-export train-hq`: what it changes, that it goes on where it was stopped, and its messages."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from samhq_exporter.architecture import PIXEL_MEAN, PIXEL_STD
from samhq_exporter.cli import main
from samhq_exporter.training import hq_stage
from samhq_exporter.weights.checkpoint import load_checkpoint
from samhq_exporter.weights.stored import read_weights
from samhq_runtime import Predictor
from samhq_runtime.contract import ModelFrame
from samhq_runtime.frames.geometry import preprocess
from samhq_runtime.frames.image_files import read_image
from tests.support.models import TINY, save_checkpoint, save_state, tiny_sam
from tests.support.pairs import draw_pairs

_SHORT = ("--steps", "4", "--batch", "2", "--evaluate-every", "2", "--device", "cpu")
_HQ = ("hf_token", "hf_mlp", "embedding_maskfeature", "compress_vit_feat", "embedding_encoder")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_pairs(tmp_path_factory.mktemp("pairs") / "pairs", 6, size=96)


def train(checkpoint: Path, dataset: Path, output: Path, *more: str) -> int:
    return main(["train-hq", str(checkpoint), "--dataset", str(dataset), "--output", str(output), *_SHORT, *more])


@pytest.mark.parametrize(
    ("more", "fusion", "changed"),
    [
        ((), "independent", _HQ),
        (("--fresh", "--token-fusion", "hadamard"), "hadamard", _HQ),
        (("--train", "token", "--mixed-precision", "bf16"), "independent", _HQ[:1]),
    ],
)
def test_only_hq_parameters_change(
    tiny_checkpoint: Path, pairs: Path, tmp_path: Path, more: tuple[str, ...], fusion: str, changed: tuple[str, ...]
) -> None:
    tuned = tmp_path / "tuned.safetensors"
    assert train(tiny_checkpoint, pairs, tuned, *more) == 0
    before, after = read_weights(tiny_checkpoint).state, load_file(tuned)
    assert after.keys() == before.keys()
    different = {name for name in before if not torch.equal(before[name], after[name])}
    assert {part for part in _HQ if any(part in name for name in different)} == set(changed)
    assert all(any(part in name for part in changed) for name in different)
    with safe_open(tuned, framework="pt") as file:
        assert file.metadata() == {"token_fusion": fusion}
    assert list(tmp_path.iterdir()) == [tuned]


def test_plain_sam_gets_an_hq_part(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a plain SAM in half precision to a bundle whose masks are those of the tuned file."""
    whole = read_weights(save_checkpoint(tiny_sam(), tmp_path / "whole.pth")).state
    plain = {name: value.half() for name, value in whole.items() if not any(part in name for part in _HQ)}
    tuned = tmp_path / "tuned.safetensors"
    assert train(save_state(plain, tmp_path / "sam.pth"), pairs, tuned, "--token-fusion", "sum") == 0
    assert "5 images to train on, 1 held out" in capsys.readouterr().err
    after = load_file(tuned)
    assert all(torch.equal(after[name], value) and after[name].dtype == value.dtype for name, value in plain.items())
    assert main(["--checkpoint", str(tuned), "--output", str(tmp_path / "bundle")]) == 0

    image = read_image(pairs / "im" / "0.png")
    sam = load_checkpoint(tuned).sam_hq
    with Predictor(tmp_path / "bundle") as predictor:
        predictor.set_image(image)
        assert predictor.bundle.manifest.token_fusion == "sum"
        _, _, logits = predictor.predict(box=[10, 10, 80, 80], multimask_output=False)
    side = 4 * TINY.embedding_size
    frame = preprocess(image, ModelFrame(TINY.image_size), PIXEL_MEAN, PIXEL_STD)
    features = sam.encode_image(torch.from_numpy(frame))
    scale = TINY.image_size / image.shape[0]
    coords, labels = torch.tensor([[[10.0, 10.0], [80.0, 80.0]]]) * scale, torch.tensor([[2.0, 3.0]])
    none = (torch.zeros(1, 1, side, side), torch.zeros(1), torch.tensor([0]))
    expected, _ = sam.decode_masks(*features, coords, labels, *none, torch.tensor([[1.0, 0, 0, 0, 1]]))
    np.testing.assert_allclose(logits, expected[0].numpy(), rtol=1e-3, atol=1e-3)


def test_a_decoder_over_its_base_goes_on(tiny_checkpoint: Path, pairs: Path, tmp_path: Path) -> None:
    """What SAM-HQ's own training wrote, and the SAM it was trained on: the whole comes out, and only HQ changed."""
    prefix, state = "mask_decoder.", read_weights(tiny_checkpoint).state
    decoder = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    epoch = save_state(decoder, tmp_path / "epoch_1.pth")
    base = save_state({k: v for k, v in state.items() if not any(part in k for part in _HQ)}, tmp_path / "sam.pth")
    tuned = tmp_path / "tuned.safetensors"
    assert train(epoch, pairs, tuned, "--base", str(base), "--steps", "1") == 0
    after = load_file(tuned)
    assert after.keys() == state.keys()
    assert all(torch.equal(after[name], state[name]) is not any(part in name for part in _HQ) for name in state)


def test_interrupted_and_repeated_is_as_if_not_interrupted(
    tiny_checkpoint: Path,
    pairs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole, stopped = tmp_path / "whole.safetensors", tmp_path / "stopped.safetensors"
    assert train(tiny_checkpoint, pairs, whole) == 0
    with monkeypatch.context() as patch:
        patch.setattr(hq_stage, "hq_loss", interrupt_at(4, hq_stage.hq_loss))
        assert train(tiny_checkpoint, pairs, stopped) == 130
    state = stopped.with_name("stopped.safetensors.state")
    assert f"{stopped} was not written; the same command goes on from {state}" in capsys.readouterr().err
    assert state.exists()
    assert not stopped.exists()
    assert train(tiny_checkpoint, pairs, stopped, "--seed", "1") == 1
    assert "with other options (seed 0, now 1" in capsys.readouterr().err

    assert train(tiny_checkpoint, pairs, stopped) == 0
    assert "step 2:" not in capsys.readouterr().out  # done before
    assert stopped.read_bytes() == whole.read_bytes()
    assert not state.exists()


def interrupt_at(step: int, loss: Any) -> Any:
    calls = []

    def counted(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == step:
            raise KeyboardInterrupt
        return loss(*args)

    return counted


def test_unusable_pairs_are_named_and_left_out(
    tiny_checkpoint: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(pairs, tmp_path / "pairs")
    Image.new("L", (40, 30), 255).save(folder / "gt" / "0.png")
    Image.new("L", (96, 96), 0).save(folder / "gt" / "1.png")
    (folder / "gt" / "2.png").unlink()
    assert train(tiny_checkpoint, folder, tmp_path / "tuned.safetensors") == 0
    said = capsys.readouterr().err
    assert "left out, mask of another size: 0.png: mask 40 x 30, image 96 x 96 (width x height)" in said
    assert "left out, empty mask: 1.png" in said
    assert "left out, no mask for the image: 2.png" in said
    assert "2 images to train on, 1 held out" in said


BAD: dict[str, tuple[dict[str, str], tuple[str, ...], str]] = {
    "no dataset": ({"dataset": "nowhere"}, (), "nowhere: no such dataset"),
    "folder without images": ({"dataset": "empty"}, (), "no images in it"),
    "folder without masks": ({"dataset": "images"}, (), "no masks in it"),
    "masks of another size": ({"dataset": "sizes"}, (), "no image with a usable mask\nleft out, mask of another size"),
    "a single pair": ({"dataset": "single"}, (), "expected at least two, of which one is kept to measure on"),
    "no checkpoint": ({"checkpoint": "nowhere.pth"}, (), "no such file"),
    "output exists": ({"output": "there.safetensors"}, (), "exists already; --overwrite to replace it"),
    "output of another type": ({"output": "tuned.pth"}, (), "expected a name that ends in .safetensors"),
    "output folder missing": ({"output": "no/tuned.safetensors"}, (), "no such folder"),
    "another fusion": ({}, ("--token-fusion", "sum"), "add --fresh to train new HQ parameters"),
    "a fresh token alone": ({}, ("--fresh", "--train", "token"), "tunes the token of HQ parameters that are trained"),
    "batch of more than there is": ({}, ("--batch", "6"), "--batch: got 6, expected at most 5, the images to train on"),
    "a rate at which it diverges": ({}, ("--learning-rate", "1e30"), "the training diverged; lower the learning rate"),
    "no steps": ({}, ("--steps", "0"), "--steps: got 0, expected more than 0"),
    "no device": ({}, ("--device", "abacus"), "got 'abacus', expected cpu, cuda or cuda:N"),
    "no such GPU": ({}, ("--device", "cuda:99"), "--device cuda:99: PyTorch"),
    "float16 on a CPU": ({}, ("--mixed-precision", "fp16"), "on a CPU take bf16 or no"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(
    tiny_checkpoint: Path,
    pairs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    case: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "images/im", "images/gt", "sizes/im", "sizes/gt", "single/im", "single/gt"):
        Path(name).mkdir(parents=True)
    for name in ("images", "sizes", "single"):
        shutil.copy(pairs / "im" / "0.png", f"{name}/im")
    shutil.copy(pairs / "gt" / "0.png", "single/gt")
    Image.new("L", (40, 30), 255).save("sizes/gt/0.png")
    Path("there.safetensors").write_bytes(b"x")
    before = sorted(tmp_path.rglob("*"))
    paths, more, complaint = BAD[case]
    given = {"checkpoint": str(tiny_checkpoint), "dataset": str(pairs), "output": "tuned.safetensors", **paths}
    assert train(Path(given["checkpoint"]), Path(given["dataset"]), Path(given["output"]), *more) == 1
    said = capsys.readouterr().err
    assert complaint in said
    assert "Traceback" not in said
    assert sorted(tmp_path.rglob("*")) == before
