"""Could two sets of videos be exchanged, pair by pair?"""

from types import SimpleNamespace

import numpy as np
import pytest

from pytest_vdb.gate import StoredSession, judge
from pytest_vdb.gate.policy import Tolerance
from pytest_vdb.metrics.engine import Extractor
from pytest_vdb.metrics.features import Feature
from pytest_vdb.metrics.video import Video
from pytest_vdb.records import Kind, Measurement, State, Value
from pytest_vdb.swapped import told


def colours(frames):
    return frames.reshape(len(frames), -1, 3).mean(axis=1)


SPEC = SimpleNamespace(features=(Feature("colours", colours),))


@pytest.fixture
def videos():
    rng = np.random.default_rng(0)
    prompts = rng.integers(40, 200, (32, 1, 1, 1, 3))

    def generate(shift):
        noise = rng.integers(0, 9, (32, 2, 8, 8, 3))
        return [Video((video + shift).astype(np.uint8)) for video in prompts + noise]

    return generate


def test_a_rerun_is_the_same_set_and_a_tint_is_another(videos):
    base = videos(0)
    assert told(SPEC, videos(0), base, Extractor()).startswith("no other set than chance")
    assert told(SPEC, videos(3), base, Extractor()).startswith("another set of videos (p 0.0001")
    assert told(SPEC, videos(3)[:31], base[:31], Extractor()) == ""  # too few to say


def series(kind, note=""):
    return Measurement("set", "1", "lower", kind, "mean", (Value("", None, 5.0),), note=note)


def test_a_distance_of_sets_tells_it_and_convicts_nobody():
    how = {"tolerance": Tolerance(0.02), "guard_m": 200}
    verdict = judge(series(Kind.DISTANCE, "another set of videos"), [], **how)
    assert verdict.state is State.PASS
    assert verdict.reason.endswith("decide; another set of videos")


def test_one_number_of_a_set_is_not_judged():
    how = {"tolerance": Tolerance(0.02), "guard_m": 200}
    verdict = judge(series(Kind.SCORE), [StoredSession({"run": 9.0})], **how)
    assert verdict.state is State.NOT_APPLICABLE
    assert "assert a limit on it" in verdict.reason
