"""--vdb-videos: clips that were made elsewhere"""

import json
import shutil
from pathlib import Path

import pytest

from pytest_vdb.errors import SourceError
from pytest_vdb.models import comfyui

QUALITY = """
def test_speed(vdb):
    assert vdb.latency.median < 1
    assert vdb.memory.peak < 1

def test_quality(vdb):
    assert vdb.score("temporal_flickering").mean > 0.5
    assert vdb.score("motion_energy").min > 0.001

def test_similarity(vdb):
    assert vdb.score("psnr").min > 30
"""


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """Real clips of video models, with their prompts, from the installed packages."""
    folder = tmp_path_factory.mktemp("published")
    try:
        comfyui.build(folder)
    except SourceError as error:
        pytest.skip(str(error))
    return folder


@pytest.fixture
def clips(published, suite):
    """Three of them, the smallest, beside a suite."""
    lines = [json.loads(x) for x in (published / "prompts.jsonl").read_text().splitlines()]
    wanted = sorted(lines, key=lambda e: e["num_frames"] * e["height"] * e["width"])[:3]
    folder = suite.root / "clips"
    folder.mkdir()
    for entry in wanted:
        shutil.copy(published / entry["file"], folder)
        entry["model"] = "published"
    (folder / "prompts.jsonl").write_text("".join(json.dumps(e) + "\n" for e in wanted))
    return folder


def run(suite, *args):
    return suite.pytester.runpytest_inprocess(
        "-p", "no:cacheprovider", "benchmarks", "--vdb-videos=clips", *args
    )


def test_real_clips_are_gated(suite, clips):
    suite.write(QUALITY)
    run(suite, "--vdb-update").assert_outcomes(passed=2, skipped=1)
    result = run(suite, "--vdb-missing=fail")
    result.assert_outcomes(passed=2, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "vdb: published on cpu*",
            "test_quality?published?",
            "  temporal_flickering * none *IDENTICAL",
            "  psnr *100 dB *IDENTICAL",
        ]
    )
    result = run(suite, "--vdb-missing=fail", "-rs")
    result.stdout.fnmatch_lines(["*not applicable: latency, memory.peak*"])


def test_the_shipped_benchmark_on_published_clips(suite, published):
    """Wan 2.1, LTX, SVD and HunyuanVideo, one clip each, with their prompts."""
    wanted = (
        "text_to_video_wan",
        "ltxv_image",
        "txt_to_image_to_video",
        "hunyuan_video_1.5_720p_i2v",
    )
    lines = (published / "prompts.jsonl").read_text().splitlines()
    chosen = [x for x in lines if any(name in json.loads(x)["file"] for name in wanted)]
    assert len(chosen) == 4
    (published / "few").mkdir()
    for line in chosen:
        shutil.copy(published / json.loads(line)["file"], published / "few")
    (published / "few/prompts.jsonl").write_text("\n".join(chosen))
    shipped = Path(__file__).parents[2] / "benchmarks/test_text_to_video.py"
    shutil.copytree(shipped.parent, suite.root / "benchmarks")
    arguments = ["-p", "no:cacheprovider", "benchmarks", f"--vdb-videos={published / 'few'}"]
    result = suite.pytester.runpytest_inprocess(*arguments)
    result.assert_outcomes(passed=8, skipped=12)
    for model in ("wan2.1", "ltx-0.9.5", "svd", "hunyuan-video-1.5"):
        result.stdout.fnmatch_lines([f"test_quality?{model}?", "  temporal_flickering *"])


def test_a_changed_clip_is_seen(suite, clips):
    suite.write(QUALITY)
    run(suite, "--vdb-update")
    first, second = sorted(clips.glob("*.webp"))[:2]
    entries = [json.loads(x) for x in (clips / "prompts.jsonl").read_text().splitlines()]
    for entry in entries:
        if entry["file"] == first.name:
            other = next(e for e in entries if e["file"] == second.name)
            entry.update({k: other[k] for k in ("num_frames", "height", "width")})
    (clips / "prompts.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))
    shutil.copy(second, first)
    assert run(suite, "--vdb-missing=fail").ret == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: f.write_bytes(f.read_bytes()[:2000]), "*UnreadableClip: *"),
        (lambda f: f.write_bytes(b""), "*UnreadableClip: *"),
        (lambda f: f.write_bytes(b"no video at all"), "*UnreadableClip: *"),
    ],
)
def test_an_unreadable_clip_fails(suite, clips, damage, message):
    suite.write(QUALITY)
    damage(sorted(clips.glob("*.webp"))[0])
    result = run(suite, "-k", "quality")
    result.assert_outcomes(failed=1, deselected=2)
    result.stdout.fnmatch_lines([message])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_folder_without_a_manifest_is_a_usage_error(suite):
    suite.write(QUALITY)
    (suite.root / "clips").mkdir()
    result = run(suite)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: *prompts.jsonl*"])


def test_a_file_outside_the_folder_is_refused(suite):
    suite.write(QUALITY)
    (suite.root / "clips").mkdir()
    (suite.root / "secret.mp4").write_bytes(b"x")
    (suite.root / "clips/prompts.jsonl").write_text('{"file": "../secret.mp4", "prompt": "a"}\n')
    result = run(suite)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: *secret.mp4*"])
