"""What a workload becomes: phases in order, samples on disk, numbers where they are real."""

import hashlib
import json
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pytest_vdb.errors import BadSetting, InfraError, OutOfMemory, SourceError
from pytest_vdb.measure.blame import blame_model
from pytest_vdb.measure.execute import execute, load, torch_threads
from pytest_vdb.measure.runner import Job
from pytest_vdb.measure.samples import frames_sha256
from pytest_vdb.models.sources import Output
from pytest_vdb.records import ModelSpec, Prompt, Sample, Workload

CALL = {"num_frames": 5, "height": 32, "width": 32, "num_inference_steps": 2}
WAN = ModelSpec("tiny-wan", "factory", "pytest_vdb.models.embedded:tiny_wan")


def job(folder: Path, model: ModelSpec = WAN, prompts=("a cat",), seeds=(0, 1), **options) -> Job:
    texts = tuple(Prompt(f"p{i}", text) for i, text in enumerate(prompts))
    options = {"num_threads": 1} | options  # fast also where other processes are busy
    return Job(model, Workload(texts, seeds, CALL, options=options), str(folder))


def events_of(job: Job, source=None) -> list[dict]:
    events: list[dict] = []
    execute(job, events.append, source)
    return events


@pytest.fixture(scope="module")
def source():
    source, seconds = load(job(Path("unused")))
    assert seconds > 0
    yield source
    source.close()


