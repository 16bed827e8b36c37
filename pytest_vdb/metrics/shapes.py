"""Does a clip show the scene that its caption asks for? Exact, from the frames alone.

For the captions of `pytest_vdb.scenes` only: one shape that moves on a plain background. Every
function takes uint8 (T, H, W, 3) RGB frames and the caption, gives a score in [0, 1], higher is
better, and raises Unmeasured for a caption that describes no such scene. The measure is our own;
docs/shapes.md has its scores on rendered clips and on clips that are wrong on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from pytest_vdb.errors import Unmeasured
from pytest_vdb.scenes import BACKGROUNDS, COLORS, DIRECTIONS, SHAPES, Scene, read

NEAR = 60.0
"""Euclidean sRGB distance, of 442, up to which a pixel has a palette's colour: about half of the
distance between the two closest of them."""
SEEN = 50.0
"""A pixel this far from the background belongs to something that lies on it."""
ONE_SHAPE = 0.9
"""The share of all such pixels that one connected region must hold: no second blob, no ghost."""
FIT = 0.85
"""Intersection over union that a region needs with the ideal shape of its area and place."""
SIZE = (0.03, 0.3)
"""A shape's area in parts of the frame."""
STABLE = 0.35
"""How far a frame's area may lie from the clip's median, relative to it."""
TRAVEL = 0.15
"""How far the shape must move from the first frame to the last, in parts of the shorter side."""
STRAIGHT = 0.8
"""Net displacement over the length of the path: less, and the shape wandered or jumped."""


def shapes_color(frames: np.ndarray, prompt: str) -> float:
    """The share of the shape's pixels that have the caption's colour, mean over frames.

    A pixel has the colour that is nearest in the palette, if it lies within `NEAR` of it. The
    shape's outermost pixels, which are blended with the background, don't count; what else stands
    out as much as the shape does.
    """
    return _color(_look(frames), _scene("shapes_color", prompt))


def shapes_background(frames: np.ndarray, prompt: str) -> float:
    """The share of the pixels around the shape that have the caption's background."""
    return _background(_look(frames), _scene("shapes_background", prompt))


def shapes_shape(frames: np.ndarray, prompt: str) -> float:
    """The share of the frames that show the caption's shape, and nothing beside it.

    A frame's largest region is compared with each ideal shape of the same area and centroid. It
    is the one whose intersection over union is largest, if that reaches `FIT`; a frame with a
    second blob, or with a shape that is far smaller or larger than in the clip's other frames,
    shows none.
    """
    return _shape(_look(frames), _scene("shapes_shape", prompt))


def shapes_direction(frames: np.ndarray, prompt: str) -> float:
    """1 if the shape moves where the caption says, steadily and far enough, else 0.

    Raises Unmeasured for a single frame.
    """
    scene = _scene("shapes_direction", prompt)
    _require_pairs("shapes_direction", frames)
    return _direction(_look(frames), scene)


def shapes_adherence(frames: np.ndarray, prompt: str) -> float:
    """Mean of the four above. Raises Unmeasured for a single frame."""
    scene = _scene("shapes_adherence", prompt)
    _require_pairs("shapes_adherence", frames)
    clip = _look(frames)
    return sum(score(clip, scene) for score in (_color, _background, _shape, _direction)) / 4


def coverage(
    shape: str, x: np.ndarray, y: np.ndarray, radius: np.ndarray, height: int, width: int
) -> np.ndarray:
    """How much of each pixel a shape covers: float64 (T, height, width) in [0, 1].

    ``x``, ``y`` and ``radius``, each (T,), are in pixels; the place is the centre of the bounding
    box, from the top left corner of the frame. The three shapes are about equally wide for one
    radius: a circle of that radius, a square of half side 0.9 radius, an upright equilateral
    triangle of circumradius 1.3 radius. Edges are antialiased over one pixel of the distance.
    """
    x, y, radius = (np.asarray(values)[:, None, None] for values in (x, y, radius))
    u = np.arange(width)[None, None, :] + 0.5 - x
    v = np.arange(height)[None, :, None] + 0.5 - y
    if shape == "circle":
        distance = np.hypot(u, v) - radius
    elif shape == "square":
        distance = np.maximum(np.abs(u), np.abs(v)) - 0.9 * radius
    else:
        below = v - 0.25 * 1.3 * radius  # from the centroid, which lies under the box's centre
        slant = np.sqrt(0.75) * np.abs(u) - 0.5 * below
        distance = np.maximum(slant, below) - 0.5 * 1.3 * radius
    return np.clip(0.5 - distance, 0, 1)


AREAS = {"circle": np.pi, "square": 1.8**2, "triangle": 0.75 * np.sqrt(3) * 1.3**2}
"""Area of each shape of radius 1."""


@dataclass(frozen=True)
class _Clip:
    """What there is to see: ``mask`` (T, H, W) is each frame's largest region that is not
    background, ``others`` what else is as solid; ``alone`` (T,) says that the region has next to
    nothing beside it, however faint.
    """

    frames: np.ndarray
    mask: np.ndarray
    others: np.ndarray
    alone: np.ndarray


