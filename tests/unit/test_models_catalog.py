"""Every entry of the catalog against diffusers' own classes, and the page that shows them.

An upgrade of diffusers that renames a class or an argument fails here, by name.
"""

from __future__ import annotations

import importlib
import inspect
import re
import time
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import pytest
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import BaseOutput
from packaging.version import Version

from pytest_vdb.models import load_options
from pytest_vdb.models.catalog import CATALOG, NO_TWIN, SHAPES
from pytest_vdb.models.families import FAMILIES
from pytest_vdb.models.listing import Device, details, runs, table
from pytest_vdb.records import ModelSpec
from pytest_vdb.units import GiB, show

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
TINY = tuple(spec for spec in CATALOG if spec.name.startswith("tiny-"))

COUNTS = {"num_frames", "video_length", "frames"}  # what pipelines call the number of frames
OURS = {"prompt", "image", "generator", "output_type"}  # what the source sets

# The first diffusers that has the class; an older one, which is still supported, cannot run it.
SINCE = {
    "HunyuanVideo15Pipeline": "0.36",
    "Kandinsky5T2VPipeline": "0.36",
    "SanaVideoPipeline": "0.36",
    "LTX2Pipeline": "0.37",
    "Cosmos2_5_PredictBasePipeline": "0.37",
    "Cosmos3OmniPipeline": "0.39",
}


@cache
def pipeline_class(name: str) -> Any:
    """The class itself, also where diffusers shows a placeholder because a package is missing."""
    if Version(diffusers.__version__) < Version(SINCE.get(name, "0")):
        pytest.skip(f"{name} came with diffusers {SINCE[name]}")
    assert hasattr(diffusers, name), f"diffusers {diffusers.__version__} has no {name}"
    found = getattr(diffusers, name)
    if not issubclass(found, DiffusionPipeline):  # ConsisID without OpenCV
        assert name == "ConsisIDPipeline", f"{name} needs a package that is missing"
        module = importlib.import_module("diffusers.pipelines.consisid.pipeline_consisid")
        found = getattr(module, name)
    return found


def parameters(spec: ModelSpec) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(pipeline_class(spec.pipeline).__call__).parameters)


def results(spec: ModelSpec) -> set[str]:
    """The fields of the result that the class's module knows."""
    module = inspect.getmodule(pipeline_class(spec.pipeline))
    outputs = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, BaseOutput) and value is not BaseOutput
    ]
    assert len(outputs) == 1, f"{spec.pipeline}: {outputs}"
    return set(outputs[0].__annotations__)


every = pytest.mark.parametrize("spec", CATALOG, ids=lambda spec: spec.name)
family = pytest.mark.parametrize("spec", FAMILIES, ids=lambda spec: spec.name)


# ---------------------------------------------------------------------- against diffusers


@every
def test_its_class_is_a_pipeline_of_diffusers(spec: ModelSpec) -> None:
    assert issubclass(pipeline_class(spec.pipeline), DiffusionPipeline)


@every
def test_its_call_takes_every_default_argument(spec: ModelSpec) -> None:
    assert set(spec.call) - set(parameters(spec)) == set()
    assert set(spec.call) & OURS == set()


@every
def test_its_call_says_how_many_frames(spec: ModelSpec) -> None:
    assert len(COUNTS & set(spec.call)) == 1
    assert set(parameters(spec)) & COUNTS == set(spec.call) & COUNTS


@every
def test_only_a_model_from_an_image_needs_one(spec: ModelSpec) -> None:
    takes = parameters(spec)
    if spec.task == "image-to-video":
        assert "image" in takes
    else:
        assert "image" not in takes or takes["image"].default is None
        assert "prompt" in takes


@every
def test_the_video_is_where_it_says(spec: ModelSpec) -> None:
    fields = results(spec)
    assert spec.output in fields
    assert ("audio" in fields) == spec.audio


@every
def test_its_options_are_load_options(spec: ModelSpec) -> None:
    assert load_options.check_all(spec.options, spec.source, spec.name) == spec.options


def test_a_renamed_class_or_argument_fails_by_name() -> None:
    """The checks above can fail."""
    with pytest.raises(AssertionError, match="has no CogVideoYPipeline"):
        pipeline_class("CogVideoYPipeline")
    latte = next(spec for spec in FAMILIES if spec.name == "latte")
    assert "num_frames" not in parameters(latte)


# ---------------------------------------------------------------------- the table itself


@family
def test_it_names_a_repository_and_a_twin_of_its_class(spec: ModelSpec) -> None:
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", spec.location)
    assert spec.source == "diffusers"
    assert spec.summary
    if spec.name in NO_TWIN:
        assert not spec.twin
        return
    twins = {tiny.name: tiny for tiny in TINY}
    assert spec.twin in twins
    assert twins[spec.twin].pipeline == spec.pipeline
    assert twins[spec.twin].output == spec.output
    assert twins[spec.twin].task == spec.task
    assert twins[spec.twin].audio == spec.audio


def test_every_twin_is_of_a_family() -> None:
    assert {spec.name for spec in TINY} == {spec.twin for spec in FAMILIES if spec.twin}


def test_every_embedded_file_is_small_and_safe() -> None:
    files = [path for path in Path(SHAPES.location).rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".md", ".csv"}
    assert sum(path.stat().st_size for path in files) < 8e6


