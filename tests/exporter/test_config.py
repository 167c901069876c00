"""`ExportConfig`: what it refuses, and what it derives."""

from __future__ import annotations

from pathlib import Path

import pytest

from samhq_exporter.config import DEMO_CHECKPOINT, ExportConfig
from samhq_runtime.errors import ConfigError


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ({"precision": "int4"}, "unknown precision 'int4'; choose from fp32, "),
        ({"token_fusion": "concat"}, "unknown token fusion 'concat'; choose from independent, sum, hadamard"),
        ({"variant": "vit_x"}, "unknown variant 'vit_x'; choose from vit_b, "),
        ({"engine": "onnx"}, "unknown engine 'onnx'; choose from tensorrt, rtx"),
        ({"clipping": "max"}, "unknown clipping rule 'max'; choose from minmax, "),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_validated_at_birth(option: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        ExportConfig(**option)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "folder"),
    [
        (ExportConfig(checkpoint=Path("weights/sam_hq_vit_b.pth"), precision="fp16"), "samhq-sam_hq_vit_b-fp16"),
        (ExportConfig(), f"samhq-{DEMO_CHECKPOINT.stem}-fp32"),
        (ExportConfig(output=Path("here/bundle")), "here/bundle"),
    ],
)
def test_output_folder(config: ExportConfig, folder: str) -> None:
    assert config.output_folder == Path(folder)


def test_entropy_is_for_int8() -> None:
    assert ExportConfig(precision="int8", clipping="entropy").clipping == "entropy"
    with pytest.raises(ConfigError, match="--clipping entropy: counts int8's even levels"):
        ExportConfig(precision="fp8", clipping="entropy")
