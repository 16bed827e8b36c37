"""A diffusers pipeline as a source of videos: its call, its latent, its frames."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageOps

from pytest_vdb.errors import NoImage, SourceError, nearest
from pytest_vdb.models.load_options import LOAD_OPTIONS
from pytest_vdb.models.sources import Output, provides
from pytest_vdb.records import Json, ModelSpec, Prompt

if TYPE_CHECKING:
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

OURS = ("prompt", "image", "generator", "output_type")  # what a workload does not set
LARGE = 2**28  # bytes of weights that are not left to the garbage collector's own time
SIDES = ("height", "width")
RATES = (
    ("vocoder", "output_sampling_rate"),
    ("audio_vae", "sample_rate"),
    ("sound_tokenizer", "sampling_rate"),
)
"""Where a pipeline with sound says its rate: component and entry of its configuration, the last
that touches the sound first."""


class PipelineSource:
    """A loaded diffusers pipeline in this process; ``pipeline`` is the pipeline itself.

    What the pipeline raises passes as it is: the runner knows whose fault it is.
    """

    def __init__(self, spec: ModelSpec, pipeline: DiffusionPipeline) -> None:
        self.spec = spec
        self.pipeline: Any = pipeline

    @property
    def provides(self) -> frozenset[str]:
        return provides(self.spec)

    @property
    def nbytes(self) -> int:
        """Bytes of all parameters and buffers, each tensor counted once."""
        modules = [c for c in self.pipeline.components.values() if isinstance(c, torch.nn.Module)]
        tensors = {t for m in modules for t in (*m.parameters(), *m.buffers())}
        return sum(tensor.nbytes for tensor in tensors)

    def generate(self, prompt: Prompt, seed: int, call: Mapping[str, Json]) -> Output:
        """One video: frames (T, H, W, 3), float32 in [0, 1] or uint8, and its pre-VAE latent.

        The random numbers come from a generator on the CPU, so a seed means the same noise on
        every device. Raises SourceError for arguments that the pipeline does not take and for a
        result without a video, NoImage where it needs a conditioning image that is not there.
        """
        arguments = self._arguments(prompt, call)
        arguments["generator"] = torch.Generator("cpu").manual_seed(seed)
        with torch.inference_mode(), captured_latent(self.pipeline) as captured:
            result = self.pipeline(**arguments)
        video = getattr(result, self.spec.output, None)
        if video is None:
            raise SourceError(
                f"{type(self.pipeline).__name__} gave a {type(result).__name__} without "
                f".{self.spec.output}; only pipelines that give videos can be measured"
            )
        fps = call.get("frame_rate", call.get("fps"))
        audio, rate = audio_of(self.pipeline, result)
        return Output(
            frames_of(video),
            captured[0].float().cpu().numpy() if captured else None,
            None if fps is None else float(fps),
            audio=audio,
            sampling_rate=rate,
        )

    def close(self) -> None:
        """Let go of the pipeline and of the accelerator memory it held."""
        large = self.pipeline is not None and self.nbytes > LARGE
        self.pipeline = None
        if large:
            gc.collect()  # pipelines and hooks refer to each other in circles
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _arguments(self, prompt: Prompt, call: Mapping[str, Json]) -> dict[str, Any]:
        """The call's arguments without the generator, each checked against the signature."""
        name = type(self.pipeline).__name__
        parameters = inspect.signature(type(self.pipeline).__call__).parameters
        free = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        accepted = set(parameters) - {"self", *OURS}
        for argument in call:
            if argument in OURS:
                raise SourceError(
                    f"call argument {argument!r} of model {self.spec.name!r} is set by the plugin; "
                    "prompts and seeds are the workload's (prompts=..., num_seeds=...)"
                )
            if argument not in accepted and not free:
                raise SourceError(
                    f"{name} (model {self.spec.name!r}) takes no argument {argument!r}: "
                    f"{nearest(argument, {*accepted, *LOAD_OPTIONS})}"
                )
        ours: dict[str, Any] = {"prompt": prompt.text, "output_type": "np"}
        if takes_image(self.pipeline, self.spec):
            sides = {key: parameters[key].default for key in SIDES if key in parameters}
            ours["image"] = conditioning_image(self.spec, prompt, {**sides, **call})
        # One that starts from a picture may take no prompt.
        for needed in ("generator",) if "image" in ours else ("prompt", "generator"):
            if needed not in parameters and not free:
                raise SourceError(f"{name} (model {self.spec.name!r}) takes no {needed!r}")
        return {k: v for k, v in ours.items() if k in parameters or free} | dict(call)


