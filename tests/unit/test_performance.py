"""From a finished run to its measurements: energy net of idle, carbon, ranks, absences."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_vdb.errors import BadSetting
from pytest_vdb.performance import Conditions, figure, known, measured, unknown_stage
from pytest_vdb.records import REPORTED, Kind, Missing, ModelSpec, Run, Sample

GPU = Conditions("cuda", "cuda")
SPEC = ModelSpec("wan", "diffusers", "org/wan")
EVERYTHING = frozenset({"latency", "cpu_time", "stages", "load", "memory", "energy", "latent"})


def sample(seed: int, **more) -> Sample:
    values = {"wall": 2.0, "energy": {"gpu0": 500.0}, "memory": {"allocated": 2**30}, **more}
    return Sample("fox", seed, "frames.npy", "0" * 64, (5, 32, 32, 3), **values)


def run(*samples: Sample, **more) -> Run:
    values = {"provides": EVERYTHING, "hooked": True, "idle_power": {"gpu0": 70.0}, **more}
    return Run(samples=samples or (sample(0), sample(1)), **values)


def test_energy_is_net_of_what_the_same_meter_draws_at_rest_and_says_so():
    found = measured("energy", SPEC, run(), GPU)
    assert found.numbers == [360.0, 360.0]  # 500 J - 70 W x 2 s
    assert "at rest: gpu0 70.0 W" in found.provenance.how
    assert measured("energy.gross", SPEC, run(), GPU).numbers == [500.0, 500.0]


def test_energy_below_idle_is_unmeasured():
    found = measured("energy", SPEC, run(idle_power={"gpu0": 300.0}), GPU)
    assert found.missing is Missing.UNMEASURED
    assert "less than its idle power" in found.reason


def test_energy_without_a_meter_says_why():
    silent = run(sample(0, energy={}), facts={"unmetered": "no counter here"})
    assert measured("energy", SPEC, silent, GPU).reason == "no counter here"


def test_carbon_is_net_energy_at_the_grids_intensity():
    found = measured("energy.co2", SPEC, run(), replace(GPU, grid=400.0))
    assert found.numbers == pytest.approx([0.04, 0.04])  # 360 J of 3.6 MJ, 400 g a kWh
    assert measured("energy.co2", SPEC, run(), GPU).missing is Missing.UNMEASURED


def test_energy_and_carbon_a_second_of_video():
    clip = run(sample(0, fps=10.0))  # 5 frames: half a second
    assert measured("energy.per_second", SPEC, clip, GPU).numbers == [720.0]
    grams = measured("energy.co2_per_second", SPEC, clip, replace(GPU, grid=400.0))
    assert grams.numbers == pytest.approx([0.08])
    silent = measured("energy.per_second", SPEC, run(), GPU)
    assert silent.missing is Missing.UNMEASURED
    assert "frames a second" in silent.reason


def test_a_value_that_one_sample_lacks_is_unmeasured():
    found = measured("memory.peak", SPEC, run(sample(0), sample(1, memory={})), GPU)
    assert found.missing is Missing.UNMEASURED
    assert found.reason == "not measured for fox/1"


def test_an_engines_own_words_are_marked():
    ranks = sample(0, memory={"allocated": 5, "rank.0": 4, "rank.1": 5}, reported=True)
    told = run(ranks, hooked=False)
    assert measured("memory.rank1", SPEC, told, GPU).numbers == [5]
    assert measured("memory.rank1", SPEC, told, GPU).provenance.version == REPORTED
    assert measured("latency", SPEC, told, GPU).provenance.version == REPORTED
    assert measured("latency", SPEC, run(), GPU).provenance.version == "1"


def test_the_first_call_is_apart_from_the_warm_ones():
    found = measured("latency.compile", SPEC, run(first_call=9.0), GPU)
    assert found.numbers == [7.0]
    later = measured("latency.first", SPEC, run(), GPU)
    assert later.missing is Missing.NOT_APPLICABLE
    assert "had generated before" in later.reason


def test_a_step_is_the_median_within_its_video():
    stepped = run(sample(0, steps=(3.0, 1.0, 1.2), stages={"denoise": 5.2}))
    assert measured("latency.step", SPEC, stepped, GPU).numbers == [1.2]


def test_names():
    assert figure("energy").kind is Kind.ENERGY
    assert known("latency.denoise")
    assert known("latency.my_stage")
    assert not known("latency.denois")
    with pytest.raises(BadSetting, match="did you mean 'throughput'"):
        figure("througput")
    assert "did you mean 'decode'" in unknown_stage("latency.decod", run())
    assert unknown_stage("latency.rank0", run())
    assert not unknown_stage("memory.rank0", run())
