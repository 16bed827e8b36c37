"""Looking metrics up, handing them in, and what may come out of one."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

from pytest_vdb import metrics
from pytest_vdb.cli import main
from pytest_vdb.errors import BadSetting, UnknownMetric, Unmeasured
from pytest_vdb.metrics.installed import installed
from pytest_vdb.metrics.registry import Metrics, MetricSpec, evaluate, gather
from pytest_vdb.records import Kind

KINDS = dict.fromkeys(("reference", "latent"), Kind.DISTANCE) | dict.fromkeys(
    ("frames", "prompt"), Kind.SCORE
)
VIDEO = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (4, 16, 16, 3), np.uint8)


def brightness(frames):
    return frames.mean() / 255


def echo(frames, prompt):
    return len(prompt) / 100


def spec(**changes):
    base = MetricSpec(
        name="brightness",
        unit="fraction",
        direction="higher",
        kind=Kind.SCORE,
        needs="frames",
        version="1",
        range=(0.0, 1.0),
        summary="mean of all values",
        how="mean of all values / 255",
        compute=brightness,
    )
    return replace(base, **changes)


def test_a_metric_that_was_handed_in_is_found_and_computed():
    metrics = Metrics(gather([[spec()], ()]))
    assert evaluate(metrics.find("brightness"), VIDEO) == pytest.approx(VIDEO.mean() / 255)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownMetric, match="no metric 'ssmi': did you mean 'ssim'"):
        Metrics().find("ssmi")


def test_a_name_that_is_taken_is_refused():
    with pytest.raises(BadSetting, match="two metrics are called 'ssim'"):
        Metrics([spec(name="ssim")])
    with pytest.raises(BadSetting, match="two metrics are called 'brightness'"):
        Metrics([spec(), spec(summary="another")])


def test_the_same_metric_from_two_sides_is_one():
    assert sum(metric == spec() for metric in Metrics([spec(), spec()])) == 1


OFFERED = """
    from pytest_vdb import Kind, MetricSpec

    def brightness(frames):
        return frames.mean() / 255

    SPECS = (
        MetricSpec(
            name="installed_brightness", unit="fraction", direction="higher", kind=Kind.SCORE,
            needs="frames", version="1", range=(0.0, 1.0), summary="from a package", how="mean",
            compute=brightness,
        ),
    )

    def offer():
        return list(SPECS)

    def nothing():
        return None

    ANOTHER_SSIM = [__import__("dataclasses").replace(SPECS[0], name="ssim")]
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Installs a distribution: a module, and the metadata that pip would write beside it."""

    def write(value: str, name: str = "bright-metrics") -> None:
        (tmp_path / "bright_metrics.py").write_text(dedent(OFFERED))
        metadata = tmp_path / f"{name.replace('-', '_')}-2.1.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.1\n")
        (metadata / "entry_points.txt").write_text(f"[pytest_vdb.metrics]\nbright = {value}\n")

    monkeypatch.syspath_prepend(str(tmp_path))
    installed.cache_clear()
    yield write
    installed.cache_clear()
    sys.modules.pop("bright_metrics", None)


@pytest.mark.parametrize("value", ["bright_metrics:offer", "bright_metrics:SPECS"])
def test_installed_packages_metrics_are_known_to_library_and_command(install, capsys, value):
    install(value)
    scores = metrics.evaluate([VIDEO], ["installed_brightness"])
    assert scores.values("installed_brightness") == (pytest.approx(VIDEO.mean() / 255),)
    assert main(["metrics", "installed_brightness"]) == 0
    assert "from a package" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("bright_metrics:missing", "cannot be loaded: AttributeError"),
        ("no_such_module:offer", "cannot be loaded: ModuleNotFoundError"),
        ("bright_metrics:brightness", "cannot be loaded: TypeError"),
        ("bright_metrics:nothing", r"returned None; return a list: \[MetricSpec"),
    ],
)
def test_a_broken_entry_point_names_its_distribution(install, value, message):
    install(value)
    with pytest.raises(BadSetting, match=f"^bright-metrics 2.1: its entry point .*{message}"):
        Metrics()


def test_two_of_one_name_are_told_with_their_distributions(install):
    install("bright_metrics:SPECS")
    with pytest.raises(BadSetting, match=r"of bright-metrics 2\.1 and .* of pytest_vdb_metrics;"):
        Metrics([spec(name="installed_brightness")])
    installed.cache_clear()
    install("bright_metrics:ANOTHER_SSIM", name="other-metrics")
    with pytest.raises(BadSetting, match=r"'ssim'.* of pytest-vdb and .* of other-metrics 2\.1"):
        Metrics()


@pytest.mark.parametrize("result", [spec(), None, ["brightness"], "brightness", [None]])
def test_a_hook_that_returns_no_list_of_specs_is_refused(result):
    with pytest.raises(BadSetting, match=r"return a list: \[MetricSpec"):
        gather([result])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "My Score"}, "lower-case"),
        ({"direction": "up"}, "'higher' or 'lower'"),
        ({"needs": "refernce"}, "did you mean 'reference'"),
        ({"kind": Kind.DISTANCE}, "baseline's video and Kind.SCORE for any other"),
        ({"kind": Kind.DISTANCE, "needs": "prompt"}, "Kind.SCORE for any other"),
        ({"needs": "reference"}, "Kind.DISTANCE for a metric that compares"),
        ({"range": (1.0, 0.0)}, "lowest, highest"),
        ({"range": (math.nan, 1.0)}, "lowest, highest"),
        ({"compute": "brightness"}, "not callable"),
    ],
)
def test_a_spec_that_cannot_mean_anything_is_refused(changes, message):
    with pytest.raises(BadSetting, match=message):
        spec(**changes)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (math.nan, "the result is nan"),
        (math.inf, "the result is inf"),
        (1.5, "outside its range 0 to 1"),
        (-0.1, "outside its range 0 to 1"),
        (None, "gave a NoneType"),
        (np.ones(3), "gave a ndarray"),
    ],
)
def test_what_is_no_number_in_the_range_is_unmeasured(result, message):
    with pytest.raises(Unmeasured, match=message):
        evaluate(spec(compute=lambda frames: result), VIDEO)


@pytest.mark.parametrize(
    "frames",
    [VIDEO.astype(np.float32), VIDEO[0], VIDEO[..., :1], VIDEO[:0], VIDEO.transpose(0, 3, 1, 2)],
)
def test_what_is_no_video_is_unmeasured(frames):
    with pytest.raises(Unmeasured, match="a video is uint8 of shape"):
        evaluate(spec(), frames)


def test_another_shape_of_the_reference_is_unmeasured_and_names_both():
    with pytest.raises(Unmeasured, match=r"\(4, 16, 16, 3\) and its reference \(3, 16, 16, 3\)"):
        evaluate(Metrics().find("psnr"), VIDEO, reference=VIDEO[:3])
    with pytest.raises(Unmeasured, match=r"\(2, 3\) and its reference \(3, 2\)"):
        evaluate(
            Metrics().find("latent_cosine"),
            VIDEO,
            latent=np.ones((2, 3)),
            reference_latent=np.ones((3, 2)),
        )


def test_without_a_reference_a_distance_is_unmeasured():
    with pytest.raises(Unmeasured, match="no reference video"):
        evaluate(Metrics().find("psnr"), VIDEO)
    with pytest.raises(Unmeasured, match="this source gives no latent"):
        evaluate(Metrics().find("latent_cosine"), VIDEO, reference_latent=np.ones(3))


def test_a_metric_of_the_prompt_gets_its_text_and_without_one_is_unmeasured():
    metric = spec(needs="prompt", compute=echo)
    assert evaluate(metric, VIDEO, prompt="a red fox") == 0.09
    assert evaluate(metric, VIDEO, prompt="") == 0  # a text of no letters is a text
    for nothing in (None, ["a red fox"]):
        with pytest.raises(Unmeasured, match=r"brightness: .* is no text; give prompt='the text"):
            evaluate(metric, VIDEO, prompt=nothing)
    assert evaluate(spec(), VIDEO, prompt=None) == evaluate(spec(), VIDEO, prompt="a red fox")


def test_only_a_metric_with_a_reference_compares():
    compares = {needs: spec(needs=needs, kind=kind).compares for needs, kind in KINDS.items()}
    assert compares == {"frames": False, "prompt": False, "reference": True, "latent": True}


def test_specs_travel_to_other_processes():
    for metric in Metrics():
        assert pickle.loads(pickle.dumps(metric)) == metric


def test_provenance_says_how_and_with_what():
    provenance = Metrics().find("psnr").provenance()
    assert "100 dB" in provenance.how
    assert provenance.package.startswith("torchmetrics ")
    assert spec().provenance().package == ""


def test_looking_up_imports_nothing_heavy():
    code = (
        "import sys; from pytest_vdb.metrics.registry import Metrics; Metrics().find('ssim');"
        "print([m for m in ('torch', 'numpy', 'torchmetrics', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_scores_need_no_torch():
    code = (
        "import sys, numpy; from pytest_vdb.metrics.registry import Metrics, evaluate;"
        "video = numpy.zeros((3, 16, 16, 3), numpy.uint8);"
        "text = 'a red circle moves left on a white background';"
        "[evaluate(m, video, prompt=text) for m in Metrics()"
        " if not (m.compares or m.networks or 'audio' in m.needs)];"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
