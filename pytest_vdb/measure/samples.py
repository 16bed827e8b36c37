"""From a generated video to its `Sample`: quantised, counted, hashed and written.

Nothing here is timed. A file that exists is complete.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_vdb.errors import InfraError, SourceError
from pytest_vdb.measure.clock import Lap
from pytest_vdb.measure.runner import Job
from pytest_vdb.models.sources import Output
from pytest_vdb.records import Sample

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Done:
    """One generation and what was measured around it; no ``lap`` where a server kept the time."""

    output: Output
    lap: Lap | None
    stages: Mapping[str, float]
    steps: tuple[float, ...]
    memory: Mapping[str, int]
    energy: Mapping[str, float]

    @property
    def wall(self) -> float | None:
        """Seconds of the generation: the model's own word, else the clock around the call."""
        if self.output.seconds is not None or self.lap is None:
            return self.output.seconds
        return self.lap.wall


def reported(output: Output, lap: Lap | None, energy: Mapping[str, float]) -> Done:
    """What an engine or a server says of a generation, beside the clock around it."""
    memory = dict(output.memory)
    for number, rank in enumerate(output.ranks):
        if rank.memory is not None:
            memory[f"rank.{number}"] = rank.memory
        if rank.energy is not None:
            energy = {**energy, f"rank.{number}": rank.energy}
    done = Done(output, lap, output.stages, output.steps, memory, energy)
    rest = (done.wall or 0) - sum(output.stages.values())
    if output.stages and "other" not in output.stages and rest > 0:
        return replace(done, stages={**output.stages, "other": rest})
    return done


def write_sample(job: Job, index: int, output: Output, done: Done | None) -> Sample:
    """Quantise, count, hash and write one video; its files are named after ``index`` alone.

    ``done`` is what was measured, or None for videos that were recorded.
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
        original=output.original,
        audio=_save_audio(job.folder, index, output.audio),
        sampling_rate=output.sampling_rate,
        **(_measured(output, done) if done else {}),
    )


def unkept_sample(prompt: str, seed: int, done: Done) -> Sample:
    """What one generation cost, without its video."""
    return Sample(
        prompt=prompt,
        seed=seed,
        frames="",
        frames_sha256="",
        shape=(0, 0, 0, 3),
        **_measured(done.output, done),
    )


def _measured(output: Output, done: Done) -> dict[str, Any]:
    """The fields of a sample that say what it cost."""
    return {
        "wall": done.wall,
        "cpu": done.lap.cpu if done.lap else None,
        "queue": output.queue,
        "reported": output.seconds is not None and done.lap is not None,
        "stages": dict(done.stages),
        "steps": tuple(done.steps),
        "memory": dict(done.memory),
        "energy": dict(done.energy),
    }


def _save_audio(folder: str, index: int, audio: np.ndarray | None) -> str | None:
    return None if audio is None else _save(folder, f"{index:04d}-audio.npy", _float32(audio))


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
