"""The traced generation's tensors: a few numbers of what leaves each component at each step.

Nothing of this is on while anything is timed. It computes with numpy on the host, so that torch's
allocators, whose peaks the same generation may be there for, see nothing of it.
"""

from __future__ import annotations

import os
import platform
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

from pytest_vdb.measure.code import STACK, version_of
from pytest_vdb.measure.watch import DENOISE, OTHER, STAGES, Watch
from pytest_vdb.parallel.lease import usable_cores
from pytest_vdb.traces import CONDITIONING, DIRECTIONS, GUIDED, INITIAL, Point, Trace

if TYPE_CHECKING:
    import numpy as np
    import torch

BLOCK = 2**14
"""Numbers that are projected at once."""
LARGE = 2**22
"""Of a tensor with more elements than this, every n-th is taken."""
TENSORS = 4
"""At most so many tensors of one output."""
LIMIT = 256
"""Points at most: where steps are many, only every second (fourth, …) is kept."""


class Tracer:
    """``with Tracer(pipeline) as tracer: pipeline(...)``, then ``tracer.trace(sample)``.

    Watches the components of ``pipeline`` from outside, as `stages.StageClock` does, and sums up
    what they give: text and image encoders and VAEs when called from the pipeline, denoisers and
    schedulers at every step. At the denoiser's first call also what it was given and what its
    blocks gave. The sums are made at once, so no tensor is kept. An error of ours ends the trace
    and never the generation.
    """

    def __init__(self, pipeline: Any) -> None:
        self._watch = Watch(pipeline, self._enter, self._step, self._leave, self._gave)
        self._pipeline = pipeline
        self._points: list[Point] = []
        self._running: list[object] = []
        self._step_now = 1
        self._every = 1
        self._stepped: set[int] = set()
        self._calls: dict[tuple[int, str], int] = {}
        self._denoised = 0  # crc of what the denoiser gave last
        self._dtypes: dict[str, str] = {}
        self._failed = ""
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self._watch.on()
            undo.callback(self._watch.off)
            for stage in STAGES:
                self._dtypes |= {name: _coarsest(m) for name, m in self._watch.modules(stage)}
            self._watch_first_call(undo)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._undo.close()
        self._running = []

    def trace(self, sample: str) -> Trace:
        """What was seen; without points it says why."""
        points = () if self._failed else tuple(self._points)
        reason = self._failed or ("" if points else "no component was seen to run")
        return Trace(sample, points, self._every, versions(), self._dtypes, reason=reason)

    # ------------------------------------------------------------ what the watch says

    def _enter(self, key: object, stage: str) -> None:
        if stage == DENOISE and not self._running and self._stepped:
            self._step_now, self._stepped = self._step_now + 1, set()
        self._running.append(key)

    def _step(self, scheduler: object) -> None:
        if id(scheduler) in self._stepped:
            self._step_now, self._stepped = self._step_now + 1, set()
        self._stepped.add(id(scheduler))
        self._running.append(scheduler)

    def _leave(self, key: object) -> None:
        if any(running is key for running in self._running):
            while self._running.pop() is not key:
                pass

    def _gave(self, name: str, stage: str, given: Any, result: Any) -> None:
        """A component that the pipeline itself called is done: it was ``given`` something."""
        if len(self._running) != 1 or stage == OTHER:
            return
        if given is not None:  # a scheduler's step
            self._add(stage, GUIDED, given, unless=self._denoised)
        point = self._add(stage, name, result)
        if stage == DENOISE and given is None and point is not None:
            self._denoised = point.crc

    # ------------------------------------------------------------ the denoiser's first call

    def _watch_first_call(self, undo: ExitStack) -> None:
        """Hooks on the first denoiser, its parts and the blocks in its lists, for one call."""
        name, denoiser = next(self._watch.modules(DENOISE), ("", None))
        if denoiser is None or _compiled(denoiser):
            return

        def first() -> bool:
            return self._step_now == 1 and (1, name) not in self._calls

        def before(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if first():
                given = [*_tensors(args, whole=True), *_tensors(kwargs, whole=True)]
                self._add(DENOISE, INITIAL, given[:1])
                self._add(DENOISE, CONDITIONING, given[1:])

        hook = denoiser.register_forward_pre_hook(before, with_kwargs=True)
        undo.callback(hook.remove)
        for part, module in _parts(denoiser):
            if _compiled(module):
                continue

            def after(module: torch.nn.Module, args: Any, result: Any, *, part: str = part) -> None:
                if first():
                    self._add(DENOISE, f"{name}.{part}", result)

            undo.callback(module.register_forward_hook(after).remove)

    def _add(self, stage: str, part: str, value: Any, unless: int | None = None) -> Point | None:
        """The point of ``value``, noted but where its crc is ``unless``; None where it is none."""
        step = self._step_now if stage == DENOISE else 0
        call = self._calls.get((step, part), 0)
        if self._failed:
            return None
        try:
            if not (tensors := _tensors(value, whole=part == CONDITIONING)):
                return None
            norm, crc, projection = project(tensors)
        except Exception as error:
            self._failed = f"{part} gave what cannot be traced: {error}"
            return None
        point = Point(stage, step, part, call, tuple(tensors[0].shape), norm, crc, projection)
        self._calls[step, part] = call + 1
        if crc != unless and _kept(step, self._every):
            self._points.append(point)
            self._thin()
        return point

    def _thin(self) -> None:
        while len(self._points) > LIMIT and self._every < self._step_now:
            self._every *= 2
            self._points = [p for p in self._points if _kept(p.step, self._every)]


def _kept(step: int, every: int) -> bool:
    return step <= 1 or step % every == 0


def _compiled(module: Any) -> bool:
    """Whether a hook would be compiled with the module, and break its graph."""
    return module._compiled_call_impl is not None or hasattr(module, "_orig_mod")


def _coarsest(module: torch.nn.Module) -> str:
    """The floating dtype of its parameters that rounds most; empty without any."""
    import torch

    kinds = {p.dtype for p in module.parameters() if p.dtype.is_floating_point}
    return str(max(kinds, key=lambda k: torch.finfo(k).eps)).partition(".")[2] if kinds else ""


def _parts(denoiser: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """Its children by name; of lists of modules, their elements."""
    import torch

    for name, child in denoiser.named_children():
        if isinstance(child, torch.nn.ModuleList):
            yield from ((f"{name}.{index}", block) for index, block in enumerate(child))
        else:
            yield name, child


def _tensors(value: Any, *, whole: bool = False) -> list[torch.Tensor]:
    """The first tensors in an output or in arguments, however they are packed.

    Those of whole numbers (timesteps) only where ``whole``; complex ones never.
    """
    import torch

    if isinstance(value, torch.Tensor):
        fine = value.is_floating_point() or (whole and not value.is_complex())
        return [value] if fine and value.numel() else []
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, list | tuple):
        return []
    return [tensor for one in value for tensor in _tensors(one, whole=whole)][:TENSORS]


# ---------------------------------------------------------------- numbers


def project(tensors: Sequence[torch.Tensor]) -> tuple[float | None, int, tuple[float, ...]]:
    """L2 norm, crc32 and `DIRECTIONS` random projections of the values of ``tensors`` in a row.

    The k-th is the sum over blocks b of s_bk <g_k, x_b>: g is Gaussian, one for all blocks of
    `BLOCK` values, and s are random signs. So |P(x) - P(y)| / sqrt(DIRECTIONS) estimates |x - y|
    with a standard error of about 18 %, whatever changed. Both come from fixed seeds. Values are
    float32 and are summed on the host. Of a tensor of more than `LARGE` elements every n-th is
    taken. NaN and infinite values leave no norm (None) and count as 0 in the projection.
    """
    import numpy as np

    gaussian = _gaussian()
    signs = np.random.Generator(np.random.PCG64(2))
    total, square, crc, finite = np.zeros(DIRECTIONS), 0.0, 0, True
    for tensor in tensors:
        values = _values(tensor)
        for start in range(0, values.size, BLOCK):
            block = np.ascontiguousarray(values[start : start + BLOCK], np.float32)
            crc = zlib.crc32(block.data, crc)
            if not np.isfinite(block).all():
                finite, block = False, np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
            sign = 2.0 * signs.integers(0, 2, DIRECTIONS) - 1
            total += sign * (block @ gaussian[: block.size])
            square += float(np.dot(block, block))
    projection = tuple(float(x) for x in np.nan_to_num(total.astype(np.float32)))
    whole = finite and np.isfinite(square)
    norm = float(f"{np.sqrt(square):.7g}") if whole else None
    return norm, crc, projection


@lru_cache(maxsize=1)
def _gaussian() -> np.ndarray:
    """(BLOCK, DIRECTIONS), float32: one mebibyte."""
    import numpy as np

    random = np.random.Generator(np.random.PCG64(1))
    return random.standard_normal((BLOCK, DIRECTIONS), np.float32)


def _values(tensor: torch.Tensor) -> np.ndarray:
    """The elements in a row, or every n-th of very many; nothing is allocated on a CPU by torch."""
    import numpy as np
    import torch

    tensor = tensor.detach()
    every = -(-tensor.numel() // LARGE)
    if tensor.device.type != "cpu":
        tensor = tensor.reshape(-1)[::every].cpu()
        every = 1
    if tensor.dtype == torch.bfloat16:  # numpy has none: it is the upper half of a float32
        halves: np.ndarray = tensor.view(torch.int16).numpy().view(np.uint16)
        wide = halves.reshape(-1)[::every].astype(np.uint32) << 16
        return wide.view(np.float32)
    if tensor.dtype not in (torch.float16, torch.float32, torch.float64):
        tensor = tensor.float()
    values: np.ndarray = tensor.numpy()
    return values.reshape(-1)[::every]


# ---------------------------------------------------------------- around the generation


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide what a generation computes."""
    found = {name: installed for name in (*STACK, "numpy") if (installed := version_of(name))}
    return {"python": platform.python_version(), **found}


def conditions(device: str) -> dict[str, float]:
    """What else the machine does: ``load`` (the last minute's, by core), and of a GPU ``clock``
    (a share of its highest), ``throttled`` (1 where heat or power hold it back) and ``processes``.

    What cannot be read is left out.
    """
    found = {}
    if hasattr(os, "getloadavg"):
        found["load"] = round(os.getloadavg()[0] / len(usable_cores()), 2)
    if device.partition(":")[0] == "cuda":
        found |= _gpu_conditions(device)
    return found


def _gpu_conditions(device: str) -> dict[str, float]:
    import pynvml as nvml
    import torch

    try:
        nvml.nvmlInit()
        try:
            uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
            handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
            now = nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)
            most = nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM)
            reasons = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
            held = (
                nvml.nvmlClocksThrottleReasonSwPowerCap
                | nvml.nvmlClocksThrottleReasonHwSlowdown
                | nvml.nvmlClocksThrottleReasonSwThermalSlowdown
            )
            running = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
            return {
                "clock": round(now / most, 3),
                "throttled": float(bool(reasons & held)),
                "processes": float(len(running)),
            }
        finally:
            nvml.nvmlShutdown()
    except (nvml.NVMLError, ZeroDivisionError, AttributeError, RuntimeError):
        return {}
