"""How a model is loaded and run: the options that ``--vdb-set`` and the marker take beside a call.

The names are those that users know from diffusers. An option belongs to ``ModelSpec.options`` and
to the workload's identity: another backend or another cache is another baseline.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pytest_vdb.errors import BadSetting, nearest
from pytest_vdb.records import Json

Read = Callable[[Json], Json]
PIPELINES = ("diffusers", "factory")

CACHES = ("first_block", "faster", "pyramid", "sea", "taylorseer")
OFFLOADS = ("model", "sequential", "group")
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
QUANTIZATIONS: Mapping[str, str] = {
    "layerwise_fp8": "",
    "bitsandbytes_8bit": "bitsandbytes",
    "bitsandbytes_4bit": "bitsandbytes",
    "torchao_int8wo": "torchao",
    "torchao_int4wo": "torchao",
    "torchao_fp8wo": "torchao",
    "torchao_fp8dq": "torchao",
    "quanto_int8": "optimum-quanto",
    "quanto_fp8": "optimum-quanto",
}
"""Presets of diffusers' quantization backends, and the package that each needs."""


@dataclass(frozen=True)
class LoadOption:
    """``read`` gives the value in its one form or raises BadSetting; ``doc`` is one line.

    ``values`` is what people may type; ``sources`` are the kinds of source that know the option.
    """

    values: str
    doc: str
    read: Read
    sources: tuple[str, ...] = PIPELINES


def _switch(value: Json) -> bool:
    if isinstance(value, bool):
        return value
    raise BadSetting("give true or false")


def _whole(value: Json) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise BadSetting("give a whole number above 0")


def _natural(value: Json) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise BadSetting("give a whole number, 0 or above")


def _positive(value: Json) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf"):
        return float(value)
    raise BadSetting("give a number above 0")


def _name(value: Json) -> str:
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_]\w*", value):
        return value
    raise BadSetting("give a name: letters, digits and underscores")


def _place(value: Json) -> str:
    if isinstance(value, str) and value.strip():
        return value
    raise BadSetting("give a hub id (org/name) or a folder")


def _one_of(*allowed: str) -> Read:
    def read(value: Json) -> str:
        if value in allowed:
            return str(value)
        raise BadSetting(f"give one of: {', '.join(allowed)} ({nearest(value, allowed)})")

    return read


def _compile(value: Json) -> str | None:
    """A mode of ``torch.compile``; true is its default mode, false is no compilation."""
    if isinstance(value, bool):
        return "default" if value else None
    return str(_one_of(*COMPILE_MODES)(value))


LOAD_OPTIONS: Mapping[str, LoadOption] = {
    "num_threads": LoadOption("number", "threads of torch's operators on a CPU", _whole),
    "attention_backend": LoadOption(
        "`native`, `flash`, `_flash_3`, `sage`, `xformers`, ...",
        "diffusers' `set_attention_backend` on every denoiser",
        _name,
    ),
    "compile": LoadOption(
        "`true`, " + ", ".join(f"`{mode}`" for mode in COMPILE_MODES),
        "`torch.compile` of every denoiser, in that mode",
        _compile,
    ),
    "vae_tiling": LoadOption("`true`", "the VAE works on tiles: less memory", _switch),
    "vae_slicing": LoadOption("`true`", "the VAE works on one video at a time", _switch),
    "cpu_offload": LoadOption(
        ", ".join(f"`{kind}`" for kind in OFFLOADS),
        "weights wait in the CPU's memory: whole models, single layers, or groups of layers",
        _one_of(*OFFLOADS),
    ),
    "quantization": LoadOption(
        ", ".join(f"`{preset}`" for preset in QUANTIZATIONS),
        "weights of the denoisers in fewer bits; `layerwise_fp8` needs no package",
        _one_of(*QUANTIZATIONS),
    ),
    "cache": LoadOption(
        ", ".join(f"`{kind}`" for kind in CACHES),
        "diffusers' `enable_cache` on every denoiser: steps reuse what earlier ones computed",
        _one_of(*CACHES),
    ),
    "cache_threshold": LoadOption(
        "number", "how much may change before `first_block` or `sea` computes again", _positive
    ),
    "scheduler": LoadOption(
        "`UniPCMultistepScheduler`, ...", "another scheduler of diffusers, same settings", _name
    ),
    "flow_shift": LoadOption("number", "the scheduler's `flow_shift` or `shift`", _positive),
    "motion_adapter": LoadOption(
        "hub id or folder", "AnimateDiff's motion adapter", _place, ("diffusers",)
    ),
    "transformer": LoadOption(
        "hub id or folder", "the denoiser, in place of the repository's own", _place, ("diffusers",)
    ),
    "image_encoder": LoadOption(
        "hub id or folder", "the image encoder and its processor", _place, ("diffusers",)
    ),
    "variant": LoadOption(
        "`fp16`, ...", "weight files of that variant, where there are any", _name, ("diffusers",)
    ),
    "poll_interval": LoadOption(
        "seconds", "how often a server is asked whether it is done", _positive, ("endpoint",)
    ),
    "concurrency": LoadOption("number", "requests in flight at once", _whole, ("endpoint",)),
    "retries": LoadOption("number", "new attempts after an error", _natural, ("endpoint",)),
    "request_timeout": LoadOption(
        "seconds", "longest wait for an answer of a server", _positive, ("endpoint",)
    ),
    "job_timeout": LoadOption("seconds", "longest wait for a video", _positive, ("endpoint",)),
}


def check(name: str, value: Json) -> Json:
    """``value`` of the option ``name`` in its one form; None stays None (not set).

    Raises BadSetting for an option that does not exist or a value that it does not take.
    """
    option = LOAD_OPTIONS.get(name)
    if option is None:
        raise BadSetting(f"there is no load option {name!r}: {nearest(name, LOAD_OPTIONS)}")
    if value is None:
        return None
    try:
        return option.read(value)
    except BadSetting as exc:
        raise BadSetting(f"{name}={value!r}: {exc}") from None


def check_all(options: Mapping[str, Json], source: str, model: str) -> dict[str, Json]:
    """The options that are set, checked, for a model of this kind of source. Raises BadSetting."""
    checked = {name: check(name, value) for name, value in options.items()}
    chosen = {name: value for name, value in checked.items() if value not in (None, False)}
    for name in chosen:
        if source not in LOAD_OPTIONS[name].sources:
            raise BadSetting(
                f"{name} means nothing for model {model!r}, whose source is {source!r}: it is for "
                + " and ".join(LOAD_OPTIONS[name].sources)
            )
    if "cache_threshold" in chosen and chosen.get("cache") not in ("first_block", "sea"):
        raise BadSetting("cache_threshold needs cache=first_block or cache=sea")
    return chosen


PARTS = ("motion_adapter", "transformer", "image_encoder")
"""Options that name components of another repository."""
CLIENT = frozenset({"poll_interval", "retries", "request_timeout", "job_timeout"})
"""Options of how a server is asked, which change nothing about what it does."""


def split(call: Mapping[str, Json]) -> tuple[dict[str, Json], dict[str, Json]]:
    """``call`` apart: (call arguments, load options, each checked). Raises BadSetting.

    Only the names in ``LOAD_OPTIONS`` are load options; a misspelt one stays a call argument, and
    the pipeline says that it takes no such argument.
    """
    options = {name: check(name, value) for name, value in call.items() if name in LOAD_OPTIONS}
    return {k: v for k, v in call.items() if k not in LOAD_OPTIONS}, options
