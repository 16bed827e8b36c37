"""Any engine as a source of videos: what a factory gave that is no diffusers pipeline.

Nothing is measured inside an engine, which may work in processes of its own: beyond the wall clock
around its call and its videos, only what it reports counts.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pytest_vdb.errors import NoImage, SourceError, nearest
from pytest_vdb.models.reported import checked, fields_of
from pytest_vdb.models.sources import PROVIDES, Output, provides
from pytest_vdb.records import Json, ModelSpec, Prompt

OURS = ("prompt", "seed", "image")  # what a workload does not set
ALWAYS = frozenset({"load", "latency", "quality"})

Parameters = Mapping[str, inspect.Parameter]


class EngineSource:
    """An engine: called as ``engine(prompt="...", seed=0, **arguments)``, it gives one video.

    It is an object with such a method ``generate``, or is called itself. It gets the conditioning
    image's path as ``image`` where it takes one. It returns frames (an array (T, H, W, 3), uint8
    or floats in [0, 1]; a tensor, also (T, 3, H, W); a list of pictures), an `Output`, or a mapping
    with the names of `Output`'s fields, where ``ranks`` holds one mapping a process.

    Of several ranks, time is the slowest one's (``Output.seconds``), memory the largest one's
    (``Output.memory["allocated"]``) and each one's (``rank.<number>``).

    What the engine raises passes as it is. Raises SourceError for an engine that cannot be called
    so, whose ``provides`` holds unknown words, or whose ``dtype`` is not the model's.
    """

    def __init__(self, spec: ModelSpec, engine: Any) -> None:
        self.spec = spec
        self._engine = engine
        self._call, self._parameters = _entry(spec, engine)
        self._provides = ALWAYS | _declared(spec, engine)
        _check_dtype(spec, engine)

    @property
    def provides(self) -> frozenset[str]:
        """What every engine gives, what this one declares, and what it has reported so far.

        An engine declares words (``"stages"``, ``"memory"``, ``"energy"``, ``"latent"``) in an
        attribute ``provides``; then a video without them is UNMEASURED and fails.
        """
        return self._provides & provides(self.spec)

    @property
    def nbytes(self) -> int:
        """Bytes of weights in this process, where the engine says so in ``nbytes``; else 0."""
        size = getattr(self._engine, "nbytes", 0)
        return size if isinstance(size, int) else 0

    def generate(self, prompt: Prompt, seed: int, call: Mapping[str, Json]) -> Output:
        """One video and what the engine reports of it, checked.

        Raises SourceError for arguments that the engine does not take and for a report that cannot
        be right, NoImage where it needs a conditioning image that the prompt lacks.
        """
        arguments = self._arguments(prompt, seed, call)
        where = f"model {self.spec.name!r}, prompt {prompt.id!r}, seed {seed}:"
        started = time.perf_counter()
        fields = fields_of(self._call(**arguments), where)  # frames on the CPU: it has finished
        wall = time.perf_counter() - started
        output = checked(fields, wall, self.spec.devices, where)
        self._provides |= _reported(output)
        return output

    def close(self) -> None:
        """Call the engine's ``close``, or its ``shutdown``, where it has one, and let go of it."""
        engine, self._engine = self._engine, None
        self._call = _closed
        for name in ("close", "shutdown"):
            if callable(method := getattr(engine, name, None)):
                method()
                return

    def _arguments(self, prompt: Prompt, seed: int, call: Mapping[str, Json]) -> dict[str, Any]:
        """All arguments of one call, checked against the engine's signature."""
        free = _takes_any(self._parameters)
        accepted = set(_named(self._parameters)) - set(OURS)
        for argument in call:
            if argument in OURS:
                raise SourceError(
                    f"call argument {argument!r} of model {self.spec.name!r} is set by the plugin; "
                    "prompts and seeds are the workload's (prompts=..., num_seeds=...)"
                )
            if argument not in accepted and not free:
                raise SourceError(
                    f"the engine of model {self.spec.name!r} takes no argument {argument!r}: "
                    f"{nearest(argument, accepted)}"
                )
        ours: dict[str, Any] = {"prompt": prompt.text, "seed": seed}
        if prompt.image is not None and (free or "image" in self._parameters):
            ours["image"] = prompt.image
        arguments = ours | dict(call)
        for name, parameter in _named(self._parameters).items():
            if parameter.default is parameter.empty and name not in arguments:
                raise self._lacking(name, prompt)
        return arguments

    def _lacking(self, name: str, prompt: Prompt) -> NoImage | SourceError:
        if name == "image":
            return NoImage(
                f"the engine of model {self.spec.name!r} starts from an image and prompt "
                f'{prompt.id!r} has none; give "image" in the prompt file'
            )
        return SourceError(
            f"the engine of model {self.spec.name!r} needs the argument {name!r}; give it with "
            f"--vdb-set={name}=..., in the marker's call={{...}} or in ModelSpec(call={{...}})"
        )


