"""A small model repository under test, with a pipeline of its own that a test can break."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import LEAN

SIZE = "num_frames=5, height=32, width=32, max_sequence_length=64"
FAST = f"prompts=['a red fox', 'a blue boat'], num_inference_steps=2, {SIZE}"
"""Marker arguments of a workload that generates in a fraction of a second."""

Kept = dict[tuple[Any, ...], dict[Path, bytes]]
"""Files of stored baselines, by flags and the files of the suite that they were stored for."""

MODEL = """
from pytest_vdb.models.embedded import tiny_wan

def build():
    pipeline = tiny_wan()
    {change}
    return pipeline
"""

ENGINE = """
import zlib
import numpy as np

def build():
    return generate

def generate(prompt, *, seed, num_frames=5, height=32, width=32, num_inference_steps=2,
             max_sequence_length=64):
    {change}
    random = np.random.default_rng([seed, zlib.crc32(prompt.encode())])
    picture = random.random((height, width, 3), np.float32)
    frames = np.stack([np.roll(picture, step, axis=1) for step in range(num_frames)])
    for _ in range(num_inference_steps):
        random.standard_normal(2**17)  # milliseconds of CPU time
        frames = 0.9 * frames + 0.1 * random.random(frames.shape, np.float32)
    return {{"frames": frames, "latent": picture[None, ::8, ::8]}}
"""

BLOCKED = """
def pytest_runtest_setup():
    import pathlib, shutil
    shutil.rmtree({name!r}, ignore_errors=True)
    pathlib.Path({name!r}).touch()
"""

WIDE = """
def pytest_vdb_models():
    from pytest_vdb import ModelSpec
    return [ModelSpec("wide", "factory", "model_under_test:build", devices=9999)]
