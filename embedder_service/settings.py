"""Settings of the embedder."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from cir.images.decode import MAX_BYTES, MAX_PIXELS, Decoder
from embedder_service.images.normalisation import parse_mean, parse_std
from service_runtime.image_reader import MIB, DecodeBudget
from service_runtime.settings import ServiceSettings

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


class EmbedderSettings(ServiceSettings):
    """Frozen CLIP behind gRPC: images and texts in, raw features out."""

    model_config = SettingsConfigDict(env_prefix="CIR_EMBEDDER_", protected_namespaces=())
    program: ClassVar[str] = "embedder_service"
    of_clients: ClassVar[frozenset[str]] = frozenset({"api_key", "ca_file", "cert_file", "key_file"})

    port: int = Field(50051, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    architecture: str = Field(
        "ViT-B-32",
        description="open_clip architecture, such as ViT-B-32 or RN50x4; hf-hub:ORG/NAME for a repository of "
        "the Hub; local-dir:PATH for a folder with open_clip_config.json, or one of ONNX towers (cir models "
        "export, or an export of others).",
    )
    pretrained: str = Field(
        "auto",
        description="Weights: an open_clip tag of the architecture, the path of a checkpoint (safetensors, "
        "or a state dict saved by torch), shipped, or random[:SEED] for an untrained model. auto takes those "
        "of the repository or folder, else shipped ones, else the tag openai.",
    )
    model_config_file: Path | None = Field(
        None, description="JSON file in open_clip's layout with a custom architecture."
    )
    mean: str | None = Field(
        None,
        description="Mean of the pixels (0 to 1) in training: one number, or three with commas. It goes "
        "before what is known of the weights, as do the four settings that follow; give it where nothing is.",
    )
    std: str | None = Field(None, description="Standard deviation of the pixels in training, like mean.")
    interpolation: Literal["bicubic", "bilinear"] | None = Field(
        None, description="Resizing filter of the training."
    )
    resize_mode: Literal["shortest", "longest", "squash"] | None = Field(
        None,
        description="How images became squares in training: by resizing the short side and cropping, the "
        "long side and filling up, or both sides.",
    )
    quick_gelu: bool | None = Field(
        None, description="Whether the activation is QuickGELU, as in OpenAI's own models."
    )
    tokenizer: str = Field(
        "", description="Folder or Hub name of a Hugging Face tokenizer, instead of the model's own."
    )
    weights_cache: Path | None = Field(
        None, description="Folder for downloaded weights; the default is open_clip's own."
    )
    device: str = Field("auto", description="auto (CUDA, else CPU), cpu, cuda or cuda:N.")
    runtime: Literal["auto", "openvino", "torch"] = Field(
        "auto",
        description="Library that computes the model: openvino for model folders (cir models export) on "
        "CPUs, torch for everything else; auto chooses.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = Field(
        "auto",
        description="Type to compute in; auto is bfloat16 where the hardware multiplies it, else float32. "
        "int8 is for CPUs that do not.",
    )
    min_dtype_cosine: float = Field(
        0.999,
        ge=0,
        le=1,
        description="Smallest cosine to float32 on the probe at start-up; below it float32 is used.",
    )
    threads: int = Field(0, ge=0, description="CPU threads of the model; 0 takes one per core.")
    device_lanes: int = Field(
        0,
        ge=0,
        le=64,
        description="Forward passes in parallel on a CPU, which then share `threads`; 0 takes 2 where there "
        "are cores for them, and 1 for small models by openvino, which holds weights once more for further "
        "ones. On CUDA there is one.",
    )
    prepare_threads: int = Field(
        0, ge=0, description="Threads that decode and preprocess images; 0 takes one per core."
    )

    preprocessing: Literal["auto", "targetpad", "squarepad", "clip"] = Field(
        "auto",
        description="targetpad (pad up to target_ratio), squarepad (pad to a square) or clip (no padding, as "
        "the model was trained). auto is targetpad where the model resizes the short side, else clip.",
    )
    target_ratio: float = Field(
        1.25, ge=1, le=100, description="Ratio of the sides above which targetpad pads."
    )
    exif_orientation: bool = Field(
        True, description="Turn images as their EXIF data says; the published transform does not."
    )
    alpha: Literal["flatten", "drop"] = Field(
        "flatten",
        description="Transparent pixels: flatten them on alpha_background, or drop the alpha channel as the "
        "published transform does. Images without transparent pixels do not depend on it.",
    )
    alpha_background: str = Field("#ffffff", description="Colour under transparent pixels, as #rrggbb.")
    jpeg_draft: bool = Field(
        False,
        description="Let the JPEG decoder skip detail that resizing would remove: faster for large photos, "
        "but pixels are no longer identical to the published transform.",
    )

    max_image_bytes: int = Field(MAX_BYTES, ge=1, description="Bytes of one encoded image.")
    max_image_pixels: int = Field(
        MAX_PIXELS,
        ge=1,
        description="Width times height of one image; twice as many are allowed after padding.",
    )
    decode_seconds: float = Field(
        DecodeBudget.SECONDS,
        gt=0,
        le=60,
        description="CPU seconds that one image may take to decode and preprocess; then it is given up and "
        "refused with IMAGE_TOO_COSTLY.",
    )
    decode_memory_mib: int = Field(
        DecodeBudget.MEMORY_MIB,
        ge=16,
        description="MiB that one image may take to decode. 208 are enough for 50 million pixels of JPEG or "
        "PNG, for 20 of progressive JPEG, HEIC and AVIF, for 12 of WebP.",
    )
    decode_workers: int = Field(
        0,
        ge=0,
        description="Processes that decode costly images, and formats other than JPEG, PNG and WebP; 0 takes "
        "one for two `prepare_threads`. A process takes 50 MiB; the first is started with the service.",
    )
    max_text_characters: int = Field(2_000, ge=1, description="Characters of one text.")
    max_batch_items: int = Field(256, ge=1, description="Images or texts in one call or stream batch.")
    max_queue_items: int = Field(
        1024,
        ge=1,
        description="Items held at once over all calls, of which one caller gets half at most; more are "
        "refused with RESOURCE_EXHAUSTED.",
    )
    max_wait_seconds: float = Field(
        5.0,
        ge=0,
        description="Interactive calls that are expected to wait longer are refused with RESOURCE_EXHAUSTED, "
        "based on the recent rate; 0 sets no bound.",
    )
    max_stream_batches: int = Field(
        4, ge=1, description="Batches of one stream that are embedded at the same time."
    )
    call_timeout_seconds: float = Field(
        120.0, gt=0, description="Longest time that one call or stream batch may take, whatever its deadline."
    )
    device_batch_items: int = Field(
        0, ge=0, description="Items in one forward pass; 0 takes 64 on CUDA and 16 on a CPU."
    )
    bulk_batch_items: int = Field(
        0,
        ge=0,
        description="Bulk items in one forward pass while interactive calls are active, which may have to "
        "wait for one; 0 takes 16 on CUDA and 4 on a CPU.",
    )
    image_cache_items: int = Field(1024, ge=0, description="Images whose features are kept; 0 keeps none.")
    text_cache_items: int = Field(16_384, ge=0, description="Texts whose features are kept; 0 keeps none.")

    @field_validator("alpha_background")
    @classmethod
    def _check_colour(cls, value: str) -> str:
        if not _COLOUR.fullmatch(value):
            raise ValueError("expected a colour as #rrggbb, such as #ffffff")
        return value

    @field_validator("mean", "std")
    @classmethod
    def _check_statistics(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None:
            (parse_mean if info.field_name == "mean" else parse_std)(value)
        return value

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        if self.max_batch_items > self.max_queue_items:
            raise ValueError("max_queue_items must be at least max_batch_items")
        return self

    @property
    def max_preprocessed_pixels(self) -> int:
        """Pixels of an intermediate image: padding and resizing may need more room than the image itself."""
        return 2 * self.max_image_pixels

    @property
    def background(self) -> tuple[int, int, int] | None:
        """RGB colour under transparent pixels; None where the alpha channel is dropped."""
        if self.alpha == "drop":
            return None
        red, green, blue = bytes.fromhex(self.alpha_background[1:])
        return red, green, blue

    @property
    def prepare_threads_used(self) -> int:
        """Threads that decode and preprocess: what is set, or one per core."""
        return self.prepare_threads or os.cpu_count() or 1

    @property
    def decode_budget(self) -> DecodeBudget:
        """Budget of decoding one image."""
        workers = self.decode_workers or max(1, self.prepare_threads_used // 2)
        return DecodeBudget(self.decode_seconds, self.decode_memory_mib * MIB, workers)

    def decoder(self, image_size: int) -> Decoder:
        """Return the decoder that the settings describe; the model takes `image_size` pixels a side."""
        return Decoder(
            max_bytes=self.max_image_bytes,
            max_pixels=self.max_image_pixels,
            orient=self.exif_orientation,
            background=self.background,
            draft_size=2 * image_size if self.jpeg_draft else None,
        )
