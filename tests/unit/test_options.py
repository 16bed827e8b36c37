from dataclasses import fields
from pathlib import Path

import pytest

from pytest_vdb.errors import BadSetting
from pytest_vdb.flags import OPTIONS
from pytest_vdb.marker import marker_layer
from pytest_vdb.options import Layers, Settings
from pytest_vdb.readers import device, duration, literal


def mark(**kwargs):
    return pytest.mark.vdb(**kwargs).mark


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("20min", 1200), ("2h", 7200), ("500ms", 0.5), (3, 3)],
)
def test_durations(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-3s", "0", "inf", "nan", True, None])
def test_no_durations(text):
    with pytest.raises(BadSetting, match="20min"):
        duration(text)


@pytest.mark.parametrize("text", ["tpu", "cuda:x", "cpu:0", "CUDA"])
def test_no_devices(text):
    with pytest.raises(BadSetting, match="cuda:0"):
        device(text)


def test_literals_of_the_command_line():
    assert [literal(t) for t in ("8", "3.5", "true", "None", "fp8")] == [8, 3.5, True, None, "fp8"]


def test_later_layers_win_and_mappings_merge_key_by_key():
    settings = Settings.merge(
        {"gate": "warn", "call": {"a": 1, "b": 1}}, {"call": {"b": 2}}, {"gate": "off"}
    )
    assert settings.gate == "off"
    assert settings.call == {"a": 1, "b": 2}


def test_a_marker_is_a_layer():
    layer = marker_layer(mark(num_seeds=3, num_frames=5, call={"x": 1}, timeout="2min"))
    assert layer == {"seeds": (0, 1, 2), "call": {"num_frames": 5, "x": 1}, "timeout": 120.0}


def test_under_a_ref_a_marker_tightens_and_does_not_loosen():
    marks = [{"missing": "warn", "inconclusive": "fail"}]
    assert Layers({}, {"missing": "fail"}, Path()).resolve([{}]).missing == "fail"
    ini = {"missing": "fail"}
    assert Layers(ini, {}, Path()).resolve(marks).missing == "warn"
    found = Layers(ini, {"baseline_ref": "main"}, Path()).resolve(marks)
    assert (found.missing, found.inconclusive) == ("fail", "fail")
    assert found.overruled == ("missing='warn'",)
    warning = Layers({"missing": "warn"}, {"baseline_ref": "main"}, Path()).resolve(marks)
    assert (warning.missing, warning.overruled) == ("warn", ())


def test_every_option_has_its_setting():
    assert {option.target for option in OPTIONS} <= {field.name for field in fields(Settings)}
