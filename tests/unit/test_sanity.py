"""Sanity checks fire on what nobody would accept, and leave dark and quiet videos alone."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest

from pytest_vdb.metrics.sanity import check

ASKED = {"num_frames": 17, "height": 64, "width": 64}


def moving(frames=17, side=64):
    """A grating that drifts by 2 pixels a frame."""
    y, x = np.mgrid[:side, :side]
    waves = [np.sin((x + y / 2 + 2 * t) / 5) for t in range(frames)]
    return np.rint(np.stack([[128 + 90 * w] * 3 for w in waves])).transpose(0, 2, 3, 1).astype("u1")


def names(frames, nonfinite=0, expected=None):
    return [f.name for f in check(frames, nonfinite=nonfinite, expected=expected or {})]


def coded(frames, codec="libx264", pixels="yuv420p", **options):
    """``frames`` after a lossy codec, as a recorded video would come back."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=16, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixels
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def test_a_moving_video_of_the_right_size_is_sane():
    assert check(moving(), expected=ASKED) == ()


def test_nonfinite_values_are_counted():
    (fault,) = check(moving(), nonfinite=12, expected=ASKED)
    assert str(fault) == "nonfinite: 12 values were NaN or infinite before quantisation"


def test_another_number_of_frames():
    (fault,) = check(moving(16), expected=ASKED)
    assert fault.name == "frames"
    assert "16 frames where num_frames=17 was asked for" in fault.message
    (fault,) = check(moving(16), expected={"video_length": 17})
    assert "video_length=17" in fault.message


def test_another_size():
    (fault,) = check(moving(side=48), expected={"height": 64, "width": 48})
    assert str(fault).startswith("size: height 48 where height=64 was asked for")
    assert names(moving(side=48), expected=ASKED) == ["size"]


def test_what_was_not_asked_for_is_not_checked():
    assert names(moving(5), expected={"height": None, "num_frames": None}) == []


def test_a_video_without_frames():
    assert names(moving()[:0]) == ["frames"]


def test_black_and_almost_black():
    random = np.random.Generator(np.random.PCG64(0))
    glow = random.integers(0, 11, (17, 64, 64, 3), np.uint8)
    assert names(glow) == ["black"]
    assert "black" in names(np.zeros_like(glow))
    glow[5, :, :, 2] = 0
    glow[5, 20:24, 20:24, 2] = 90  # a spark of 16 pixels in one frame is something to see
    assert names(glow) == []


@pytest.mark.parametrize("gain", [1.0, 0.5, 0.15])
def test_a_dark_video_is_not_black(gain):
    assert names((moving() * gain).astype(np.uint8)) == []


@pytest.mark.parametrize("colour", [(128, 128, 128), (255, 255, 255), (20, 90, 200)])
def test_one_colour_is_blank_also_when_it_changes_over_time(colour):
    still = np.full((17, 64, 64, 3), colour, np.uint8)
    assert "blank" in names(still)
    pulsing = (still * np.linspace(0.3, 1, 17)[:, None, None, None]).astype(np.uint8)
    assert names(pulsing) == ["blank"]


def test_frozen_says_what_it_measured():
    (fault,) = check(np.repeat(moving(1), 17, axis=0), expected=ASKED)
    assert (
        str(fault) == "frozen: the 16 adjacent differences are at most 0 of 255: one still picture"
    )


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"crf": "18"}),
        ("libx264", {"crf": "35"}),
        ("libx264", {"crf": "28", "g": "8"}),
        ("mpeg4", {}),
    ],
)
def test_a_frozen_video_is_frozen_after_a_codec_and_a_moving_one_is_not(codec, options):
    video = moving(33)
    assert names(coded(np.repeat(video[:1], 33, axis=0), codec, **options)) == ["frozen"]
    assert names(coded(video, codec, **options)) == []


def test_one_frame_cannot_be_frozen():
    assert names(moving(1)) == []


def test_a_small_motion_in_a_still_scene_is_motion():
    video = np.repeat(moving(1, side=128), 17, axis=0)
    for t in range(17):
        video[t, 40:52, 30 + t : 42 + t] = 250  # 12×12 pixels that move by one a frame
    assert names(video) == []


def test_a_frozen_second_half_is_frozen_and_a_short_hold_is_not():
    video = moving()
    held = video.copy()
    held[9:] = held[8]
    (fault,) = check(held, expected=ASKED)
    assert fault.message.startswith("the last 8 of 16 adjacent differences")
    held = video.copy()
    held[12:] = held[11]
    assert names(held) == []


def test_frames_shown_twice_are_not_frozen():
    assert names(np.repeat(moving(9), 2, axis=0)) == []


def speckled(frames, share, seed=0):
    """One grey level added to ``share`` of all values, others in every frame: a codec's noise."""
    random = np.random.Generator(np.random.PCG64(seed))
    return frames + (random.random(frames.shape) < share).astype(np.uint8)


def test_a_still_with_noise_in_every_pair_is_frozen():
    still = np.repeat(moving(1), 17, axis=0)
    assert names(speckled(still, 0.1)) == ["frozen"]  # mean difference 0.18 in all 16 pairs
    assert names(speckled(still, 0.1)[:2]) == ["frozen"]


def test_one_colour_with_noise_is_blank_and_a_faint_picture_is_not():
    grey = np.full((17, 64, 64, 3), 128, np.uint8)
    ramp = np.arange(64, dtype=np.uint8)[:, None]
    assert "blank" in names(grey + ramp // 8)  # 8 grey levels from side to side
    assert "blank" not in names(grey + ramp // 4)