@pytest.fixture
def factory(tmp_path, monkeypatch):
    """Makes a model whose real Wan pipeline runs ``code`` at the start of every call."""

    def make(code: str) -> ModelSpec:
        name = f"models_{tmp_path.name}"
        body = textwrap.indent(textwrap.dedent(code), "        ")
        (tmp_path / f"{name}.py").write_text(
            "import functools\n"
            "from diffusers import WanPipeline\n"
            "from pytest_vdb.models.embedded import tiny_wan\n"
            "class Changed(WanPipeline):\n"
            "    @functools.wraps(WanPipeline.__call__)\n"
            "    def __call__(self, *args, **kwargs):\n"
            f"{body}\n"
            "        return WanPipeline.__call__(self, *args, **kwargs)\n"
            "def make():\n"
            "    return Changed(**tiny_wan().components)\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        return ModelSpec("changed", "factory", f"{name}:make")

    return make


def test_events_come_in_the_order_of_the_phases(tmp_path):
    wanted = job(tmp_path, prompts=("a cat", "a dog"))
    events = events_of(wanted)
    assert [e["event"] for e in events] == [
        "loaded",
        "warm",
        *["sample"] * 4,
        "traced",
        "source",
        "done",
    ]
    samples = [e["sample"] for e in json.loads(json.dumps(events)) if "sample" in e]
    keys = [Sample.from_json(sample).key for sample in samples]
    assert keys == ["p0/0", "p0/1", "p1/0", "p1/1"]


def test_a_loaded_source_is_neither_loaded_nor_closed(tmp_path, source):
    assert events_of(job(tmp_path), source)[0]["event"] == "warm"
    assert events_of(job(tmp_path), source)[-1]["event"] == "done"


class Clips:
    """A source of finished videos: bytes, no latent, nothing to time."""

    provides = frozenset({"quality"})
    nbytes = 0

    def generate(self, prompt, seed, call) -> Output:
        frames = np.random.default_rng(seed).integers(0, 256, (3, 8, 8, 3), np.uint8)
        return Output(frames, fps=12.0, original=f"{prompt.id}.mp4")

    def close(self) -> None:
        raise AssertionError("a source that was handed in stays open")


def test_recorded_videos_are_not_warmed_up_nor_timed_nor_traced(tmp_path):
    recorded = replace(WAN, source="recorded", location=str(tmp_path))
    events = events_of(job(tmp_path, recorded), Clips())
    assert [e["event"] for e in events] == ["sample", "sample", "source", "done"]
    sample = Sample.from_json(events[0]["sample"])
    assert (sample.wall, sample.cpu, sample.memory, sample.latent) == (None, None, {}, None)
    assert (sample.fps, sample.original, sample.shape) == (12.0, "p0.mp4", (3, 8, 8, 3))


def test_a_sample_is_what_lies_on_disk(tmp_path, source):
    samples = [
        Sample.from_json(e["sample"]) for e in events_of(job(tmp_path), source) if "sample" in e
    ]
    assert len({s.frames_sha256 for s in samples}) == 2  # the seed decides
    for sample in samples:
        frames, latent = np.load(sample.frames), np.load(sample.latent)
        assert frames.dtype == np.uint8
        assert frames.shape == sample.shape == (5, 32, 32, 3)
        assert sample.frames_sha256 == frames_sha256(frames)
        assert latent.dtype == np.float32
        assert sample.latent_sha256 == hashlib.sha256(latent.tobytes()).hexdigest()
        assert sample.nonfinite == 0
        assert 0 < sample.wall < 60
        assert sample.cpu > 0
        assert sample.memory == {}  # a CPU has no device memory
        assert Path(sample.frames).parent == tmp_path
    assert not list(tmp_path.glob("*.part"))


def test_file_names_come_from_the_index_not_from_the_prompt(tmp_path, source):
    texts = (Prompt("../../escape", "x"),)
    base = job(tmp_path / "run")
    wanted = replace(base, workload=replace(base.workload, prompts=texts))
    events_of(wanted, source)
    names = sorted(p.name for p in tmp_path.rglob("*") if p.is_file())
    assert names == [f"{i:04d}-{kind}.npy" for i in range(2) for kind in ("frames", "latent")]


def test_the_allocators_peak_repeats(tmp_path, source):
    wanted = job(tmp_path, seeds=(0,))
    peaks = [e["cpu_peak"] for _ in range(3) for e in events_of(wanted, source) if "cpu_peak" in e]
    assert min(peaks) > 100_000
    assert max(peaks) / min(peaks) < 1.001


def test_threads_are_set_for_the_workload_alone(tmp_path, factory):
    model = factory("import torch; open(__file__ + '.n', 'w').write(str(torch.get_num_threads()))")
    before = torch.get_num_threads()
    events_of(job(tmp_path / "run", model, seeds=(0,), num_threads=before + 1))
    (seen,) = tmp_path.glob("*.n")
    assert seen.read_text() == str(before + 1)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("count", [0, -1, "2", True, 1.5])
def test_a_number_of_threads_that_means_nothing_is_refused(count):
    with pytest.raises(BadSetting, match="num_threads"), torch_threads(count):
        pass


def test_another_dtype_than_the_workload_names_is_refused(tmp_path):
    with pytest.raises(BadSetting, match=r"asks for float32 .* loaded as bfloat16"):
        events_of(job(tmp_path, replace(WAN, dtype="bfloat16")))


def test_a_models_exception_becomes_a_source_error_with_its_traceback(tmp_path, factory):
    model = factory("raise KeyError('no such block')")
    with pytest.raises(SourceError) as caught:
        events_of(job(tmp_path, model))
    message = str(caught.value)
    assert "the warm-up generation of prompt 'p0' with seed 0" in message
    assert "in __call__" in message
    assert message.endswith("KeyError: 'no such block'")
    assert "measure/execute.py" not in message
    assert caught.value.__cause__ is not None


def test_a_models_exit_does_not_end_the_session(tmp_path, factory):
    with pytest.raises(SourceError, match="SystemExit"):
        events_of(job(tmp_path, factory("raise SystemExit(0)")))


def test_ctrl_c_is_not_swallowed(tmp_path, factory):
    with pytest.raises(KeyboardInterrupt):
        events_of(job(tmp_path, factory("raise KeyboardInterrupt")))


def test_a_factory_that_raises_is_a_source_error(tmp_path, factory, monkeypatch):
    model = factory("pass")
    wrong = replace(model, location=model.location.replace(":make", ":missing"))
    with pytest.raises(SourceError, match="missing"):
        events_of(job(tmp_path, wrong))


@pytest.mark.parametrize(
    ("code", "size"),
    [
        ("import torch; torch.empty(2**55)", f"{2**57} bytes"),
        ("import numpy; numpy.ones(2**55)", "256. PiB"),
        ("raise MemoryError", "the allocator named no size"),
        (
            "import torch; raise torch.OutOfMemoryError("
            "'CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total of 8 GiB')",
            "2.50 GiB",
        ),
    ],
    ids=["torch", "numpy", "python", "cuda-text"],
)
def test_running_out_of_memory_says_where_how_much_and_what_helps(tmp_path, factory, code, size):
    with pytest.raises(OutOfMemory) as caught:
        events_of(job(tmp_path, factory(code)))
    message = str(caught.value)
    assert "the warm-up generation of prompt 'p0' with seed 0" in message
    assert size.rstrip(" PiB") in message
    assert "fewer frames or pixels" in message


def test_a_folder_that_cannot_be_written_is_not_the_models_fault(tmp_path, source):
    (tmp_path / "file").write_text("")
    with pytest.raises(InfraError, match="cannot write"):
        events_of(job(tmp_path / "file"), source)


@pytest.mark.parametrize("ending", [KeyboardInterrupt(), pytest.exit.Exception("enough")])
def test_what_ends_the_session_is_not_blamed_on_the_model(ending):
    with pytest.raises(type(ending)), blame_model(job(Path("unused")), "the load"):
        raise ending
