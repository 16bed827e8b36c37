"""A pipeline from a hub id or a local folder: safetensors only, and no code but diffusers' own.

A folder is looked at before anything is loaded: diffusers' own errors about a half-downloaded one
name neither all the files nor what to do, and a truncated file fails after minutes.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RevisionNotFoundError,
)
from transformers.utils import logging as transformers_logging

from pytest_vdb.errors import (
    InfraError,
    PickleRefused,
    SourceError,
    UnknownModel,
    VdbError,
    nearest,
)
from pytest_vdb.models import loading
from pytest_vdb.models.catalog import SHAPES
from pytest_vdb.models.factory import torch_dtype
from pytest_vdb.models.families import FAMILIES
from pytest_vdb.models.folder import (
    INDEX,
    check_digest,
    check_folder,
    components,
    fetch_again,
    fetch_command,
    read_index,
    refuse_code,
)
from pytest_vdb.models.parts import load_parts
from pytest_vdb.models.pipeline import PipelineSource
from pytest_vdb.records import Json, ModelSpec

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
COMMIT = re.compile(r"[0-9a-f]{40}")
NETWORK = {"httpx", "httpcore", "requests", "urllib3"}


def open_hub(spec: ModelSpec, device: str = "cpu") -> PipelineSource:
    """The pipeline at ``spec.location``, a hub id or a folder, on ``device`` in ``spec.dtype``.

    ``spec.pipeline`` names the class of diffusers to use in place of the repository's own choice;
    the options ``motion_adapter``, ``transformer`` and ``image_encoder`` (hub ids or folders) give
    it components from elsewhere. A hub id is
    downloaded into the hub's cache where it is not there yet; with ``HF_HUB_OFFLINE`` nothing is
    asked of the network. With ``weights="random"`` only configurations are read, and no weights.

    Raises SourceError (files are missing, truncated or not those of ``spec.sha256``, a licence was
    not accepted, custom code),
    PickleRefused, UnknownModel (no such repository), InfraError (the hub cannot be reached) or
    BadSetting (load options).
    """
    options = loading.checked(spec, device)
    dtype = torch_dtype(spec)
    with quiet():
        if spec.weights == "random":
            from pytest_vdb.models.random_weights import build

            pipeline = build(spec, device, dtype)
        else:
            pipeline = _load(spec, options, dtype)
    loading.apply(pipeline, spec, device)
    pipeline.set_progress_bar_config(disable=True)
    return PipelineSource(spec, pipeline)


def _load(spec: ModelSpec, options: dict[str, Json], dtype: torch.dtype) -> Any:
    kind = pipeline_class(spec)
    more: dict[str, Any] = {"variant": options["variant"]} if "variant" in options else {}
    parts = load_parts(spec, options, dtype)
    folder = find_folder(spec, kind, more | dict.fromkeys(parts))  # these need no download
    check_folder(folder, spec, str(options.get("variant", "")), given=parts)
    check_digest(folder, spec)
    if preset := options.get("quantization"):
        config = loading.quantization_config(
            str(preset), components(read_index(folder, spec)), dtype
        )
        more |= {} if config is None else {"quantization_config": config}
        with loading.applying(spec, "quantization", preset):
            return quietly_loaded(kind, folder, dtype, more | parts)
    return quietly_loaded(kind, folder, dtype, more | parts)


def quietly_loaded(kind: Any, folder: Path, dtype: torch.dtype, more: dict[str, Any]) -> Any:
    with warnings.catch_warnings():
        # Newer releases call it dtype; older ones ignore that name, and load float32.
        warnings.filterwarnings("ignore", message=".*torch_dtype", category=FutureWarning)
        return kind.from_pretrained(
            str(folder), torch_dtype=dtype, use_safetensors=True, local_files_only=True, **more
        )


def pipeline_class(spec: ModelSpec) -> Any:
    """The class of diffusers that ``spec.pipeline`` names, or DiffusionPipeline. Or SourceError."""
    import diffusers

    if not spec.pipeline:
        return DiffusionPipeline
    kind = getattr(diffusers, spec.pipeline, None)
    if not (isinstance(kind, type) and issubclass(kind, DiffusionPipeline)):
        known = [name for name in dir(diffusers) if name.endswith("Pipeline")]
        raise SourceError(
            f"diffusers {diffusers.__version__} has no pipeline {spec.pipeline!r} (model "
            f"{spec.name!r}); {nearest(spec.pipeline, known)}; an upgrade may bring it"
        )
    return kind


def find_folder(spec: ModelSpec, kind: Any, more: dict[str, Any]) -> Path:
    """The folder of ``spec.location``: its own, or the hub's cache after a download.

    Raises SourceError, UnknownModel or InfraError.
    """
    folder = Path(spec.location).expanduser()
    if folder.is_dir():
        return folder
    if not HUB_ID.fullmatch(spec.location):
        embedded = spec.location == SHAPES.location
        what = "it is no hub id (org/name) either; give one of the two"
        what = fetch_again(folder, spec) if embedded else what
        raise SourceError(f"model {spec.name!r}: there is no folder {spec.location}; {what}")

    def download(location: str, revision: str | None) -> str:
        index = huggingface_hub.hf_hub_download(location, INDEX, revision=revision)
        refuse_code(read_index(Path(index).parent, spec), spec)
        return str(kind.download(location, revision=revision, use_safetensors=True, **more))

    return fetch(spec.location, spec.revision, spec, (INDEX,), download)


def cached_folder(location: str, revision: str, filename: str) -> Path | None:
    """The snapshot of ``location`` that holds ``filename`` in the hub's cache, without network."""
    found = huggingface_hub.try_to_load_from_cache(
        location, filename, revision=revision or None, cache_dir=constants.HF_HUB_CACHE
    )
    if not isinstance(found, str):
        return None
    return Path(found).parents[filename.count("/")]


