import json

import pytest

from pytest_vdb.baseline.identity import benchmark_name, difference, relative_path
from pytest_vdb.names import slug
from pytest_vdb.records import (
    Baseline,
    Environment,
    Kind,
    Measurement,
    Missing,
    ModelSpec,
    Prompt,
    Provenance,
    Sample,
    Session,
    State,
    Stored,
    Value,
    Verdict,
    Workload,
)

WORKLOAD = Workload((Prompt("a", "a fox"), Prompt("b", "a cat")), (0, 1), {"num_frames": 5})


@pytest.mark.parametrize(
    "record",
    [
        ModelSpec("m", "factory", "a:b", call={"x": 1}),
        WORKLOAD,
        Sample("a", 0, "f.npy", "00", (5, 8, 8, 3), memory={"allocated": 3}),
        Measurement(
            "m",
            "s",
            "lower",
            Kind.MEMORY,
            "max",
            (Value("a", None, 1.5),),
            Provenance("how"),
            Missing.UNMEASURED,
            "why",
        ),
        Verdict(State.PASS, "why", 0.1, (0.0, 0.2), True, "5%", 0.01, 8, 1.0),
        Baseline(
            WORKLOAD,
            {"2026": Session("2026", "abc", {"torch": "2"})},
            {"m": Stored("s", "lower", {"version": "1", "weights": None}, {"2026": {"a/0": 1.0}})},
            {"a/0": {"frames": "00"}},
        ),
    ],
    ids=lambda r: type(r).__name__,
)
def test_json_round_trip(record):
    assert type(record).from_json(json.loads(json.dumps(record.to_json()))) == record


def test_the_hash_follows_what_is_asked_for():
    same = Workload.from_json(json.loads(json.dumps(WORKLOAD.to_json())))
    assert same.hash == WORKLOAD.hash
    others = [
        Workload(WORKLOAD.prompts[:1], (0, 1), {"num_frames": 5}),
        Workload(WORKLOAD.prompts, (0, 2), {"num_frames": 5}),
        Workload(WORKLOAD.prompts, (0, 1), {"num_frames": 6}),
        Workload(WORKLOAD.prompts, (0, 1), {"num_frames": 5}, dtype="bfloat16"),
        Workload(WORKLOAD.prompts, (0, 1), {"num_frames": 5}, options={"num_threads": 2}),
    ]
    assert len({w.hash for w in (WORKLOAD, *others)}) == 6
    assert [difference(w, [WORKLOAD]) for w in others[2:]] == [
        "num_frames 5 → 6",
        "dtype float32 → bfloat16",
        "num_threads unset → 2",
    ]


def test_jobs_are_prompts_by_seeds():
    assert [(p.id, s) for p, s in WORKLOAD.jobs] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]


def test_environment_key_is_readable_and_follows_every_field():
    a = Environment({"device": "NVIDIA H200", "torch": "torch2.13"})
    b = Environment({"device": "NVIDIA H200", "torch": "torch2.14"})
    assert a.key.startswith("nvidia-h200-torch2.13-")
    assert a.key != b.key
    assert a.key == Environment(dict(a.identity), {"date": "today"}).key


@pytest.mark.parametrize("text", ["org/name", "../../etc", "a b", "..", "/", "ünï", "mod:fn", ""])
def test_slugs_stay_in_their_folder(text):
    assert "/" not in slug(text)
    assert slug(text) not in ("", ".", "..")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tiny-wan", "tiny-wan"),
        ("test_speed.v2", "test_speed.v2"),
        ("pkg.module:function", "pkg.module-function"),
        ("org/name", "org-name"),
        ("a b", "a-b-c8687a"),
        ("模型", "unnamed-c98e11"),
    ],
)
def test_readable_slugs_stay_and_others_say_that_they_were_changed(text, expected):
    assert slug(text) == expected


def test_other_names_have_other_slugs():
    names = ["模型", "影片", "a b", "a-b", "a_b", "a--b", "a-b-", "a/b/c", "a-b-c", "", "..", "."]
    names += ["test_видео", "test_квант", "test_", "\udcff"]
    assert len({slug(name) for name in names}) == len(names)
    assert benchmark_name("test_видео.py::test_x") != benchmark_name("test_квант.py::test_x")


def test_environment_keys_carry_one_hash_alone():
    identity = {"device": "cpu", "torch": "torch2.13", "diffusers": "diffusers0.42"}
    assert Environment(identity).key == "cpu-torch2.13-diffusers0.42-bd3ba8"
    assert Environment({"device": "NVIDIA H200"}).key.count("-") == 2


def test_where_a_baseline_lies():
    environment = Environment({"device": "cpu"})
    path = relative_path("org/m", environment, "benchmarks/wan/test_speed.py::test_x[m]")
    assert path == f"org-m/{environment.key}/wan/test_speed.json"
    assert benchmark_name("test_a.py::test_x") == "test_a"
    assert benchmark_name("tests/test_a.py::test_x") == "tests/test_a"
