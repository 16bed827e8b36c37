"""--vdb-shard and ``vdb merge``: the parts of a suite, merged, are the run of the whole"""

import json
import re
import shutil

import pytest

from pytest_vdb import cli
from tests.conftest import LEAN

QUALITY = """
@pytest.mark.parametrize("least", [-1, 0])
def test_quality(vdb, least):
    assert vdb.score("temporal_flickering").mean > least

def test_motion(vdb):
    assert vdb.score("motion_energy").min >= 0

def test_similarity(vdb):
    assert vdb.score("psnr").min > 30
"""

PLAIN = """
import pytest

@pytest.mark.parametrize("i", range(3))
def test_plain(i):
    assert i != FAILS

@pytest.mark.xfail
def test_known():
    assert False

class TestAll:
    def test_one(self):
        pass

    def test_two(self):
        pytest.skip("not now")
"""


class Matrix:
    """A suite on two recorded models, whose jobs run one after the other in this process."""

    def __init__(self, suite, capsys, monkeypatch):
        self.suite, self.capsys = suite, capsys
        self.root = suite.root
        monkeypatch.chdir(self.root)
        suite.write(QUALITY)
        self.plain(fails=None)

    def plain(self, fails):
        (self.root / "benchmarks/test_plain.py").write_text(PLAIN.replace("FAILS", str(fails)))

    def run(self, *args):
        flags = (*LEAN, "benchmarks", "--vdb-videos=clips")
        return self.suite.pytester.runpytest_inprocess(*flags, *args)

    def shards(self, count, *args):
        """What each job printed."""
        return [self.run(f"--vdb-shard={i}/{count}", *args) for i in range(1, count + 1)]

    def merge(self, *args):
        """Exit code, standard output and standard error of ``vdb merge`` of all records."""
        records = sorted(path.name for path in self.root.glob("vdb-shard-*.json"))
        self.capsys.readouterr()
        code = cli.main(["merge", *records, "--json=merged.json", *args])
        return code, *self.capsys.readouterr()

    def record(self, index, count):
        return json.loads((self.root / f"vdb-shard-{index}-of-{count}.json").read_text())

    def edit(self, index, count, change):
        record = self.record(index, count)
        change(record)
        (self.root / f"vdb-shard-{index}-of-{count}.json").write_text(json.dumps(record))

    def files(self, folder="baselines"):
        """Everything stored, without the time of its session."""
        return {
            str(path.relative_to(self.root / folder)): _undated(path.read_bytes())
            for path in sorted((self.root / folder).rglob("*"))
            if path.is_file() and ".pytest-vdb" not in path.parts
        }


def _undated(content):
    return re.sub(rb"20\d\d-\d\d-\d\dT[\d:.]+Z", b"then", content)


@pytest.fixture
def matrix(suite, draw, capsys, monkeypatch):
    draw(suite.root / "clips")
    manifest = suite.root / "clips/prompts.jsonl"
    lines = manifest.read_text()
    manifest.write_text(lines + lines.replace('"ours"', '"theirs"'))
    return Matrix(suite, capsys, monkeypatch)


def judged(path):
    """Everything of a run but when it was and what it cost."""
    run = json.loads(path.read_text())
    return {key: value for key, value in run.items() if key not in ("timing", "started")}


def table(text):
    """The page of ``vdb`` up to what it cost."""
    page = text.partition("= vdb =")[2].partition("; overhead ")[0].strip("=\n")
    return page.splitlines()


@pytest.fixture
def worse(matrix):
    """With baselines, of which one measurement regressed, and a plain test that fails."""
    assert matrix.run("--vdb-update").ret == 0
    matrix.suite.scale("motion_energy", 2.0)
    matrix.plain(fails=1)
    return matrix


def test_merged_shards_are_the_run(worse):
    whole = worse.run("--vdb-json=run.json")
    assert whole.ret == 1
    for count in (1, 4):
        ran = worse.shards(count)
        code, out, _ = worse.merge()
        assert code == 1
        assert judged(worse.root / "merged.json") == judged(worse.root / "run.json")
        assert table(out) == table(whole.stdout.str())
        assert sum(len(worse.record(i, count)["shard"]["tests"]) for i in range(1, count + 1)) == 14
        for i, result in enumerate(ran, 1):
            mine = len(worse.record(i, count)["shard"]["tests"])
            assert result.parseoutcomes().get("deselected", 0) == 14 - mine
        assert "FAILED benchmarks/test_plain.py::test_plain[1] - assert 1 != 1" in out
        assert re.search(rf"= 3 failed, 9 passed, 1 skipped, 1 xfailed in {count} shards", out)
        # one guard for all, whatever the number of shards
        guards = {worse.record(i, count)["shard"]["policy"]["guard_m"] for i in range(1, count + 1)}
        assert guards == {200}
        for path in worse.root.glob("vdb-shard-*"):
            path.unlink()


def films(folder):
    """Of each test of a page, where its films lie and what it says in their place."""
    found = {}
    for path in sorted((folder / "data").glob("*.js")):
        detail = json.loads(path.read_text().partition(", ")[2].removesuffix(");\n"))
        films = [sample["film"]["src"] for sample in detail["samples"]]
        assert all((folder / src).is_file() for src in films)
        found[detail["nodeid"].partition("::")[2]] = (len(films), detail["why"])
    return found


