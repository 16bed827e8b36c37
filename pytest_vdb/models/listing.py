"""What ``vdb models`` prints: the models, and which of them this machine could run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_vdb.models.catalog import NO_TWIN, SHAPES
from pytest_vdb.records import Json, ModelSpec
from pytest_vdb.units import GiB, columns, plain, show

TASKS = {"text-to-video": "t2v", "image-to-video": "i2v"}
WIDTH = 22  # of a licence; `vdb models NAME` shows it in full


@dataclass(frozen=True)
class Device:
    """An accelerator: its name and its memory in bytes."""

    name: str
    memory: int


def runs(spec: ModelSpec, devices: Sequence[Device]) -> tuple[bool | None, str]:
    """Whether a machine with ``devices`` could run ``spec``'s default call, and why.

    None where that is not known. The memory need is the one of the table: another size or length
    of video needs another, options such as ``cpu_offload`` less.
    """
    if spec.location.startswith(("pytest_vdb.", SHAPES.location)):
        return True, "tiny: a CPU is enough"
    if spec.source == "endpoint":
        return None, "it runs on its server"
    if spec.memory is None and not (spec.source == "diffusers" and spec.pipeline):
        return None, "nobody says how much memory it needs"
    need = "" if spec.memory is None else f" with {show(spec.memory, 'B')}"
    what = f"{spec.devices} GPUs{need} each" if spec.devices > 1 else f"a GPU{need}"
    if not devices:
        return False, f"it needs {what}, this machine has none"
    enough = [device for device in devices if device.memory >= (spec.memory or 0)]
    if len(enough) < spec.devices:
        return False, f"it needs {what}, this machine has {machine(devices)}"
    if spec.memory is None:
        return None, f"no figure is published; this machine has {machine(devices)}"
    return True, f"it needs {what}, this machine has {machine(devices)}"


def machine(devices: Sequence[Device]) -> str:
    """``2 x NVIDIA H100 (79.6 GiB)``: equal devices together."""
    counts: dict[Device, int] = {}
    for device in devices:
        counts[device] = counts.get(device, 0) + 1
    return ", ".join(f"{n} x {d.name} ({d.memory / GiB:.1f} GiB)" for d, n in counts.items())


def table(specs: Sequence[ModelSpec], devices: Sequence[Device]) -> str:
    """One line a model, at most 120 columns wide with the catalog's names."""
    head = ("name", "task", "pipeline class", "memory", "licence", "tiny twin", "here")
    rows: list[tuple[str, ...]] = [head, *(_row(spec, devices) for spec in specs)]
    here = machine(devices) if devices else "no NVIDIA GPU: what needs one cannot run"
    return "\n".join([*columns(rows), "", f"here: {here}; ?: nobody publishes its memory need"])


def _row(spec: ModelSpec, devices: Sequence[Device]) -> tuple[str, ...]:
    answer = {True: "yes", False: "no", None: "?"}[runs(spec, devices)[0]]
    licence = spec.licence if len(spec.licence) <= WIDTH else spec.licence[: WIDTH - 1] + "…"
    memory = "" if spec.memory is None else show(spec.memory, "B")
    cells = (spec.name, TASKS[spec.task], spec.pipeline, memory, licence, spec.twin, answer)
    return tuple(plain(cell) for cell in cells)


def details(spec: ModelSpec, devices: Sequence[Device]) -> str:
    """One model in full, one field a line; what is not known is left out."""
    possible, why = runs(spec, devices)
    answer = {True: "yes", False: "no", None: "not known"}[possible]
    embedded = spec.location == SHAPES.location
    values = {
        **spec.to_json(),
        "location": f"{spec.location} (in this package)" if embedded else spec.location,
        "call": "  ".join(f"{key}={value!r}" for key, value in spec.call.items()),
        "options": "  ".join(f"{key}={value!r}" for key, value in spec.options.items()),
        "memory": "" if spec.memory is None else show(spec.memory, "B"),
        "audio": "with the video" if spec.audio else "",
        "twin": spec.twin or NO_TWIN.get(spec.name, ""),
        "here": f"{answer}: {why}",
    }
    shown = {key: plain(str(value)) for key, value in values.items() if value not in ("", None)}
    width = max(map(len, shown))
    return "\n".join(f"{key:{width}}  {value}" for key, value in shown.items())


def as_json(specs: Sequence[ModelSpec], devices: Sequence[Device]) -> Json:
    """``{"devices": [...], "models": [...]}``; ``here`` is true, false, or null: not known."""
    models = []
    for spec in specs:
        possible, why = runs(spec, devices)
        models.append({**spec.to_json(), "here": possible, "why": why})
    return {"devices": [vars(device) for device in devices], "models": models}