def takes_image(pipeline: Any, spec: ModelSpec) -> bool:
    """Whether the pipeline starts from a picture.

    Its ``__call__`` takes an ``image``, and cannot do without one, is of an image-to-video class
    by its name, or is said to be one. Others may take an image; they work from the prompt alone.
    """
    image = inspect.signature(type(pipeline).__call__).parameters.get("image")
    if image is None:
        return False
    named = any(word in type(pipeline).__name__ for word in ("ImageToVideo", "I2V"))
    return named or image.default is image.empty or spec.task == "image-to-video"


def conditioning_image(spec: ModelSpec, prompt: Prompt, call: Mapping[str, Json]) -> Image.Image:
    """The RGB picture of ``prompt``, its middle, in the ``height`` and ``width`` of ``call``.

    It is cut to the aspect around its centre and resized by Lanczos; without a height and a width
    it stays as it is. Raises NoImage where the prompt has none or its file cannot be read.
    """
    if prompt.image is None:
        raise NoImage(
            f"model {spec.name!r} starts from a picture and prompt {prompt.id!r} has none; take "
            'prompts with one (--vdb-prompts=images), or give "image" in the prompt file'
        )
    try:
        with Image.open(prompt.image) as file:
            picture = ImageOps.exif_transpose(file).convert("RGB")
    except OSError as exc:
        raise NoImage(
            f"the picture of prompt {prompt.id!r} cannot be read: {exc}; "
            "give an image file that exists, such as a PNG"
        ) from exc
    height, width = (call.get(side) for side in SIDES)
    if not (isinstance(height, int) and isinstance(width, int)):
        return picture
    return ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)


@contextmanager
def captured_latent(pipeline: Any) -> Iterator[list[torch.Tensor]]:
    """Collect what ``pipeline.vae.decode`` receives inside the block: a list of at most one tensor.

    Only calls from outside the VAE count: a VAE that tiles may call its own ``decode`` on parts.
    A pipeline that decodes in pieces (frames by frames) makes several; then the largest is kept,
    the first of equals: it is a part of the video, never something put together here, and
    whether two videos are equal must be judged by their frames as well. It is a reference, so
    a VAE that worked in place would show in it. ``decode`` is the VAE's own again afterwards, also
    after an exception. Without a VAE that decodes, the list stays empty.
    """
    kept: list[torch.Tensor] = []
    vae: Any = getattr(pipeline, "vae", None)
    if not callable(getattr(vae, "decode", None)):
        yield kept
        return
    before = vae.__dict__.get("decode")  # someone else's wrap on this instance
    decode = vae.decode
    inside = False

    def recording(*args: Any, **kwargs: Any) -> Any:
        nonlocal inside
        if inside:
            return decode(*args, **kwargs)
        latent = args[0] if args else next(iter(kwargs.values()), None)
        if isinstance(latent, torch.Tensor) and (not kept or latent.numel() > kept[0].numel()):
            kept[:] = [latent]
        inside = True
        try:
            return decode(*args, **kwargs)
        finally:
            inside = False

    vae.__dict__["decode"] = recording
    try:
        yield kept
    finally:
        if before is None:
            del vae.__dict__["decode"]
        else:
            vae.__dict__["decode"] = before


def frames_of(video: Any) -> np.ndarray:
    """The first video of a pipeline's result as (T, H, W, 3).

    Pipelines give arrays (T, H, W, 3), tensors (T, 3, H, W) or lists of pictures, of PIL or arrays
    (H, W, 3); most give a batch of them.
    """
    if isinstance(video, torch.Tensor):
        tensor = video[0] if video.ndim == 5 else video
        channels_last = tensor.movedim(1, -1) if tensor.shape[1] == 3 else tensor
        return channels_last.float().cpu().numpy()
    if isinstance(video, np.ndarray) or not video:
        array = np.asarray(video)
        return array[0] if array.ndim == 5 else array
    first = video[0]
    if isinstance(first, Image.Image):
        return np.stack([np.asarray(picture.convert("RGB")) for picture in video])
    if getattr(first, "ndim", 0) == 3:
        stack = torch.stack if isinstance(first, torch.Tensor) else np.stack
        return frames_of(stack(list(video)))
    return frames_of(first)


def audio_of(pipeline: Any, result: Any) -> tuple[np.ndarray | None, int | None]:
    """The first sound track of ``result``, float32 (channels, samples), and its rate in Hz.

    ``.audio`` (or ``.sound``) of the result, at the rate that the component which made it says.
    (None, None) without one, and where the rate is not known.
    """
    audio = getattr(result, "audio", getattr(result, "sound", None))
    for component, key in RATES:
        rate = getattr(getattr(getattr(pipeline, component, None), "config", None), key, None)
        if audio is not None and rate is not None:
            samples = torch.as_tensor(audio).float().cpu().numpy()
            samples = samples[0] if samples.ndim == 3 else np.atleast_2d(samples)
            return np.ascontiguousarray(samples), int(rate)
    return None, None