def _entry(spec: ModelSpec, engine: Any) -> tuple[Callable[..., Any], Parameters]:
    """What is to be called, and its parameters: ``engine.generate``, or the engine itself."""
    name = type(engine).__name__
    problems = []
    if inspect.isclass(engine):
        problems = [f"it is the class {engine.__name__}: return an instance"]
    else:
        for entry in (getattr(engine, "generate", None), engine):
            if not callable(entry):
                continue
            parameters = parameters_of(entry)
            lacking = {"prompt", "seed"} - set(_named(parameters))
            if not lacking or _takes_any(parameters):
                return entry, parameters
            called = f"{getattr(entry, '__name__', name)}{inspect.signature(entry)}"
            problems.append(f"{called} takes no {' and no '.join(sorted(lacking))} by name")
    raise SourceError(
        f"{spec.location} gave a {name}; let it return a diffusers.DiffusionPipeline or an engine, "
        "which is called as engine(prompt=..., seed=..., **arguments) or has such a method generate"
        + "".join(f"; {problem}" for problem in problems)
    )


def parameters_of(function: Any) -> Parameters:
    """The parameters of anything that can be called. Raises SourceError where nobody knows them."""
    try:
        return inspect.signature(function).parameters
    except ValueError as exc:
        raise SourceError(f"{exc}; wrap it in a function of Python") from exc


def _takes_any(parameters: Parameters) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _named(parameters: Parameters) -> dict[str, inspect.Parameter]:
    """Those that can be given by name."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: p for name, p in parameters.items() if p.kind in kinds}


def _declared(spec: ModelSpec, engine: Any) -> frozenset[str]:
    """The engine's own words on what it reports."""
    words = getattr(engine, "provides", ())
    known = PROVIDES[spec.source]
    if isinstance(words, str) or not isinstance(words, Iterable):
        raise SourceError(
            f"the engine of model {spec.name!r} has provides={words!r}; give a list of words of: "
            f"{', '.join(sorted(known))}"
        )
    for word in words:
        if word not in known:
            raise SourceError(
                f"the engine of model {spec.name!r} says that it provides {word!r}: "
                f"{nearest(word, known)}"
            )
    return frozenset(words)


def _check_dtype(spec: ModelSpec, engine: Any) -> None:
    """Raise where the engine says that it runs in another dtype than its workload is keyed by."""
    dtype = getattr(engine, "dtype", None)
    if dtype is not None and str(dtype).removeprefix("torch.") != spec.dtype:
        raise SourceError(
            f"the engine of model {spec.name!r} runs in {dtype}, and {spec.dtype} is asked for; "
            "say ModelSpec(dtype=...) as it is, or let the factory function take a dtype"
        )


def _reported(output: Output) -> frozenset[str]:
    """The words of what an output holds beyond its frames."""
    held = {
        "stages": bool(output.stages or output.steps),
        "memory": bool(output.memory),
        "latent": output.latent is not None,
        "energy": any(rank.energy is not None for rank in output.ranks),
    }
    return frozenset(word for word, there in held.items() if there)


def _closed(**arguments: Any) -> Any:
    raise SourceError("this engine is closed; open the model again")
