"""A workload in, samples out: what both runners do, in three phases that never mix.

Timed generations come first and have the device to themselves; every sample is quantised, hashed
and written between them, outside the clock; the traced generation comes last and is never timed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vdb.errors import BadSetting, InfraError, SourceError
from pytest_vdb.measure.blame import blame_model
from pytest_vdb.measure.clock import Lap, timed
from pytest_vdb.measure.memory import cpu_allocator_peak, probe_for
from pytest_vdb.measure.runner import Job, name_phase
from pytest_vdb.models.sources import Output, Source, provides
from pytest_vdb.records import Json, Prompt, Sample

if TYPE_CHECKING:
    import numpy as np

Emit = Callable[[dict[str, Json]], None]


def execute(job: Job, emit: Emit, source: Source | None = None) -> None:
    """Generate every (prompt, seed) of ``job`` in order and tell ``emit`` what happened.

    The events are those of `runner.Tally`. ``source`` is an already loaded one, which stays open;
    without it the model is loaded, timed, and closed at the end. The workload alone decides call
    arguments and ``options["num_threads"]`` (torch's threads, as before afterwards).

    Raises SourceError (the model raised, or gave no video), OutOfMemory, InfraError (the folder
    cannot be written) or BadSetting. KeyboardInterrupt passes.
    """
    if job.workload.dtype != job.model.dtype:
        raise BadSetting(
            f"the workload asks for {job.workload.dtype} and model {job.model.name!r} would be "
            f"loaded as {job.model.dtype}: give both the same dtype (--vdb-dtype)"
        )
    if source is None:
        source, seconds = load(job)
        emit({"event": "loaded", "seconds": seconds})
        holder: closing[Source] | nullcontext[Source] = closing(source)
    else:
        holder = nullcontext(source)
    with holder, torch_threads(job.workload.options.get("num_threads")):
        _generate_all(job, source, emit)
    emit({"event": "done"})


def load(job: Job) -> tuple[Source, float]:
    """The loaded source of ``job`` and the seconds that it took, libraries' imports left out."""
    from pytest_vdb.models.open import open_source

    import_libraries(job)
    with blame_model(job, "the load"), torch_threads(job.workload.options.get("num_threads")):
        source, lap = timed(lambda: open_source(job.model, job.device), job.device)
    return source, lap.wall


def import_libraries(job: Job) -> None:
    """Import what every load of this kind needs: seconds that are not the model's."""
    if job.model.source == "factory":
        from diffusers import DiffusionPipeline  # noqa: F401


def _generate_all(job: Job, source: Source, emit: Emit) -> None:
    measurable = provides(job.model)
    first = job.workload.jobs[0]
    if "latency" in measurable:
        lap = _generate(job, source, "the warm-up generation", *first)[1]
        emit({"event": "warm", "seconds": lap.wall})
    probe = probe_for(job.device)
    for index, (prompt, seed) in enumerate(job.workload.jobs):
        probe.reset()
        output, lap = _generate(job, source, "the generation", prompt, seed)
        sample = write_sample(
            job,
            index,
            output,
            lap if "latency" in measurable else None,
            probe.read() if "memory" in measurable else {},
        )
        del output  # a video of ours must not lie in memory beside the next generation
        emit({"event": "sample", "sample": sample.to_json()})
    if "memory" in measurable and job.device.partition(":")[0] == "cpu":
        traced = partial(_generate, job, source, "the traced generation", *first)
        emit({"event": "traced", "cpu_peak": cpu_allocator_peak(traced)})


def _generate(
    job: Job, source: Source, phase: str, prompt: Prompt, seed: int
) -> tuple[Output, Lap]:
    with blame_model(job, name_phase(phase, prompt, seed)):
        return timed(lambda: source.generate(prompt, seed, job.workload.call), job.device)


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """``count`` threads for torch's operators inside the block; None leaves them alone."""
    if count is None:
        yield
        return
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise BadSetting(f"num_threads={count!r}: give a whole number of threads above 0")
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def write_sample(
    job: Job, index: int, output: Output, lap: Lap | None, memory: dict[str, int]
) -> Sample:
    """Quantise, count, hash and write one video; its files are named after ``index`` alone.

    Raises SourceError for frames that are not (T, H, W, 3) of float or uint8, InfraError where
    the folder cannot be written.
    """
    prompt, seed = job.workload.jobs[index]
    where = f"prompt {prompt.id!r}, seed {seed} of model {job.model.name!r}"
    frames, broken = quantised(output.frames, where)
    latent = None if output.latent is None else _float32(output.latent)
    if latent is not None:
        broken += _nonfinite(latent)
    return Sample(
        prompt=prompt.id,
        seed=seed,
        frames=_save(job.folder, f"{index:04d}-frames.npy", frames),
        frames_sha256=frames_sha256(frames),
        shape=(frames.shape[0], frames.shape[1], frames.shape[2], 3),
        latent=None if latent is None else _save(job.folder, f"{index:04d}-latent.npy", latent),
        latent_sha256=None if latent is None else hashlib.sha256(latent.data).hexdigest(),
        fps=output.fps,
        nonfinite=broken,
        wall=lap.wall if lap else None,
        cpu=lap.cpu if lap else None,
        memory=memory,
        original=output.original,
    )


def quantised(frames: np.ndarray, where: str = "a video") -> tuple[np.ndarray, int]:
    """Frames as contiguous uint8, and how many values were NaN or infinite before.

    ``frames``: (T, H, W, 3), uint8 (taken as it is) or floating in [0, 1], which becomes
    ``round(clip(x, 0, 1) * 255)``, halves to even; NaN becomes 0. Raises SourceError.
    """
    import numpy as np

    shape = np.shape(frames)
    if len(shape) != 4 or shape[-1] != 3 or 0 in shape:
        raise SourceError(
            f"{where}: frames of shape {shape}, where (frames, height, width, 3) is needed; let "
            "the pipeline give RGB frames of one video as an array"
        )
    if frames.dtype == np.uint8:
        return np.ascontiguousarray(frames), 0
    if not np.issubdtype(frames.dtype, np.floating):
        raise SourceError(
            f"{where}: frames of dtype {frames.dtype}; give floats in [0, 1] or uint8"
        )
    result = np.empty(shape, np.uint8)
    broken = 0
    for frame, target in zip(frames, result, strict=True):  # one at a time: a video may be large
        broken += _nonfinite(frame)
        scaled = np.clip(np.nan_to_num(frame.astype(np.float32), nan=0.0), 0, 1) * 255
        target[...] = np.rint(scaled)
    return result, broken


def frames_sha256(frames: np.ndarray) -> str:
    """Sha256 (hex) of ``"<T>,<H>,<W>,<C>;"`` in ASCII and then the frames' bytes in C order."""
    head = ",".join(map(str, frames.shape)) + ";"
    return hashlib.sha256(head.encode() + frames.tobytes()).hexdigest()


def _nonfinite(values: np.ndarray) -> int:
    import numpy as np

    return int(values.size - np.count_nonzero(np.isfinite(values)))


def _float32(latent: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.ascontiguousarray(latent, np.float32)


def _save(folder: str, name: str, array: np.ndarray) -> str:
    """Write ``array`` so that the file is complete wherever it exists; its absolute path."""
    import numpy as np

    path = Path(folder).absolute() / name
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.save(file, array, allow_pickle=False)
        os.replace(part, path)
    except OSError as exc:
        raise InfraError(
            f"cannot write {path}: {exc}; free space or choose another folder"
        ) from exc
    return str(path)