def fetch(
    location: str, revision: str, spec: ModelSpec, names: tuple[str, ...], download: Any
) -> Path:
    """The snapshot of a repository, downloaded unless the network is not to be asked.

    One of the files ``names`` says that it is in the cache; ``download(location, commit)`` fetches
    it. Raises SourceError, UnknownModel or InfraError.
    """
    found = (cached_folder(location, revision, name) for name in names)
    cached = next((folder for folder in found if folder is not None), None)
    if constants.HF_HUB_OFFLINE:
        if cached is None:
            raise SourceError(
                f"model {spec.name!r}: {location} is not in {constants.HF_HUB_CACHE}, and "
                f"HF_HUB_OFFLINE is set. {_prefetch(location, revision)}"
            )
        return cached
    try:
        return _download(location, revision, spec, download)
    except InfraError:
        if cached is None or not COMMIT.fullmatch(revision):
            raise  # a branch may have moved on
        return cached


def _download(location: str, revision: str, spec: ModelSpec, download: Any) -> Path:
    with hub_errors(spec, location, revision):
        # Asked first: diffusers would take what is cached for the newest when the hub is away.
        commit = huggingface_hub.model_info(location, revision=revision or None).sha
        return Path(download(location, commit))


def _prefetch(location: str, revision: str) -> str:
    return (
        f"Fetch it where there is a network: {fetch_command(location, revision)}; then set HF_HOME "
        f"to that cache (here {constants.HF_HOME}) and HF_HUB_OFFLINE=1"
    )


@contextmanager
def hub_errors(spec: ModelSpec, location: str, revision: str) -> Iterator[None]:
    """Turn what the hub, or the way to it, raises into our errors; others pass."""
    try:
        yield
    except VdbError:
        raise
    except Exception as exc:
        chain = [exc, *_causes(exc)]
        answer = next((e for e in chain if isinstance(e, HfHubHTTPError)), None)
        status = getattr(getattr(answer, "response", None), "status_code", None)
        if answer is not None and status is not None and 400 <= status < 500 and status != 429:
            raise _refusal(answer, status, spec, location, revision) from exc
        if answer is not None or any(_unreachable(e) for e in chain):
            raise InfraError(
                f"model {spec.name!r}: the hub at {constants.ENDPOINT} cannot be reached for "
                f"{location} ({type(exc).__name__}: {str(answer or exc)[:200]}). "
                f"{_prefetch(location, revision)}"
            ) from exc
        if isinstance(exc, OSError) and "safetensors" in str(exc):
            raise PickleRefused(
                f"model {spec.name!r}: {location} has weights as pickles only, and a pickle can "
                "run any code; ask its authors for safetensors, or convert it once on a machine "
                f"where that is no harm ({exc})"
            ) from exc
        raise


def _refusal(
    answer: Any, status: int, spec: ModelSpec, location: str, revision: str
) -> SourceError | UnknownModel:
    """What an answer of 4xx means."""
    known = [family.location for family in FAMILIES]
    if isinstance(answer, RevisionNotFoundError):
        return SourceError(
            f"model {spec.name!r}: {location} has no revision {revision!r}; see "
            f"{constants.ENDPOINT}/{location}/commits/main"
        )
    if isinstance(answer, EntryNotFoundError):
        return SourceError(
            f"model {spec.name!r}: {location} is no pipeline of diffusers ({str(answer)[:200]}); "
            "look for a repository whose name ends in -Diffusers, or load it in a function of "
            "your own (module:function)"
        )
    if status == 404:
        return UnknownModel(
            f"model {spec.name!r}: the hub has no repository {location}; {nearest(location, known)}"
        )
    return SourceError(
        f"model {spec.name!r}: the hub does not let you read {location} (HTTP {status}): accept "
        f"its licence at {constants.ENDPOINT}/{location}, and log in (hf auth login, or HF_TOKEN)."
        f" The hub says the same of a repository that does not exist: {nearest(location, known)}"
    )


def _causes(exc: BaseException) -> Iterator[BaseException]:
    while (cause := exc.__cause__ or exc.__context__) is not None:
        yield cause
        exc = cause


def _unreachable(exc: BaseException) -> bool:
    if isinstance(exc, LocalEntryNotFoundError):  # the way was lost between two files
        return True
    library = type(exc).__module__.partition(".")[0]
    return isinstance(exc, ConnectionError | TimeoutError) or library in NETWORK


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars of the libraries inside the block: pytest's output is not theirs."""
    hub: Any = huggingface_hub.utils
    were = (
        not hub.are_progress_bars_disabled(),
        diffusers_logging.is_progress_bar_enabled(),
        transformers_logging.is_progress_bar_enabled(),
    )
    switches: tuple[tuple[Any, Any], ...] = (
        (hub.disable_progress_bars, hub.enable_progress_bars),
        (diffusers_logging.disable_progress_bar, diffusers_logging.enable_progress_bar),
        (transformers_logging.disable_progress_bar, transformers_logging.enable_progress_bar),
    )
    for on, (disable, _) in zip(were, switches, strict=True):
        if on:
            disable()
    try:
        yield
    finally:
        for on, (_, enable) in zip(were, switches, strict=True):
            if on:
                enable()