def test_the_merged_page_has_the_videos_that_shards_left(worse):
    flags = ("--vdb-html=page", "-k", "motion or similarity")
    assert worse.shards(2, *flags)[0].ret == 1
    assert not (worse.root / "page").exists()  # it is the merge's
    assert worse.merge("--vdb-html=page")[0] == 1
    assert {*films(worse.root / "page").values()} == {(2, "")}
    # what of them did not come along is said
    for path in worse.root.glob("vdb-shard-*.films"):
        shutil.rmtree(path)
    assert worse.merge("--vdb-html=page")[0] == 1
    (told,) = {*films(worse.root / "page").values()}
    assert told[0] == 0
    assert "give the shards --vdb-html too" in told[1]


def test_an_update_is_written_by_the_merge_alone(matrix):
    """Baselines and media are those of one run, durations those of the shards."""
    assert matrix.run("--vdb-update").ret == 0
    whole = matrix.files()
    shutil.rmtree(matrix.root / "baselines")
    matrix.shards(3, "--vdb-update", "--vdb-durations=durations.json")
    assert not (matrix.root / "baselines").exists()
    assert not (matrix.root / "durations.json").exists()
    media = sorted(matrix.root.glob("vdb-shard-*.media/*"))
    assert media

    altered = media[0].read_bytes()
    media[0].write_bytes(altered + b"!")
    code, _, err = matrix.merge()
    assert code == 2
    assert "does not match its name" in err
    media[0].unlink()
    code, _, err = matrix.merge()
    assert code == 2
    assert "bring that folder along" in err
    assert not (matrix.root / "baselines").exists()
    media[0].write_bytes(altered)

    code, out, _ = matrix.merge("--vdb-durations=durations.json")
    assert code == 0
    assert "updated baselines/ours/" in out
    assert matrix.files() == whole
    assert len(json.loads((matrix.root / "durations.json").read_text())["tests"]) == 14
    stored = (matrix.root / "baselines").rglob("*.json")
    before = {path: path.read_bytes() for path in stored}
    assert matrix.merge()[0] == 0  # again: nothing is doubled
    assert {path: path.read_bytes() for path in before} == before


def test_selection_comes_first_and_workers_change_nothing(matrix):
    """Also where nothing is left for a shard: it passes, and so does what they are together."""
    chosen = ("-k", "test_one or known")
    first, second, third = (
        matrix.run("--vdb-shard=1/3", *chosen, "-n2"),
        matrix.run("--vdb-shard=2/3", *chosen),
        matrix.run("--vdb-shard=3/3", *chosen, "--vdb-json=vdb-shard-third.json"),
    )
    assert [one.ret for one in (first, second, third)] == [0, 0, 0]
    code, out, _ = matrix.merge()
    assert code == 0
    assert re.search(r"= 1 passed, 1 xfailed in 3 shards", out)
    assert matrix.shards(4, "-k", "known")[3].ret == 0
    assert matrix.record(4, 4)["shard"]["tests"] == []


def test_last_failed_is_split_after_it_is_selected(matrix):
    matrix.plain(fails=1)
    flags = ("benchmarks/test_plain.py", "-q")
    matrix.suite.pytester.runpytest_inprocess(*flags)
    results = [
        matrix.suite.pytester.runpytest_inprocess(*flags, "--lf", f"--vdb-shard={i}/2")
        for i in (1, 2)
    ]
    failed = ["benchmarks/test_plain.py::test_plain[1]"]
    assert matrix.record(1, 2)["shard"]["selected"] == failed
    assert matrix.record(2, 2)["shard"]["selected"] == failed
    assert sorted(one.ret for one in results) == [0, 1]


def test_shards_that_were_not_split_alike_are_refused(matrix):
    matrix.shards(2, "benchmarks/test_plain.py")
    (matrix.root / "durations.json").write_text(
        '{"schema": 1, "tests": {"benchmarks/test_plain.py::test_known": 9}, "loads": {}}'
    )
    first = ("--vdb-shard=1/2", "benchmarks/test_plain.py")
    for flags, message in (
        (("--vdb-durations=durations.json",), "split by different durations"),
        (("-k", "plain"), "selected different tests"),
        (("-o", "vdb_guard_m=50"), "guard_m was 50 and 200"),
        (("--vdb-gate=warn",), "gate was warn and fail"),
    ):
        matrix.run(*first, *flags)
        code, _, err = matrix.merge()
        assert code == 2
        assert message in err
    matrix.run(*first)
    assert matrix.merge()[0] == 0


def test_what_stopped_is_named(matrix):
    matrix.plain(fails=0)
    matrix.shards(1, "benchmarks/test_plain.py", "-x")
    code, out, _ = matrix.merge()
    assert code == 1
    assert "stopped before it had run 5 of its tests, such as" in out
    matrix.edit(1, 1, lambda record: record.update(exit=0))
    code, _, err = matrix.merge()
    assert code == 2
    assert "ended with exit code 0, and" in err


@pytest.mark.parametrize("text", ["0/4", "5/4", "2", "a/b", "1/0"])
def test_what_is_no_shard(matrix, text):
    result = matrix.run(f"--vdb-shard={text}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--vdb-shard: *is no shard; write I/N*"])


def test_durations_that_cannot_be_read(matrix):
    (matrix.root / "durations.json").write_text("[]")
    result = matrix.run("--vdb-shard=1/2", "--vdb-durations=durations.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--vdb-durations: *is no file of durations*"])