def test_what_has_no_twin_is_in_the_catalog() -> None:
    assert set(NO_TWIN) <= {spec.name for spec in FAMILIES}


def test_building_the_table_takes_less_than_a_millisecond() -> None:
    from pytest_vdb.models import families

    code = compile(Path(families.__file__).read_text(encoding="utf-8"), families.__file__, "exec")
    times = []
    for _ in range(20):
        start = time.perf_counter()
        exec(code, {"__name__": families.__name__})
        times.append(time.perf_counter() - start)
    assert min(times) < 1e-3


# ---------------------------------------------------------------------- what a machine could run

H100 = Device("NVIDIA H100", 80 * GiB)
SMALL = Device("NVIDIA T4", 15 * GiB)


@pytest.mark.parametrize(
    ("name", "devices", "possible", "why"),
    [
        ("shapes", [], True, "a CPU is enough"),
        ("tiny-wan", [], True, "a CPU is enough"),
        ("cogvideox", [], False, "needs a GPU with 33 GiB, this machine has none"),
        ("cogvideox", [SMALL, SMALL], False, "33 GiB, this machine has 2 x NVIDIA T4 (15.0 GiB)"),
        ("cogvideox", [SMALL, H100], True, "1 x NVIDIA H100 (80.0 GiB)"),
        ("mochi", [], False, "needs a GPU, this machine has none"),
        ("mochi", [H100], None, "no figure is published"),
    ],
)
def test_what_a_machine_could_run(
    name: str, devices: list[Device], possible: bool | None, why: str
) -> None:
    spec = next(spec for spec in CATALOG if spec.name == name)
    answer, reason = runs(spec, devices)
    assert answer is possible
    assert why in reason


def test_other_sources_say_what_they_need_or_that_nobody_does() -> None:
    two = ModelSpec("two", "factory", "mine:engine", memory=20 * GiB, devices=2)
    assert runs(two, [H100])[0] is False
    assert runs(two, [H100, SMALL])[0] is False
    assert runs(two, [H100, H100])[0] is True
    assert runs(ModelSpec("mine", "factory", "mine:build"), [H100])[0] is None
    assert runs(ModelSpec("org/name", "diffusers", "org/name"), [])[0] is None
    assert runs(ModelSpec("server", "endpoint", "http://server"), [])[0] is None


def test_the_table_fits_a_terminal_and_names_every_model() -> None:
    lines = table(CATALOG, [H100, H100]).splitlines()
    assert max(map(len, lines)) <= 120
    assert [line.split()[0] for line in lines[1 : len(CATALOG) + 1]] == [s.name for s in CATALOG]
    assert "2 x NVIDIA H100 (80.0 GiB)" in lines[-1]


def test_details_show_a_field_in_full_and_the_reason_for_no_twin() -> None:
    svd = next(spec for spec in FAMILIES if spec.name == "svd")
    assert "stable-video-diffusion-community" in details(svd, [])
    assert f"{SHAPES.location} (in this package)" in details(SHAPES, [])  # no hub id
    cosmos = next(spec for spec in FAMILIES if spec.name in NO_TWIN)
    assert NO_TWIN[cosmos.name] in details(cosmos, [])
    hostile = ModelSpec("m", "factory", "m:f", summary="\x1b[31mred")
    assert "\x1b" not in details(hostile, [])


# ---------------------------------------------------------------------- the page


def cells(name: str) -> list[str]:
    """The one row of the page that begins with ``name``."""
    rows = re.findall(rf"^\| `{re.escape(name)}` \|.*$", PAGE.read_text(encoding="utf-8"), re.M)
    assert len(rows) == 1, f"docs/models.md has {len(rows)} rows for {name}"
    return [cell.strip() for cell in rows[0].strip("|").split("|")]


def row(spec: ModelSpec) -> list[str]:
    """A family as the page shows it."""
    revision = f" at `{spec.revision}`" if spec.revision else ""
    return [
        f"`{spec.name}`",
        f"[{spec.location}](https://huggingface.co/{spec.location}){revision}",
        f"`{spec.pipeline}`",
        spec.task.partition("-")[0],
        " ".join(f"`{key}={value}`" for key, value in spec.call.items()),
        " ".join(f"`{key}={value}`" for key, value in spec.options.items()),
        f"`{spec.dtype}`",
        "" if spec.memory is None else show(spec.memory, "B"),
        spec.licence,
        f"`{spec.twin}`" if spec.twin else NO_TWIN.get(spec.name, ""),
    ]


@family
def test_the_page_shows_the_family(spec: ModelSpec) -> None:
    assert cells(spec.name) == row(spec)


@pytest.mark.parametrize("spec", TINY, ids=lambda spec: spec.name)
def test_the_page_shows_the_tiny_model(spec: ModelSpec) -> None:
    assert cells(spec.name) == [f"`{spec.name}`", f"`{spec.pipeline}`", spec.task.partition("-")[0]]


def test_the_page_shows_the_embedded_model() -> None:
    assert cells("shapes") == [
        "`shapes`",
        "`pytest_vdb/models/shapes`",
        *row(SHAPES)[2:7],
        SHAPES.licence,
    ]


def test_the_page_shows_no_model_that_is_gone() -> None:
    named = re.findall(r"^\| `([^`:]+)` \|", PAGE.read_text(encoding="utf-8"), re.M)
    assert set(named) == {spec.name for spec in CATALOG}