def _scene(name: str, prompt: str) -> Scene:
    if (scene := read(prompt)) is None:
        raise Unmeasured(
            f"{name}: {prompt!r} names no scene of one shape; ask for one such as "
            f"{Scene('red', 'circle', 'left', 'blue').caption()!r} (prompts='shapes')"
        )
    return scene


def _require_pairs(name: str, frames: np.ndarray) -> None:
    if len(frames) < 2:
        raise Unmeasured(f"{name}: a video of one frame has no direction; it needs num_frames=2")


def _look(frames: np.ndarray) -> _Clip:
    """Split each frame into background, the largest thing on it, and the rest."""
    edge = np.concatenate([frames[:, :2], frames[:, -2:]], axis=1).reshape(-1, 3)
    sides = np.concatenate([frames[:, :, :2], frames[:, :, -2:]], axis=2).reshape(-1, 3)
    background = np.median(np.concatenate([edge, sides]), axis=0)
    distance = np.linalg.norm(frames - background, axis=-1)
    seen = distance > SEEN
    solid = seen
    if seen.any():  # half way to the shape's own colour is where its edge lies
        solid = distance > max(SEEN, float(np.median(distance[seen])) / 2)
    mask = np.stack([_largest(frame) for frame in solid])
    beside = seen & _away(mask)  # a ghost is fainter than the shape
    area = mask.sum((1, 2))
    alone = (area > 0) & (area >= ONE_SHAPE * (area + beside.sum((1, 2))))
    return _Clip(frames, mask, solid & ~mask, alone)


def _largest(seen: np.ndarray) -> np.ndarray:
    """The largest 4-connected region of a boolean (H, W)."""
    labels, count = ndimage.label(seen)
    if not count:
        return seen
    largest: np.ndarray = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    return largest


def _color(clip: _Clip, scene: Scene) -> float:
    inner = ndimage.binary_erosion(clip.mask, np.ones((1, 3, 3)))
    return _share(clip.frames, inner | clip.others, COLORS, scene.color)


def _background(clip: _Clip, scene: Scene) -> float:
    return _share(clip.frames, _away(clip.mask), BACKGROUNDS, scene.background)


def _away(mask: np.ndarray) -> np.ndarray:
    """What lies beyond a shape's blended edge: further than 2 pixels from it."""
    away: np.ndarray = ~ndimage.binary_dilation(mask, np.ones((1, 5, 5)))
    return away


def _share(
    frames: np.ndarray, where: np.ndarray, palette: dict[str, tuple[int, int, int]], name: str
) -> float:
    """The share of the pixels ``where`` that have ``palette[name]``, mean over frames."""
    colors = np.array(list(palette.values()), dtype=np.float64)
    shares = []
    for frame, those in zip(frames, where, strict=True):
        away = np.linalg.norm(frame[those][:, None] - colors, axis=-1)
        right = away.argmin(1) == list(palette).index(name)
        shares.append(np.mean(right & (away.min(1) <= NEAR)) if len(away) else 0.0)
    return float(np.mean(shares))


def _shape(clip: _Clip, scene: Scene) -> float:
    area = clip.mask.sum((1, 2))
    part = area / clip.mask[0].size
    usual = np.abs(area - np.median(area)) <= STABLE * np.median(area)
    valid = clip.alone & usual & (part >= SIZE[0]) & (part <= SIZE[1])
    if not valid.any():
        return 0.0
    fits = _fits(clip.mask[valid])
    right = (fits.argmax(0) == SHAPES.index(scene.shape)) & (fits.max(0) >= FIT)
    return float(right.sum() / len(area))


def _fits(mask: np.ndarray) -> np.ndarray:
    """Intersection over union with each ideal shape, (3, T), of regions (T, H, W)."""
    area = mask.sum((1, 2))
    x, y = _centroids(mask)
    fits = []
    for shape in SHAPES:
        radius = np.sqrt(area / AREAS[shape])
        low = 0.25 * 1.3 * radius if shape == "triangle" else 0
        ideal = coverage(shape, x, y - low, radius, *mask.shape[1:]) > 0.5
        fits.append((mask & ideal).sum((1, 2)) / (mask | ideal).sum((1, 2)))
    return np.stack(fits)


def _centroids(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and y, each (T,), in pixels from the top left corner; no region may be empty."""
    area = mask.sum((1, 2))
    x = (mask.sum(1) * (np.arange(mask.shape[2]) + 0.5)).sum(1) / area
    y = (mask.sum(2) * (np.arange(mask.shape[1]) + 0.5)).sum(1) / area
    return x, y


def _direction(clip: _Clip, scene: Scene) -> float:
    if not clip.mask.any((1, 2)).all():
        return 0.0
    steps = np.diff(np.stack(_centroids(clip.mask), axis=1), axis=0)  # (T − 1, 2)
    net, path = steps.sum(0), np.linalg.norm(steps, axis=1).sum()
    along = float(net @ np.array(DIRECTIONS[scene.direction]))
    across = float(np.abs(net).min())
    far = along >= TRAVEL * min(clip.mask.shape[1:])
    return float(far and along >= 2 * across and along >= STRAIGHT * path)
