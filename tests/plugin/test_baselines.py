"""--vdb-baselines, --vdb-store, --vdb-pool, --vdb-reference: where baselines lie and apply"""

import json

import pytest

pytestmark = pytest.mark.usefixtures("engine")

BODY = "def test_quality(vdb):\n    assert vdb.score('sharpness').mean > 0"
SAME = "def test_same(vdb):\n    assert vdb.score('ssim').min > 0.9"
SPEED = "def test_speed(vdb):\n    assert vdb.latency.cpu.median < 100"


def test_both_folders_can_be_elsewhere(suite):
    suite.write(SAME)
    places = ["--vdb-baselines=stored/here", "--vdb-store=media/there"]
    suite.run("--vdb-update", *places).assert_outcomes(passed=1)
    assert list((suite.root / "stored/here").glob("*/*/test_bench.json"))
    assert list((suite.root / "media/there").rglob("*.webp"))
    assert suite.states("--vdb-missing=fail", *places) == {"ssim": "IDENTICAL"}
    assert suite.states() == {"ssim": "NO_BASELINE"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"schema": 1, ', "*BaselineError: *test_bench.json is corrupt*git checkout*"),
        ('{"schema": 0}', "*BaselineError: *schema 0, of an older pytest-vdb*--vdb-update*"),
        ('{"schema": 3}', "*BaselineError: *schema 3, of a newer pytest-vdb*upgrade*"),
    ],
)
def test_a_file_that_cannot_be_trusted_fails_and_is_kept(suite, content, message):
    suite.write(BODY)
    suite.store()
    (path,) = suite.baselines
    path.write_text(content)
    for arguments in ((), ("--vdb-update",)):
        result = suite.run(*arguments)
        result.assert_outcomes(failed=1)
        assert result.ret == 1
        result.stdout.fnmatch_lines([message])
        result.stdout.no_fnmatch_line("*Traceback*")
        assert path.read_text() == content


def test_a_medium_that_is_gone_or_altered_fails(suite):
    suite.write(SAME)
    suite.store()
    for medium in (suite.root / "baselines/media").rglob("*.webp"):
        medium.write_bytes(b"altered")
    result = suite.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*LostMedium: *does not match its name*"])
    for medium in (suite.root / "baselines/media").rglob("*.webp"):
        medium.unlink()
    result = suite.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*LostMedium: *fetch the store*"])


def test_a_sample_that_the_baseline_lacks_is_unmeasured(suite):
    suite.write(BODY)
    suite.store()

    def drop(data):
        (workload,) = data["workloads"].values()
        for session in workload["measurements"]["sharpness"]["sessions"].values():
            session.popitem()

    suite.edit_baseline(drop)
    result = suite.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*UNMEASURED sharpness*Samples without a partner*"])


def test_latency_belongs_to_its_pool_and_quality_to_none(suite):
    suite.model()
    suite.write(BODY + "\n\n" + SPEED)
    suite.run("--vdb-update", "--vdb-pool=lab", "--vdb-tolerance=latency.cpu=90%")
    states = suite.states("--vdb-pool=lab", "--vdb-tolerance=latency.cpu=90%")
    assert states["latency.cpu"] in ("PASS", "IMPROVEMENT", "INCONCLUSIVE")
    states = suite.states("--vdb-pool=office", "--vdb-require")
    assert states == {"sharpness": "IDENTICAL", "latency.cpu": "NO_BASELINE"}


def test_a_large_video_keeps_a_preview_unless_lossless_is_asked_for(suite):
    large = "prompts=['a fox'], num_frames=9, height=160, width=256, num_inference_steps=1"
    suite.write(SAME, large)
    (suite.root / "benchmarks/test_bench.py").write_text(
        f"import pytest\n\n@pytest.mark.vdb(max_sequence_length=64, {large})\n" + SAME
    )
    suite.run("--vdb-update", "--vdb-reference=latent").assert_outcomes(passed=1)
    assert _roles(suite) == {"frames", "latent", "preview"}
    result = suite.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Unmeasured: ssim*--vdb-reference=lossless*"])
    suite.run("--vdb-update", "--vdb-update-mode=all", "--vdb-reference=lossless")
    assert _roles(suite) == {"frames", "latent", "video"}
    suite.run("--vdb-missing=fail").assert_outcomes(passed=1)


def _roles(suite):
    (path,) = suite.baselines
    (workload,) = json.loads(path.read_text())["workloads"].values()
    (media,) = workload["media"].values()
    return set(media) - {"trace"}
