"""Splitting a suite, reading shards' records back, and the example of a CI matrix."""

import copy
import json
import re
from pathlib import Path

import pytest
import yaml

from pytest_vdb import cli
from pytest_vdb.baseline.shard import ShardRun, read, together
from pytest_vdb.errors import BadRun
from pytest_vdb.merge_command import exit_code
from pytest_vdb.parallel.shards import Need, plain, selection, split

ROOT = Path(__file__).parents[2]


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import shard_study

    return shard_study


@pytest.fixture
def suite(study):
    """Tests of some models on some workloads each, in no order, with seconds for most."""
    return study.suite


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_each_test_is_in_one_shard_and_no_workload_is_parted(suite, count):
    for seed in range(40):
        needs, seconds = suite(seed)
        found = split(needs, count, seconds, {"model0": 5.0})
        assert len(found.shards) == count
        assert sorted(one for shard in found.shards for one in shard) == sorted(needs)
        for need in {*needs.values()}:
            with_it = [any(needs[one] == need for one in shard) for shard in found.shards]
            assert sum(with_it) == 1, need


def test_a_machine_that_collects_in_another_order_splits_alike(suite):
    needs, seconds = suite(7)
    ours = split(needs, 4, seconds)
    theirs = split(dict(reversed(needs.items())), 4, dict(reversed(seconds.items())))
    assert [{*shard} for shard in ours.shards] == [{*shard} for shard in theirs.shards]
    assert (ours.selection, ours.durations, ours.digest) == (
        *(theirs.selection, theirs.durations),
        theirs.digest,
    )
    assert ours.selection == selection([*reversed(needs)])


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"needs": {"more.py::test": plain("more.py::test")}}, {"durations"}),
        ({"seconds": {"test_plain.py::test_0": 99.0}}, {"selection"}),
        ({"seconds": {"another.py::test": 99.0}}, {"selection", "durations", "digest"}),
        ({"needs": {"test_plain.py::test_0": Need("else", "where")}}, {"selection", "durations"}),
        ({"loads": {"model0": 9.0}}, {"selection"}),
    ],
    ids=["test", "duration", "another's", "need", "load"],
)
def test_what_a_split_is_computed_from_is_hashed(suite, change, same):
    needs, seconds = suite(7)
    ours = split(needs, 4, seconds)
    theirs = split(
        needs | change.get("needs", {}), 4, seconds | change.get("seconds", {}), change.get("loads")
    )
    names = ("selection", "durations", "digest")
    assert {name for name in names if getattr(ours, name) == getattr(theirs, name)} == same
    assert split(needs, 5, seconds).digest != ours.digest


def test_a_pipeline_is_cut_only_where_it_is_longer_than_a_shard():
    four = {
        f"t.py::test_{w}_{t}[m{m}]": Need(f"m{m}", f"w{w}")
        for m in range(4)
        for w in range(3)
        for t in range(2)
    }
    for shard in split(four, 4).shards:
        assert len({four[one].group for one in shard}) == 1
    one = {f"t.py::test_{w}": Need("m", f"w{w}") for w in range(12)}
    assert [len(shard) for shard in split(one, 4).shards] == [3, 3, 3, 3]
    two = {f"t.py::test_{w}[m{m}]": Need(f"m{m}", f"w{w}") for w in range(10) for m in range(2)}
    loads = [len({two[one].group for one in shard}) for shard in split(two, 4).shards]
    assert loads == [1, 1, 1, 1]  # each pipeline is loaded twice, and not in all four


def test_shards_are_about_as_long_as_each_other(study):
    """docs/shards.md has the worst of 300 such suites; what none is below is the bound."""
    assert max(study.ratio(study.suite(seed), 4) for seed in range(40)) <= 1.2


def test_plain_tests_go_by_file_then_by_function_or_class():
    ids = ("a.py::test_x[1]", "a.py::test_x[2]", "a.py::TestA::test_y[3]", "a.py::TestA::test_z")
    assert [plain(one) for one in ids] == [
        *(Need("a.py", "test_x"), Need("a.py", "test_x")),
        *(Need("a.py", "TestA"), Need("a.py", "TestA")),
    ]
    assert plain("docs/page.md") == Need("docs/page.md", "")


def test_a_large_suite_is_split_quickly():
    import time

    needs = {f"f{n % 97}.py::test_{n}": plain(f"f{n % 97}.py::test_{n}") for n in range(10_000)}
    start = time.process_time()
    found = split(needs, 16)
    assert time.process_time() - start < 5  # 0.5 ms a test, on a slow machine
    assert {len(shard) for shard in found.shards} <= {*range(600, 740)}


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ([0, 0], 0),
        ([0, 5], 0),
        ([5, 5], 5),
        ([0, 1], 1),
        ([10, 0], 10),
        ([10, 1], 1),
        ([2, 1], 2),
        ([3, 2, 0], 3),
        ([0, 137], 137),
    ],
    ids=str,
)
def test_exit_codes_of_all_together(codes, code):
    assert exit_code(codes) == code


