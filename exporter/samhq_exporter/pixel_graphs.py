"""The runtime's graphs of pixels, as text: what resizes frames, and upscales masks, in the memory of a GPU.

    python -m samhq_exporter.pixel_graphs

writes them beside the module that runs them; they are kept in the repository, since the runtime has no onnx. Text is in
the syntax of `onnx.parser`. No operator is newer than opset 13, and all have kernels on every GPU provider.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.parser

import samhq_runtime.on_device

FOLDER = Path(samhq_runtime.on_device.__file__).parent

_FIT = """<ir_version: 7, opset_import: ["": 13]>
{name} (uint8[height, width, 3] image, int64[3] channels, float[side, height] rows, float[width, side] columns,
        {rests}float[3, 1, 1] mean, float[3, 1, 1] std, float[side, side] inside)
        => (float[1, 3, side, side] input_image)
{{
    rgb = Gather <axis = 2> (image, channels)
    planes = Transpose <perm = [2, 0, 1]> (rgb)
    pixels = Cast <to = 1> (planes)
    axis = Constant <value = int64[1] {{0}}> ()
    {resize}
    centred = Sub (fitted, mean)
    normalised = Div (centred, std)
    padded = Mul (normalised, inside)
    input_image = Unsqueeze (padded, axis)
}}"""
_FLOATS = """
    narrow = MatMul (pixels, columns)
    fitted = MatMul (rows, narrow)"""
# Pillow sums whole multiples of 2**-22, more bits than a float32 has. So weights are split, and nothing is ever rounded
# but where Pillow does it, with halves going up: sums of the first part are multiples of 2**-16 below 256, what is left
# of them and sums of the rest are multiples of 2**-22 below 4.
_WHOLE = """
    {to}_most = MatMul ({most})
    {to}_rest = MatMul ({rest})
    {to}_raised = Add ({to}_most, half)
    {to}_whole = Floor ({to}_raised)
    {to}_part = Sub ({to}_raised, {to}_whole)
    {to}_sum = Add ({to}_part, {to}_rest)
    {to}_carry = Floor ({to}_sum)
    {to} = Add ({to}_whole, {to}_carry)"""
_ROUNDED = "half = Constant <value = float {0.5}> ()"
_ROUNDED += _WHOLE.format(to="narrow", most="pixels, columns", rest="pixels, columns_rest")
_ROUNDED += _WHOLE.format(to="fitted", most="rows, narrow", rest="rows_rest, narrow")
_RESTS = "float[side, height] rows_rest, float[width, side] columns_rest, "

_UPSCALE = """<ir_version: 7, opset_import: ["": 13]>
upscale_masks (float[prompts, kept, low_res, low_res] low_res_logits, float[height, low_res] rows,
               float[low_res, width] columns, float[1] threshold) => (bool[prompts, kept, height, width] masks)
{
    tall = MatMul (rows, low_res_logits)
    logits = MatMul (tall, columns)
    masks = Greater (logits, threshold)
}"""


TEXTS = {
    "fit_rounded": _FIT.format(name="fit_rounded", rests=_RESTS, resize=_ROUNDED),
    "fit_floats": _FIT.format(name="fit_floats", rests="", resize=_FLOATS),
    "upscale_masks": _UPSCALE,
}


def parsed(name: str) -> onnx.ModelProto:
    """One of `TEXTS` as a graph that onnx has checked."""
    model = onnx.parser.parse_model(TEXTS[name])
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    for name in TEXTS:
        onnx.save(parsed(name), FOLDER / f"{name}.onnx")


if __name__ == "__main__":
    main()