"""


@pytest.fixture(scope="session", autouse=True)
def _heavy_modules() -> None:
    """Import what the plugin imports lazily: pytester forgets modules that an inner run loads,
    and torch cannot be imported twice in a process."""
    with suppress(ImportError):
        import hypothesis  # noqa: F401  where it is installed, its plugin loads it in every run
    with suppress(ImportError, RuntimeError):  # families that came after the lower bound
        from diffusers import HunyuanVideo15Pipeline  # noqa: F401
    import av  # noqa: F401
    import PIL.Image  # noqa: F401
    import rich.console
    import rich.table  # noqa: F401
    import scipy.ndimage
    import scipy.stats  # noqa: F401

    import pytest_vdb.baseline.media
    import pytest_vdb.beside
    import pytest_vdb.gate.rules
    import pytest_vdb.measure.child
    import pytest_vdb.measure.inprocess
    import pytest_vdb.metrics.shapes
    import pytest_vdb.models.factory
    import pytest_vdb.prompts
    import pytest_vdb.prompts.files
    import pytest_vdb.prompts.images
    import pytest_vdb.prompts.vbench
    import pytest_vdb.report.terminal
    import pytest_vdb.results
    import pytest_vdb.scenes
    import pytest_vdb.session
    import pytest_vdb.verdicts  # noqa: F401
    from pytest_vdb.metrics.registry import Metrics
    from pytest_vdb.models import embedded

    embedded.tiny_wan()
    embedded.tiny_ltx()
    import numpy as np

    from pytest_vdb.metrics.registry import evaluate

    frames = np.zeros((2, 32, 32, 3), np.uint8)
    for spec in Metrics():
        if spec.needs == "frames" and not spec.networks:
            evaluate(spec, frames)
    # Every run looks for garbage before it profiles memory. What was imported is none, and is much.
    gc.collect()
    gc.freeze()


class Suite:
    """A repository with ``model_under_test.py``, benchmark files and baselines."""

    def __init__(self, pytester: pytest.Pytester, kept: Kept) -> None:
        self.pytester = pytester
        self.kept = kept
        self.root = pytester.path
        self.model()

    def model(self, change: str = "pass") -> None:
        """Write the model's code: ``tiny_wan`` with ``change`` applied to ``pipeline``."""
        lines = "\n    ".join(change.strip().splitlines())
        (self.root / "model_under_test.py").write_text(MODEL.format(change=lines))

    def engine(self, change: str = "pass") -> None:
        """Write an engine, which does ``change`` before each video: for what is told of any model.

        It is ten times as fast as a pipeline, and its processes import no diffusers.
        """
        (self.root / "model_under_test.py").write_text(ENGINE.format(change=change))

    def block(self, name: str) -> None:
        """Have a test put a file in the place of folder ``name``, as it begins."""
        conftest = self.root / "conftest.py"
        before = conftest.read_text() if conftest.exists() else ""
        conftest.write_text(before + BLOCKED.format(name=name))

    def write(self, body: str, marker: str = FAST, name: str = "test_bench.py") -> Path:
        """A benchmark file with the module-wide marker ``vdb(<marker>)``."""
        path = self.root / "benchmarks" / name
        path.parent.mkdir(exist_ok=True)
        size = f"pytest.mark.vdb({SIZE})"  # its own mark, so that a test's marker may be wrong
        marks = f"pytestmark = [pytest.mark.vdb({marker}), {size}]"
        path.write_text(f"import pytest\n{marks}\n\n{body}\n")
        return path

    def run_wide(self) -> pytest.RunResult:
        """Run on a model for which no machine has cores enough: an InfraError, without a child."""
        (self.root / "conftest.py").write_text(WIDE)
        command = [*LEAN, "benchmarks", "--vdb-model=wide"]
        result = self.pytester.runpytest_inprocess(*command)
        result.stdout.fnmatch_lines(["  sharpness *INFRA_ERROR"])
        return result

    def run(self, *args: str, subprocess: bool = False) -> pytest.RunResult:
        """Run the suite on ``model_under_test:build``."""
        command = ["benchmarks", "--vdb-model=model_under_test:build", *args]
        how = (
            self.pytester.runpytest_subprocess if subprocess else self.pytester.runpytest_inprocess
        )
        return how(*LEAN, *command)

    def store(self, *args: str) -> None:
        """Run with ``--vdb-update``, or copy what that stored for these very files before."""
        files = sorted(path for path in self.root.rglob("*") if path.is_file())
        key = (*args, *((path.relative_to(self.root), path.read_bytes()) for path in files))
        if key not in self.kept:
            assert self.run("--vdb-update", *args).ret == 0
            self.kept[key] = {
                path.relative_to(self.root): path.read_bytes()
                for path in (self.root / "baselines").rglob("*")
                if path.is_file()
            }
        for path, content in self.kept[key].items():
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_bytes(content)

    def json(self, *args: str, **kwargs: Any) -> dict[str, Any]:
        """Run with ``--vdb-json`` and give back what it wrote."""
        self.run("--vdb-json=run.json", *args, **kwargs)
        return dict(json.loads((self.root / "run.json").read_text()))

    def states(self, *args: str, **kwargs: Any) -> dict[str, str]:
        """Verdict by measurement of a run (over all its tests)."""
        return {
            m["name"]: m["verdict"]["state"]
            for test in self.json(*args, **kwargs)["tests"]
            for m in test["measurements"]
        }

    @property
    def baselines(self) -> list[Path]:
        return sorted((self.root / "baselines").glob("*/*/*.json"))

    def edit_baseline(self, edit: Any) -> None:
        """Apply ``edit(data)`` to every baseline file."""
        for path in self.baselines:
            data = json.loads(path.read_text())
            edit(data)
            path.write_text(json.dumps(data))

    def scale(self, name: str, factor: float, spread: float = 0.0) -> None:
        """Multiply the stored values of ``name``; ``spread`` widens them, sample by sample."""

        def edit(data: Any) -> None:
            for workload in data["workloads"].values():
                for session in workload["measurements"].get(name, {}).get("sessions", {}).values():
                    for i, key in enumerate(sorted(session)):
                        session[key] *= factor + spread * (-1) ** i

        self.edit_baseline(edit)


@pytest.fixture(scope="session")
def kept() -> Kept:
    return {}


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, kept: Kept) -> Suite:
    monkeypatch.delenv("CI", raising=False)
    return Suite(pytester, kept)


@pytest.fixture
def engine(suite: Suite) -> None:
    """The suite's model is an engine (`Suite.engine`)."""
    suite.engine()


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real Ray, as ``--vdb-cluster=local`` starts it: where the process is connected, ``local``
    means that one."""
    from pytest_vdb.parallel.cluster import Cluster

    folder = tmp_path_factory.mktemp("ray")
    cluster = Cluster("local", folder, folder)
    _ = cluster.ray
    yield cluster
    cluster.close()