# ------------------------------------------------------------------------- records


POLICY = {"update": False, "update_mode": "missing", "sessions": 5, "guard_m": 200}
POLICY |= {"honour_accepted": False, "prove": False, "prove_min": None, "run_source": "base"}


def record(index=1, count=2, **changes):
    """As a shard of two plain tests writes it."""
    nodeids = ["a.py::test_1", "b.py::test_2"]
    needs = {one: plain(one) for one in nodeids}
    found = split(needs, count)
    mine = [*found.shards[index - 1]]
    result = {"outcomes": ["passed"], "seconds": 0.1, "load": 0.0, "why": "", "pipeline": ""}
    shard = {
        "index": index,
        "count": count,
        "selected": nodeids,
        "tests": mine,
        "selection": found.selection,
        "durations": found.durations,
        "split": found.digest,
        "results": {one: dict(result) for one in mine},
        "policy": dict(POLICY),
        "started": "2026-01-01T00:00:00+00:00",
        **dict.fromkeys(("trouble", "notes", "updates"), ()),
    }
    run = {"schema": 1, "exit": 0, "commit": "abc", "environment": {"facts": {}}, "tests": []}
    return {**run, "gate_edits": None, "timing": {"load": 0.0}, "shard": shard, **changes}


def shards(*records):
    return [ShardRun(Path(f"{number}.json"), one) for number, one in enumerate(records)]


def test_whole_records_are_put_in_order(tmp_path):
    for index in (2, 1):
        (tmp_path / f"{index}.json").write_text(json.dumps(record(index)))
    found = together([read(tmp_path / "2.json"), read(tmp_path / "1.json")])
    assert [one.index for one in found] == [1, 2]


def test_a_missing_and_a_doubled_shard_are_named():
    with pytest.raises(BadRun, match=r"shard 2/4, 4/4 is missing: its job has not run"):
        together(shards(record(3, 4), record(1, 4)))
    with pytest.raises(BadRun, match=r"shard 1/2 is there twice: 0\.json and 2\.json"):
        together(shards(record(1), record(2), record(1)))
    with pytest.raises(BadRun, match="different splits"):
        together(shards(record(1, 2), record(2, 3)))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("commit",), "def", "different commits: abc and def"),
        (("gate_edits",), {"ref": "x"}, "--vdb-baseline-ref"),
        (("shard", "policy", "guard_m"), 50, "guard_m was 200 and 50"),
        (("shard", "selected"), ["a.py::test_1"], r"different tests \(1, such as b.py::test_2\)"),
        (("shard", "durations"), "0" * 64, "split by different durations"),
        (("shard", "split"), "0" * 64, "split differently"),
        (("shard", "split"), "", "ended with exit code 0 before its tests were collected"),
        (("shard", "tests"), [], "b.py::test_2 is in no shard"),
        (("shard", "tests"), ["a.py::test_1", "b.py::test_2"], "a.py::test_1 is in two shards"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_shards_of_two_runs_are_no_run(path, value, message):
    second = copy.deepcopy(record(2))
    _set(second, path, value)
    with pytest.raises(BadRun, match=message):
        together(shards(record(1), second))


def _set(data, path, value):
    for key in path[:-1]:
        data = data[key]
    data[path[-1]] = value


RESULT = ("shard", "results", "a.py::test_1")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("exit",), "0", "in exit"),
        (("exit",), 256, "in exit"),  # a process that ends with it ends with 0
        (("shard", "index"), 3, "shard: index"),
        (("shard", "count"), None, "shard: index"),
        (("shard", "tests"), ["c.py::test_3"], "not all selected"),
        (("shard", "tests"), "a.py::test_1", "shard: tests"),
        (("shard", "selection"), "0" * 64, "shard: selection"),
        (("shard", "results"), {"b.py::test_2": {}}, "another shard's"),
        (("shard", "results"), {}, "exit code 0, and a.py::test_1 never ran"),
        ((*RESULT, "outcomes"), ["failed"], "exit code 0, and a.py::test_1 failed"),
        ((*RESULT, "outcomes"), ["\x1b[2J"], "control characters"),
        ((*RESULT, "seconds"), -1, "seconds"),
        ((*RESULT, "why"), None, "why"),
        (("shard", "policy", "update"), "yes", "policy: update"),
        (("shard", "policy", "run_source"), "mine", "run_source"),
        (("shard", "started"), "today", "Invalid isoformat"),
        (("shard", "updates"), [{"nodeid": "a.py::test_1"}], "without --vdb-update"),
        (("shard",), {}, "KeyError"),
        (("shard",), [], "TypeError"),
        (("timing",), {"load": "long"}, "finite number"),
        (("environment",), {"facts": {"cpu": 1}}, "environment: facts"),
        (("tests",), [{"nodeid": "b.py::test_2", "workload": None}], "another shard's"),
    ],
    ids=lambda value: str(value)[:40].encode("unicode_escape").decode(),
)
def test_a_record_that_no_shard_writes(tmp_path, path, value, message, capsys):
    data = record()
    _set(data, path, value)
    (tmp_path / "1.json").write_text(json.dumps(data))
    with pytest.raises(BadRun, match=re.escape(message)):
        read(tmp_path / "1.json")
    assert cli.main(["merge", str(tmp_path / "1.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def update_run(tmp_path):
    """A shard's record of one test that passed and stores its sharpness."""
    from pytest_vdb.baseline.identity import relative_path
    from pytest_vdb.records import Environment, Kind, Measurement, Prompt, Value, Workload

    identity = {"device": "cpu"}
    workload = Workload((Prompt("a", "a fox"),), (0,), {})
    m = Measurement("sharpness", "1", "higher", Kind.SCORE, "mean", (Value("a", 0, 0.8),))
    test = {
        "nodeid": "a.py::test_1",
        "outcome": "passed",
        "model": {"name": "m"},
        "workload": {"hash": workload.hash, **workload.portable.to_json()},
        "environments": {"quality": "cpu-1", "performance": "cpu-2"},
        "measurements": [],
    }
    update = {
        "nodeid": "a.py::test_1",
        "path": relative_path("m", Environment(identity), "a.py::test_1"),
        "test": "test_1",
        "model": "m",
        "environment": identity,
        "workload": workload.portable.to_json(),
        "measurements": [m.to_json()],
        "distances": [],
        "media": {"a/0": {"frames": "0" * 64, "video": "1" * 64}},
    }
    data = record(1, tests=[test])
    data["shard"]["policy"]["update"] = True
    data["shard"]["updates"] = [update]
    return data


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("path",), "../../etc/passwd.json", "path"),
        (("path",), "other/cpu-1/a.json", "path"),
        (("nodeid",), "b.py::test_2", "did not pass"),
        (("test",), "test_2", "test"),
        (("environment",), {"device": 1}, "environment"),
        (("media", "a/0", "video"), "../x", "a sha256 of 64 hex digits"),
        (("measurements", 0, "values", 0, "value"), "much", "finite number"),
        (("measurements", 0, "name"), "\x07", "control characters"),
        (("measurements", 0, "kind"), "other", "no record of a shard"),
    ],
    ids=lambda value: str(value)[:40].encode("unicode_escape").decode(),
)
def test_an_update_that_no_test_of_the_shard_makes(tmp_path, path, value, message):
    data = update_run(tmp_path)
    (tmp_path / "fine.json").write_text(json.dumps(data))
    read(tmp_path / "fine.json")
    _set(data["shard"]["updates"][0], path, value)
    (tmp_path / "1.json").write_text(json.dumps(data))
    with pytest.raises(BadRun, match=re.escape(message)):
        read(tmp_path / "1.json")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 9}', "[" * 100_000])
