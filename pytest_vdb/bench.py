"""Bench: one model on one workload, generated once a session and measured on demand."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_vdb import performance as figures
from pytest_vdb.errors import BaselineError, Insane, LostMedium, UnknownStage, Unmeasured, VdbError
from pytest_vdb.models.sources import provides
from pytest_vdb.progress import progress
from pytest_vdb.records import (
    Baseline,
    Measurement,
    Missing,
    ModelSpec,
    Run,
    Sample,
    Value,
    Workload,
)

if TYPE_CHECKING:
    import numpy as np

    from pytest_vdb.measure.runner import Job
    from pytest_vdb.metrics.registry import MetricSpec
    from pytest_vdb.metrics.video import Video
    from pytest_vdb.options import Settings
    from pytest_vdb.reuse import Shared
    from pytest_vdb.session import VdbSession

T = TypeVar("T")


class Bench:
    """What the session knows of one model on one workload: values and errors are kept."""

    def __init__(
        self, session: VdbSession, spec: ModelSpec, workload: Workload, settings: Settings
    ) -> None:
        self.session = session
        self.spec = spec
        self.workload = workload
        self.settings = settings
        self.environments = session.environments(spec, settings)
        self._error: VdbError | None = None
        self._run: Run | None = None
        self._borrowed: Run | None = None
        self.shared: Shared | None = None
        """How other processes have these videos, or this one theirs; None where there are none."""
        self._faults: list[tuple[str, str]] = []
        self._scores: dict[tuple[str, str], Measurement] = {}
        self._videos: dict[str, Video] = {}

    # ------------------------------------------------------------------ samples

    @property
    def run(self) -> Run:
        """What this process generated, on first use: all costs are its own.

        Raises what the runner raised.
        """
        if self._error is None and self._run is None:
            try:
                self._run = self._generate()
                if self.shared is not None:
                    self.shared.offer(self._run)
            except VdbError as error:
                self._error = error
        if self._error is not None:
            raise self._error.with_traceback(None)
        assert self._run is not None
        return self._run

    @property
    def videos(self) -> Run:
        """The run whose videos are judged: this process's, or another's without its costs.

        Whichever came first stays. Raises what the runner raised.
        """
        mine = self._run is not None or self._error is not None
        if self._borrowed is None and self.shared is not None and not mine:
            found = self.shared.borrow(lambda: self.run)
            if found is not self._run:
                self._borrowed = found
                with self.session.charged("metrics"):
                    self._faults = self._find_faults(found)
        return self._borrowed or self.run

    def job(self) -> Job:
        """The workload as a runner takes it, with a folder of its own for the samples.

        Nothing of the metrics is on the model's device from here on.
        """
        from pytest_vdb.measure.runner import Job

        self.session.clear_device()
        folder = self.session.scratch / f"{self.spec.slug}-{self.workload.hash}-{time.time_ns()}"
        folder.mkdir(parents=True)
        remote = self.session.device_of(self.spec) == "endpoint"
        device, timeout = "cpu" if remote else self.session.device, self.settings.timeout
        return Job(self.spec, self.workload, str(folder), device, timeout, tuple(sys.path))

    def _generate(self) -> Run:
        from pytest_vdb.measure.execute import import_libraries

        runner, job = self.session.runner(self.settings.runner, self.spec), self.job()
        with self.session.charged("generate"):
            if runner.name == "inprocess":
                with self.session.charged("load"):
                    import_libraries(job)
            loads = runner.loads
            with progress(self.session.config, self.spec.name) as heard:
                run = runner.run(job, self.shared.heard(heard) if self.shared else heard)
        if run.load and runner.loads > loads:
            self.session.seconds["generate"] -= run.load
            self.session.seconds["load"] += run.load
        with self.session.charged("metrics"):
            found = self._find_faults(run)
        self._faults = [*dict.fromkeys((*self._faults, *found))]
        self.session.used(self.spec, run)
        return run

    def frames(self, sample: Sample) -> np.ndarray:
        """uint8 (T, H, W, 3) of one sample, read from this run's folder."""
        import numpy as np

        frames: np.ndarray = np.load(sample.frames)
        return frames

    def sane(self, allow: Collection[str], run: Run | None = None) -> Run:
        """``run`` (`videos`); raises Insane where one has a fault that is not in ``allow``."""
        run = run or self.videos
        faults = [message for name, message in self._faults if name not in allow]
        if faults:
            more = f"\n  and {len(faults) - 3} more" if len(faults) > 3 else ""
            raise Insane(
                f"{self.spec.name} fails the sanity checks ({len(faults)} faults in "
                f"{len(run.samples)} videos), so nothing is measured:\n  "
                + "\n  ".join(faults[:3])
                + more
            )
        return run

    def _find_faults(self, run: Run) -> list[tuple[str, str]]:
        from pytest_vdb.sane import find_faults

        return find_faults(self, run)

    @cached_property
    def _texts(self) -> dict[str, str]:
        """What each prompt says, by its id."""
        return {prompt.id: prompt.text for prompt in self.workload.prompts}

    # ------------------------------------------------------------------ performance

    def performance(self, name: str, allow: Collection[str], settings: Settings) -> Measurement:
        """One of `performance.NAMES` or an engine's own. Raises BadSetting or UnknownStage."""
        where = self._conditions(settings)
        known = figures.absent(name, self.spec, where)
        if known is not None:
            return known
        run = self.sane(allow, self.run)
        if wrong := figures.unknown_stage(name, run):
            raise UnknownStage(wrong)
        return figures.measured(name, self.spec, run, where)

    def _conditions(self, settings: Settings) -> figures.Conditions:
        crowded = ""
        if self.session.crowd(self.spec, self.settings) and not self.settings.crowded:
            crowded = (
                f"{self.session.workers} workers share this machine's devices; run with -n0 or "
                f"fewer workers, or accept it with --vdb-crowded"
            )
        threads = self.spec.options.get("num_threads")
        device = self.session.device_of(self.spec)
        on = f"{device}, {threads} thread{'s' * (threads > 1)}" if threads else device
        return figures.Conditions(
            device=device,
            label=on,
            crowded=crowded,
            served=self.spec.source == "endpoint",
            grid=self.session.grid,
            tolerance=settings.tolerance,
        )

    # ------------------------------------------------------------------ scores

    def score(self, name: str, baseline: Baseline | None, allow: Collection[str]) -> Measurement:
        """One metric over every sample, against ``baseline``'s reference media where it needs them.

        Raises UnknownMetric; a value that cannot be computed makes the whole series UNMEASURED.
        """
        spec = self.session.metrics.find(name)
        if "quality" not in provides(self.spec):
            why = "videos of random weights have no quality"
            return replace(_blank(spec), missing=Missing.NOT_APPLICABLE, reason=why)
        run = self.sane(allow)
        reference = repr(baseline.media) if spec.compares and baseline is not None else ""
        key = (name, reference)
        if key not in self._scores:
            with self.session.charged("metrics"):
                self._scores[key] = self._score(spec, run, baseline)
        return self._scores[key]

    def _score(self, spec: MetricSpec, run: Run, baseline: Baseline | None) -> Measurement:
        base = _blank(spec)
        if spec.needs == "latent" and (lacking := [s.key for s in run.samples if not s.latent]):
            # What was promised, stored, or is there for other samples, was lost on the way.
            stored = baseline is not None and any("latent" in m for m in baseline.media.values())
            promised = not run.hooked and "latent" in run.provides
            if stored or promised or len(lacking) < len(run.samples):
                why = f"no latent of {', '.join(lacking[:3])}"
                return replace(base, missing=Missing.UNMEASURED, reason=why)
            why = "the source gives no latents"
            return replace(base, missing=Missing.NOT_APPLICABLE, reason=why)
        if spec.compares and (baseline is None or not baseline.media):
            why = "no reference video is stored; --vdb-update stores this run's"
            return replace(base, missing=Missing.NO_REFERENCE, reason=why)
        extractor = self.session.extractor
        try:
            weights = spec.digests(extractor.weights)
            on = self._guarded(spec, self.session.computed, self, run, baseline)
            provenance = spec.provenance(on, weights)
            if spec.networks and extractor.dtype != "float32":  # its numbers are its own
                version = f"{provenance.version}, {extractor.dtype}"
                provenance = replace(provenance, version=version)
            base = replace(base, provenance=provenance)
            values = self._values(spec, run, baseline)
            return replace(base, values=values, note=self._swapped(spec, run, baseline))
        except LostMedium as error:
            if not self.settings.update:
                raise
            return replace(base, missing=Missing.NO_REFERENCE, reason=str(error))
        except Unmeasured as error:
            return replace(base, missing=Missing.UNMEASURED, reason=str(error))

    def _values(self, spec: MetricSpec, run: Run, baseline: Baseline | None) -> tuple[Value, ...]:
        """One number a sample; of a metric of a set, one for the run."""
        if spec.of_set:
            from pytest_vdb.metrics.registry import evaluate_set

            sets = self.sets(spec, run, baseline)
            number = self._guarded(spec, evaluate_set, *sets, extractor=self.session.extractor)
            return (Value("", None, number),)
        values = []
        for sample in run.samples:
            try:
                number = self._evaluate(spec, sample, baseline)
            except LostMedium:
                raise
            except Unmeasured as error:
                where = f"{error} (prompt {sample.prompt}, seed {sample.seed})"
                raise Unmeasured(where) from None
            values.append(Value(sample.prompt, sample.seed, number))
        return tuple(values)

    def sets(
        self, spec: MetricSpec, run: Run, baseline: Baseline | None
    ) -> tuple[list[Video], list[Video]]:
        """This run's videos and, of a metric that compares, the baseline's of the same samples."""
        stored = run.samples if spec.compares else ()
        theirs = [self.inputs(spec, sample, baseline)["reference"] for sample in stored]
        return [self.video(sample) for sample in run.samples], theirs

    def _swapped(self, spec: MetricSpec, run: Run, baseline: Baseline | None) -> str:
        if not (spec.of_set and spec.compares):
            return ""
        from pytest_vdb import swapped

        return swapped.told(spec, *self.sets(spec, run, baseline), self.session.extractor)

    def _evaluate(self, spec: MetricSpec, sample: Sample, baseline: Baseline | None) -> float:
        from pytest_vdb.metrics.registry import evaluate

        inputs = self.inputs(spec, sample, baseline)
        inputs["extractor"] = self.session.extractor
        return self._guarded(spec, evaluate, self.video(sample), **inputs)

    def _guarded(self, spec: MetricSpec, work: Callable[..., T], *given: Any, **named: Any) -> T:
        """``work`` of ``spec``; a third party's metric may fail in any way."""
        try:
            return work(spec, *given, **named)
        except VdbError:
            raise
        except Exception as error:
            raise Unmeasured(f"{spec.name} raised {type(error).__name__}: {error}") from error

    def video(self, sample: Sample) -> Video:
        """One sample's frames, rate and audio, read from this run's folder as they are needed."""
        import numpy as np

        from pytest_vdb.metrics.video import Audio, Video

        if sample.key not in self._videos:
            audio = None
            if sample.audio is not None and sample.sampling_rate is not None:
                audio = Audio(np.load(sample.audio, mmap_mode="r"), sample.sampling_rate)
            frames: np.ndarray = np.load(sample.frames, mmap_mode="r")
            fps, name = sample.fps, f"the video of {sample.key}"
            self._videos[sample.key] = Video(frames, fps=fps, audio=audio, name=name)
        return self._videos[sample.key]

    def inputs(self, spec: MetricSpec, sample: Sample, baseline: Baseline | None) -> dict[str, Any]:
        """What ``spec`` is computed from beside the video."""
        if not spec.compares:
            return {"prompt": self._texts[sample.prompt]}
        assert baseline is not None
        media = baseline.media.get(sample.key)
        if media is None:
            raise Unmeasured(f"the baseline has no reference for {sample.key}")
        return self._reference(spec, sample, media)

    def _reference(
        self, spec: MetricSpec, sample: Sample, media: Mapping[str, str]
    ) -> dict[str, Any]:
        import numpy as np

        from pytest_vdb.metrics.video import Video

        if spec.needs == "latent":
            if "latent" not in media:
                raise Unmeasured("the baseline keeps no latent of this sample")
            assert sample.latent is not None
            path = self.session.medium(media["latent"])
            try:
                reference = np.load(path)
            except (ValueError, EOFError, OSError) as error:
                raise BaselineError(f"{path} is no latent: {error}") from None
            return {"latent": np.load(sample.latent), "reference_latent": reference}
        if spec.needs == "audio_reference":
            raise Unmeasured(
                f"{spec.name}: a baseline keeps no audio; compare it with that of files: "
                "vdb score NEW --references OLD"
            )
        if "video" not in media:
            # While updating, this run's video is about to become the reference.
            raise (LostMedium if self.settings.update else Unmeasured)(
                "the baseline keeps a latent and a preview of this large video, and no lossless "
                "one; store it with --vdb-reference=lossless --vdb-update --vdb-update-mode=all"
            )
        path = self.session.medium(media["video"])
        if str(path) not in self._videos:
            video = Video(path, name=f"the baseline's video of {sample.key}")
            self._videos[str(path)] = video.held(self.session.scratch / "references")
        return {"reference": self._videos[str(path)]}

    def identical(self, baseline: Baseline | None) -> bool:
        """Whether every video equals the baseline's, bit for bit, as decoded."""
        if baseline is None or not baseline.media:
            return False
        media = baseline.media
        return all(
            s.key in media and media[s.key]["frames"] == s.frames_sha256
            for s in self.videos.samples
        )

    @property
    def _lossless(self) -> bool:
        return self.settings.reference == "lossless"

    @cached_property
    def media(self) -> dict[str, dict[str, str]]:
        """Reference media of this run by sample key, their blobs written to the run's folder."""
        from pytest_vdb.baseline.media import keep
        from pytest_vdb.explained import with_trace

        lossless = self._lossless
        folder = self.session.scratch / "blobs"
        kept = {
            s.key: keep(s, self.frames(s), folder, lossless=lossless) for s in self.videos.samples
        }
        return with_trace(self, kept)


def _blank(spec: MetricSpec) -> Measurement:
    """A metric's measurement before it has values."""
    return Measurement(
        spec.name, spec.unit, spec.direction, spec.kind, "mean", provenance=spec.provenance()
    )
