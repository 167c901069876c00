"""What a `Predictor` does with frames in device memory, and with masks that are to stay there."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..bundle import Bundle
from ..contract import Array, Float32, ModelSizes
from ..embeddings import EncodedImage
from ..errors import ConfigError, ImageError
from ..frames.arrays import DeviceImage
from ..session import Fetching, Neighbourly, Place, Session, Tensor
from .graphs import Fitting, Upscaling


class OnDeviceApi:
    """Calls for device memory, on the methods of `Predictor`."""

    _sizes: ModelSizes
    bundle: Bundle

    if TYPE_CHECKING:
        _encoder: Session
        _decoder: Session
        providers: Any

        def encode(self, image: Any, image_format: str = "RGB") -> EncodedImage: ...
        def _image_of_call(self, image: Any) -> EncodedImage: ...
        def _answers(self, requests: Any, upscale: Any, **choice: bool) -> list[tuple[Any, Float32, Float32]]: ...
        def _upscale(self, low_res_logits: Float32, original_hw: Any, *, return_logits: bool) -> Array: ...

    def predict_on_device(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = True,
        hq_token_only: bool = False,
        *,
        sam_tokens_only: bool = False,
        image: EncodedImage | None = None,
    ) -> tuple[Tensor, Float32, Float32]:
        """As `predict_batch`, with the masks left on the device of the decoder.

        Returns:
            masks (B,1,H,W) bool, a `DeviceTensor` with `__dlpack__` (uint8 there) and `__cuda_array_interface__`,
            complete and freed with its last reference; iou_predictions (B,1) and low_res_logits (B,1,L,L) on the host,
            where masks are chosen. A decoder on a CPU, or under OpenVINO, leaves a numpy array.

        Raises:
            PromptError: as `predict`.
            ConfigError: the decoder is a TensorRT engine, beside which no other graph runs.
        """
        if isinstance(self._decoder, Fetching):
            raise ConfigError(
                "predict_on_device: TensorRT engines give masks on the host; use predict, or the provider cuda"
            )
        prompts = {"point_coords": point_coords, "point_labels": point_labels, "box": box, "mask_input": mask_input}
        (answer,) = self._answers(
            [(self._image_of_call(image), prompts)],
            self._masks_on_device,
            multimask_output=multimask_output,
            hq_token_only=hq_token_only,
            sam_tokens_only=sam_tokens_only,
        )
        return answer

    def _masks_on_device(self, logits: Float32, original_hw: tuple[int, int]) -> Tensor:
        if _place_of(self._decoder) is None:
            return self._upscale(logits, original_hw, return_logits=False)
        return self._upscaling(logits, original_hw)

    def _encode_on_device(self, image: DeviceImage, image_format: str) -> EncodedImage:
        """An image in the memory of the encoder's device; engines have it copied to the host and resized there."""
        place = _place_of(self._encoder)
        if place is None or image.kind != place[0] or image.number not in (None, place[1]):
            where = "the host" if place is None else f"{place[0]}:{place[1]}"
            raise ImageError(
                f"image: in the memory of {image}, which the encoder cannot read; expected it on {where}, where it "
                "runs or is fed from; copy it there, or open the bundle with a provider and a device_id of that device"
            )
        if isinstance(self._encoder, Fetching):
            pixels = self._encoder.fetch(image.address, (*image.original_hw, 3), np.dtype(np.uint8))
            return self.encode(pixels, image_format)
        self.bundle.require_unchanged()
        input_image = self._fitting(image, image_format, place)
        return EncodedImage(self._encoder.keep({"input_image": input_image}), image.original_hw)

    def _close_graphs(self) -> None:
        for graph in ("_fitting", "_upscaling"):
            if graph in self.__dict__:
                self.__dict__[graph].close()

    @cached_property
    def _fitting(self) -> Fitting:
        assert isinstance(self._encoder, Neighbourly)
        return Fitting(self._encoder, self.bundle.manifest)

    @cached_property
    def _upscaling(self) -> Upscaling:
        assert isinstance(self._decoder, Neighbourly)
        return Upscaling(self._decoder, self.bundle.manifest)


def _place_of(session: Session) -> Place | None:
    """The device that a session keeps its outputs on; None for the host."""
    return session.place if isinstance(session, Neighbourly | Fetching) else None
