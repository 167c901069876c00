"""Encode an image once, then segment it with as many prompts as wanted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .batches import BatchApi, Requests
from .bundle import Bundle, load_bundle
from .closing import Closing
from .contract import Array, Float32
from .decoding import Decoding
from .embeddings import EncodedImage, load_embedding, save_embedding
from .errors import ImageError, PromptError
from .frames.arrays import IMAGE_FORMATS, DeviceImage, ImageLike, take_image
from .frames.geometry import fit_image, normalise
from .frames.prompts import Prompts, encode_prompts
from .hq_token import read_hq_token, require_hq_token
from .masks.choice import MaskChoice, require_hq
from .masks.upscale import upscale, upscale_masks
from .on_device.api import OnDeviceApi
from .sam_predictor import SamPredictorApi
from .session import ProviderOptions
from .session.providers import Providers, names_by_graph, run_engines, text_of
from .whole_numbers import require_whole

PROMPTS_PER_CALL = 8


class Predictor(SamPredictorApi, BatchApi, OnDeviceApi, Closing):
    """The API of `SamPredictor` over an exported bundle; no torch.

    The current image belongs to the thread that set it; calls that name their image, `predict(..., image=encode(...))`,
    may come from any. A Predictor is pickled as its bundle's path and options. In a forked child one on ONNX Runtime's
    CPU provider opens its graphs again when it is first used; others refuse.
    """

    def __init__(
        self,
        bundle: Bundle | str | Path,
        *,
        providers: Providers = ("cpu",),
        threads: int = 0,
        provider_options: ProviderOptions | None = None,
        hq_token: ArrayLike | str | Path | None = None,
        prompts_per_call: int | None = None,
    ) -> None:
        """Open a bundle.

        Args:
            bundle: a folder written by `samhq-export`, or the result of `load_bundle`.
            providers: execution providers in order of preference (`cpu`, `cuda`, ...), or `engine` for the bundle's
                TensorRT engines; a missing one is an error, never a fallback. `"ENCODER/DECODER"` tells the graphs
                apart, such as `"openvino/cpu"`; so does a mapping by graph. `"auto"` is what suits this machine.
            threads: CPU threads inside one operator; 0 means one per physical core, or what `auto` found.
            provider_options: options by provider, such as `{"cuda": {"device_id": "1"}}`; see `Bundle.open`.
            hq_token: (1, C) float32, or a file that `read_hq_token` reads; replaces the checkpoint's HQ token.
            prompts_per_call: more prompts than these are decoded in groups, which bounds memory: about 0.1 GB a prompt
                for 1024-pixel models. By default what `auto` found, or PROMPTS_PER_CALL.
        """
        if prompts_per_call is not None:
            prompts_per_call = require_whole("prompts_per_call", prompts_per_call, 1, None, "at least 1")
        self.bundle = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
        self._sizes = self.bundle.manifest.sizes
        self._hq_token = {} if hq_token is None else {"hq_token": self._own_token(hq_token)}
        self._ways = self.bundle.ways(providers, threads)
        self._encoder, self._decoder = self.bundle.open_both(self._ways, provider_options=provider_options)
        self._check_engines()
        group = prompts_per_call or self._ways.prompts_per_call or PROMPTS_PER_CALL
        self._decoding = Decoding(
            session=self._decoder, sizes=self._sizes, hq_token=self._hq_token, prompts_per_call=group
        )
        asked = text_of(names_by_graph(providers))
        self._options = {"providers": asked, "threads": threads, "provider_options": provider_options}
        self._options |= {"hq_token": self._hq_token.get("hq_token"), "prompts_per_call": prompts_per_call}
        self._current: tuple[EncodedImage, threading.Thread] | None = None

    @property
    def providers(self) -> dict[str, tuple[str, ...]]:
        """What each graph runs on, by the graph's name; never `auto`."""
        return self._ways.providers

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as the bundle's path and the options, without an image; opened again where it is read."""
        return _open_again, (type(self), self.bundle, self._options)

    def set_image(self, image: ImageLike, image_format: str = "RGB") -> None:
        """Encode `image`, as `encode` does, for what follows."""
        self._current = None
        self.set_encoded(self.encode(image, image_format))

    def encode(self, image: ImageLike, image_format: str = "RGB") -> EncodedImage:
        """Encode an image without making it the current one; for `predict(..., image=)`.

        Args:
            image: (H,W,3) uint8, of numpy or of any library whose arrays have `__dlpack__` or
                `__cuda_array_interface__`; on the host, or on the GPU that the encoder runs on, where it is resized
                then. It is not needed any more when the call returns.
            image_format: the order of its colours, RGB or BGR.

        Raises:
            ImageError: of another dtype or shape; in memory that the encoder cannot read, or not contiguous there.
        """
        if image_format not in IMAGE_FORMATS:
            raise ImageError(f"image_format: got {image_format!r}, expected {' or '.join(IMAGE_FORMATS)}")
        pixels = take_image(image)
        if isinstance(pixels, DeviceImage):
            return self._encode_on_device(pixels, image_format)
        fitted = fit_image(pixels, self._sizes.frame)  # each channel by itself, so their order may wait
        if image_format == "BGR":
            fitted = fitted[..., ::-1]
        return self.encode_fitted(fitted, (pixels.shape[0], pixels.shape[1]))

    def encode_fitted(self, fitted: NDArray[Any], original_hw: tuple[int, int]) -> EncodedImage:
        """Encode an image of size `original_hw` that `fit_image` has resized, in another process say."""
        self.bundle.require_unchanged()
        manifest = self.bundle.manifest
        input_image = normalise(fitted, self._sizes.image_size, manifest.pixel_mean, manifest.pixel_std)
        return EncodedImage(self._encoder.keep({"input_image": input_image}), original_hw)

    def set_encoded(self, encoded: EncodedImage) -> None:
        """Make an image that `encode` encoded earlier the current one, of this thread."""
        self._current = encoded, threading.current_thread()

    def save_embedding(self, path: str | Path, *, image: EncodedImage | None = None, float16: bool = False) -> None:
        """Write the current image, or `image`, as it was encoded, to a `.safetensors` file; see `embeddings.stored`.

        Raises:
            EmbeddingError: its features are not finite, or beyond `float16`; the file cannot be written.
        """
        save_embedding(Path(path), self._image_of_call(image), self.bundle, float16=float16)

    def load_embedding(self, path: str | Path) -> EncodedImage:
        """What `save_embedding` wrote, for `predict(..., image=)` or `set_encoded`.

        Raises:
            EmbeddingError: missing, damaged, not an embedding, or of another bundle.
        """
        return load_embedding(Path(path), self.bundle)

    def reset_image(self) -> None:
        """Forget the current image and free its features."""
        self._current = None

    def predict(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        hq_token_only: bool = False,
        *,
        sam_tokens_only: bool = False,
        image: EncodedImage | None = None,
    ) -> tuple[Array, Float32, Float32]:
        """Masks of an image; the arguments are `SamPredictor`'s, in its order, then our own.

        Args:
            point_coords: (N,2) x, y pixels of the image, or (B,N,2) for B objects at once; in a list of objects each
                may have another N.
            point_labels: (N,) or (B,N); 1 lies on the object, 0 does not, -1 is padding, which the model attends to.
            box: (4,) x0, y0, x1, y1 pixels, or (B,4).
            mask_input: `low_res_logits` of an earlier prediction, (1,L,L), or (B,1,L,L).
            multimask_output: let the best of SAM's three candidate masks (by predicted IoU) go with the HQ mask,
                instead of its single-mask output; better for ambiguous prompts such as one point. The bundle of a
                plain SAM or of any SAM 2 returns all three. Without it SAM 2 falls back to the best candidate where
                its single mask is not stable, as upstream does.
            return_logits: float32 logits instead of booleans.
            hq_token_only: the HQ token's mask alone, instead of its sum with SAM's.
            sam_tokens_only: SAM's mask alone: what HQ started from.
            image: what `encode` returned; the current image by default. Calls that name their image may come from
                several threads at once.

        Returns:
            masks (1,H,W), iou_predictions (1,), low_res_logits (1,L,L); for B objects (B,1,H,W), (B,1), (B,1,L,L). A
            box (1,4) is one object, as upstream; points (1,N,2) and masks (1,1,L,L) are a batch of one.
            `multimask_output` of a plain SAM or a SAM 2: 3 in the place of 1. SAM 2's low_res_logits are clamped to
            between -32 and 32. B may be 0, of an empty list too.

        Raises:
            PromptError: no image set, or by another thread; a prompt that is malformed, not finite or so far from the
                image that the model answers NaN, or `hq_token_only` of a plain SAM.
        """
        masks, iou, logits = self.predict_batch(
            point_coords,
            point_labels,
            box,
            mask_input,
            multimask_output,
            return_logits,
            hq_token_only,
            sam_tokens_only=sam_tokens_only,
            image=image,
        )
        batched = len(masks) != 1 or any(
            p is not None and np.ndim(p) == rank for p, rank in ((point_coords, 3), (mask_input, 4))
        )
        return (masks, iou, logits) if batched else (masks[0], iou[0], logits[0])

    def predict_batch(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        hq_token_only: bool = False,
        *,
        sam_tokens_only: bool = False,
        image: EncodedImage | None = None,
    ) -> tuple[Array, Float32, Float32]:
        """As `predict`; results are (B,1,H,W), (B,1), (B,1,L,L) for one object too."""
        prompts = {"point_coords": point_coords, "point_labels": point_labels, "box": box, "mask_input": mask_input}
        (answer,) = self._masks_of(
            [(self._image_of_call(image), prompts)],
            multimask_output=multimask_output,
            return_logits=return_logits,
            hq_token_only=hq_token_only,
            sam_tokens_only=sam_tokens_only,
        )
        return answer

    def decode(self, image: EncodedImage, prompts: Prompts, choice: MaskChoice) -> tuple[Float32, Float32]:
        """What `predict_batch` upscales: low_res_logits (B,M,L,L), of SAM 2 not clamped, and iou_predictions (B,M)."""
        self.bundle.require_unchanged()
        (answer,) = self._decoding([(image, prompts)], choice)
        return answer

    def close(self) -> None:
        """Release both sessions."""
        self._close_graphs()
        self._encoder.close()
        self._decoder.close()

    def _check_engines(self) -> None:
        """Hold engines that were not checked on this GPU yet against the recording."""
        if run_engines(name for names in self.providers.values() for name in names):
            from .engine.gate import check_first_use

            check_first_use(self.bundle, self.providers, self._encoder, self._decoder)

    def _own_token(self, hq_token: ArrayLike | str | Path) -> Float32:
        """Another HQ token for this model, (1, embed_dim)."""
        require_hq("hq_token", token_masks=self._sizes.token_masks)
        if isinstance(hq_token, str | Path):
            fusion, sizes = self.bundle.manifest.token_fusion, self._sizes
            return read_hq_token(Path(hq_token), embed_dim=sizes.embed_dim, token_fusion=fusion, family=sizes.family)
        return require_hq_token(hq_token, embed_dim=self._sizes.embed_dim)

    def _image_of_call(self, image: EncodedImage | None) -> EncodedImage:
        """`image`, or the current one if this thread set it: another may replace it between two of our calls."""
        if image is not None:
            if not isinstance(image, EncodedImage):
                raise PromptError(f"image: got {type(image).__name__}, expected what predictor.encode(image) returns")
            return image
        current = self._current
        if current is None:
            raise PromptError("no image set: call set_image(image) before predict()")
        if current[1] is not threading.current_thread():
            raise PromptError(
                "the current image was set by another thread; name the image in every call, "
                "predict(..., image=predictor.encode(image)), or give each thread its own Predictor"
            )
        return current[0]

    def _answers(
        self, requests: Requests, upscale: Callable[[Float32, tuple[int, int]], Any], **choice: bool
    ) -> list[tuple[Any, Float32, Float32]]:
        """Per image and its prompts what `upscale` makes of logits and the image's size, predicted IoU, the logits."""
        self.bundle.require_unchanged()
        bound = self._sizes.rules.logits_bound
        encoded = [(i, encode_prompts(**p, original_hw=i.original_hw, sizes=self._sizes)) for i, p in requests]
        decoded = self._decoding(encoded, MaskChoice(sizes=self._sizes, **choice))
        return [
            (upscale(logits, image.original_hw), iou, logits if bound is None else logits.clip(-bound, bound))
            for (image, _), (logits, iou) in zip(requests, decoded, strict=True)
        ]

    def _upscale(self, low_res_logits: Float32, original_hw: tuple[int, int], *, return_logits: bool) -> Array:
        frame = self._sizes.frame
        if return_logits:
            return upscale(low_res_logits, original_hw, frame)
        return upscale_masks(low_res_logits, original_hw, frame, threshold=self.bundle.manifest.mask_threshold)


def _open_again(kind: type[Predictor], bundle: Bundle, options: Mapping[str, Any]) -> Predictor:
    return kind(bundle, **options)