def test_what_is_no_record(tmp_path, content):
    (tmp_path / "1.json").write_text(content)
    with pytest.raises(BadRun, match="no file of --vdb-json"):
        read(tmp_path / "1.json")


def test_a_whole_run_is_no_shard(tmp_path):
    data = record()
    del data["shard"]
    (tmp_path / "1.json").write_text(json.dumps(data))
    with pytest.raises(BadRun, match="a whole run and no shard of one"):
        read(tmp_path / "1.json")


# ------------------------------------------------------------------------- the example

WORKFLOW = "examples/shards/.github/workflows/video-shards.yml"


def test_the_workflow_is_one():
    """What GitHub would refuse, or would run wrongly: keys, needs, contexts, the split's size."""
    jobs = yaml.safe_load((ROOT / WORKFLOW).read_text())["jobs"]
    for name, job in jobs.items():
        assert job["runs-on"], name
        assert {job.get("needs", name)} <= {*jobs}
        for step in job["steps"]:
            assert len({"uses", "run"} & {*step}) == 1, step
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"])
        axes = {*job.get("strategy", {}).get("matrix", {})}
        used = re.findall(r"\$\{\{ *matrix\.(\w+) *\}\}", json.dumps(job))
        assert {*used} == axes
    numbers = jobs["shard"]["strategy"]["matrix"]["shard"]
    (run,) = [s["run"] for s in jobs["shard"]["steps"] if "--vdb-shard" in s.get("run", "")]
    (count,) = re.findall(r"--vdb-shard=\$\{\{ matrix\.shard \}\}/(\d+)", run)
    assert numbers == [*range(1, int(count) + 1)]
    assert jobs["shard"]["strategy"]["fail-fast"] is False
    assert jobs["video-gate"]["if"] == "always()"
    sent = [s["with"]["name"] for s in jobs["shard"]["steps"] if "upload" in s.get("uses", "")]
    assert len(sent) == 1
    assert "matrix.shard" in sent[0]  # artifacts of one name would be one


def test_the_page_shows_lines_of_the_workflow():
    workflow = (ROOT / WORKFLOW).read_text().splitlines()
    page = (ROOT / "docs/shards.md").read_text()
    (shown,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert [line for line in shown.splitlines() if line not in workflow] == []
