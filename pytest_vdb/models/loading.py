"""Apply load options to a diffusers pipeline, and check that each of them took effect.

An option that does nothing would measure something else than what was asked for, and store it as
a baseline of its own. So what a pipeline does not support is an error here, also where diffusers
itself goes on without a word.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from pytest_vdb.errors import BadSetting, SourceError, VdbError, nearest
from pytest_vdb.models.load_options import QUANTIZATIONS, check_all
from pytest_vdb.records import Json, ModelSpec

DENOISERS = ("transformer", "transformer_2", "unet")

CACHED: Mapping[str, Mapping[str, str]] = {
    "pyramid": dict.fromkeys(
        (
            *("AllegroTransformer3DModel", "CogVideoXTransformer3DModel"),
            *("HunyuanVideoTransformer3DModel", "HunyuanVideoFramepackTransformer3DModel"),
            "LatteTransformer3DModel",
        ),
        "",
    ),
    "faster": {
        "CogVideoXTransformer3DModel": "BFCHW",
        "HunyuanVideoTransformer3DModel": "BCFHW",
        "HunyuanVideoFramepackTransformer3DModel": "BCFHW",
        "LatteTransformer3DModel": "BCFHW",
        "MochiTransformer3DModel": "BCFHW",
    },
    "sea": {"WanTransformer3DModel": "", "Cosmos3OmniTransformer": ""},
}
"""Denoisers for which diffusers itself tests a cache, with the layout of their latents.

Elsewhere these caches run and give something wrong (they share one state between the two calls of
a guided step) or do nothing. ``first_block`` and ``taylorseer`` are judged by their hooks.
"""


def checked(spec: ModelSpec, device: str) -> dict[str, Json]:
    """The load options of ``spec`` that are set, each in its one form.

    Nothing is loaded, so call it before a download. Raises BadSetting for what cannot mean
    anything on ``device`` and SourceError for a package that is missing.
    """
    options = check_all(spec.options, spec.source, spec.name)
    if "cpu_offload" in options:
        if torch.device(device).type == "cpu":
            raise BadSetting(
                f"cpu_offload={options['cpu_offload']} on {device}: weights are in the CPU's "
                "memory already; leave it out, or run on an accelerator (--vdb-device=cuda)"
            )
        if "compile" in options:
            raise BadSetting("compile and cpu_offload do not go together: leave one of them out")
    package = QUANTIZATIONS.get(str(options.get("quantization")), "")
    if package and not _installed(package.replace("-", ".")):
        raise SourceError(
            f"quantization={options['quantization']} needs a package that is not here: "
            f"pip install {package} (layerwise_fp8 needs none)"
        )
    return options


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package around it
        return False


def apply(pipeline: Any, spec: ModelSpec, device: str) -> None:
    """Put ``pipeline`` on ``device`` and apply ``spec.options`` to it.

    ``num_threads`` is the runner's, ``motion_adapter`` and ``variant`` are those of the load.
    Raises BadSetting and SourceError as `checked` does, and SourceError for an option that this
    pipeline does not support or that did not take effect.
    """
    options = checked(spec, device)
    steps: dict[str, Callable[[Any, Any], None]] = {
        "scheduler": _set_scheduler,
        "flow_shift": _set_flow_shift,
        "quantization": _quantize,
        "attention_backend": _set_attention,
        "cache": lambda p, kind: _enable_cache(p, kind, options.get("cache_threshold")),
        "vae_tiling": lambda p, _: _switch_vae(p, "tiling"),
        "vae_slicing": lambda p, _: _switch_vae(p, "slicing"),
    }
    for name, step in steps.items():
        if name in options:
            with applying(spec, name, options[name]):
                step(pipeline, options[name])
    if "cpu_offload" in options:
        with applying(spec, "cpu_offload", options["cpu_offload"]):
            _offload(pipeline, options["cpu_offload"], device)
    else:
        pipeline.to(device)
    if "compile" in options:
        _compile(pipeline, options["compile"])


@contextmanager
def applying(spec: ModelSpec, name: str, value: Json) -> Iterator[None]:
    """Say which option of which model an exception belongs to."""
    try:
        yield
    except VdbError as exc:
        raise type(exc)(f"{name}={value} of model {spec.name!r}: {exc}") from exc.__cause__
    except Exception as exc:
        raise SourceError(
            f"{name}={value} of model {spec.name!r} cannot be applied: {type(exc).__name__}: {exc}"
        ) from exc


def denoisers(pipeline: Any) -> dict[str, Any]:
    """The networks that denoise, by component name. Raises SourceError where there is none."""
    found = {name: getattr(pipeline, name, None) for name in DENOISERS}
    modules = {name: m for name, m in found.items() if isinstance(m, torch.nn.Module)}
    if not modules:
        raise SourceError(f"{type(pipeline).__name__} has none of {', '.join(DENOISERS)}")
    return modules


def _set_scheduler(pipeline: Any, name: str) -> None:
    import diffusers

    kind: Any = getattr(diffusers, name, None)
    known = [k for k in dir(diffusers) if k.endswith("Scheduler")]
    if name not in known or not hasattr(kind, "from_config"):
        raise BadSetting(f"diffusers has no such scheduler; {nearest(name, known)}")
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config)


def _set_flow_shift(pipeline: Any, shift: float) -> None:
    config = pipeline.scheduler.config
    key = next((k for k in ("flow_shift", "shift") if k in config), None)
    # The two conditions under which diffusers' schedulers do not read it.
    if key is None or config.get("use_dynamic_shifting") or not config.get("use_flow_sigmas", True):
        raise SourceError(f"{type(pipeline.scheduler).__name__}, as configured, has no fixed shift")
    pipeline.scheduler = type(pipeline.scheduler).from_config(config, **{key: shift})


def _quantize(pipeline: Any, preset: str) -> None:
    """Fp8 storage for each denoiser; the other presets took effect while weights were read."""
    for name, module in denoisers(pipeline).items():
        if preset != "layerwise_fp8":
            if getattr(module, "hf_quantizer", None) is None:
                raise SourceError(
                    f"{name} is not quantised: this preset works while diffusers reads weight "
                    "files (a hub id or a folder); layerwise_fp8 works everywhere"
                )
            continue
        module.enable_layerwise_casting(
            storage_dtype=torch.float8_e4m3fn, compute_dtype=module.dtype
        )
        if not any(p.dtype == torch.float8_e4m3fn for p in module.parameters()):
            raise SourceError(f"no weight of {name} ({type(module).__name__}) became fp8")


def _set_attention(pipeline: Any, backend: str) -> None:
    from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry

    names = [member.value for member in AttentionBackendName]
    if backend.lower() not in names:
        raise BadSetting(f"diffusers has no such backend; {nearest(backend, names)}")
    before = _AttentionBackendRegistry._active_backend
    try:
        for name, module in denoisers(pipeline).items():
            module.set_attention_backend(backend)
            processors = [getattr(m, "processor", None) for m in module.modules()]
            chosen = [getattr(p, "_attention_backend", None) for p in processors]
            if not any(one is not None and one == backend.lower() for one in chosen):
                raise SourceError(
                    f"the attention of {name} ({type(module).__name__}) does not go through "
                    "diffusers' backends, so the option would do nothing"
                )
    finally:
        # diffusers makes it the default of the process as well: of every other model too.
        _AttentionBackendRegistry._active_backend = before


def _enable_cache(pipeline: Any, kind: str, threshold: float | None) -> None:
    for name, module in denoisers(pipeline).items():
        allowed = CACHED.get(kind, {type(module).__name__: ""})
        if type(module).__name__ not in allowed or not hasattr(module, "enable_cache"):
            raise SourceError(
                f"{name} is a {type(module).__name__}; this cache is for "
                + (", ".join(CACHED.get(kind, ())) or "models of diffusers with enable_cache")
            )
        if kind == "first_block" and "cache_context" not in inspect.getsource(type(pipeline)):
            raise SourceError(
                f"{type(pipeline).__name__} enters no cache_context, so diffusers would raise"
            )
        layout, before = allowed[type(module).__name__], _hooks(module)
        module.enable_cache(_cache_config(pipeline, kind, threshold, layout))
        if _hooks(module) <= before:
            raise SourceError(f"no layer of {name} ({type(module).__name__}) takes this cache")


def _cache_config(pipeline: Any, kind: str, threshold: float | None, layout: str) -> Any:
    hooks: Any = importlib.import_module("diffusers.hooks")

    def timestep() -> Any:
        return pipeline.current_timestep

    chosen = {} if threshold is None else {"threshold": threshold}
    match kind:
        case "first_block":
            return hooks.FirstBlockCacheConfig(**chosen)
        case "sea":
            return hooks.SeaCacheConfig(**chosen)
        case "taylorseer":
            return hooks.TaylorSeerCacheConfig()
        case "pyramid":
            return hooks.PyramidAttentionBroadcastConfig(
                spatial_attention_block_skip_range=2, current_timestep_callback=timestep
            )
    return hooks.FasterCacheConfig(
        tensor_format=layout,
        current_timestep_callback=timestep,
        attention_weight_callback=lambda _: 0.5,  # diffusers' own default, without its warning
        # It embeds guidance: there is no unconditional half of the batch to leave out.
        is_guidance_distilled=pipeline.transformer.config.get("guidance_embeds", False),
    )


def _hooks(module: Any) -> int:
    """How many layers of ``module`` carry hooks of diffusers."""
    registries = (getattr(layer, "_diffusers_hook", None) for layer in module.modules())
    return sum(1 for registry in registries if registry is not None and registry.hooks)


def _switch_vae(pipeline: Any, what: str) -> None:
    vae = getattr(pipeline, "vae", None)
    if not callable(enable := getattr(vae, f"enable_{what}", None)):
        raise SourceError(f"{type(vae).__name__} has no enable_{what}")
    enable()
    if getattr(vae, f"use_{what}", None) is not True:
        raise SourceError(f"{type(vae).__name__} did not switch its {what} on")


def _offload(pipeline: Any, kind: str, device: str) -> None:
    modules = [c for c in pipeline.components.values() if isinstance(c, torch.nn.Module)]
    if kind == "group":
        pipeline.enable_group_offload(
            onload_device=torch.device(device), offload_type="leaf_level", use_stream=True
        )
        done = any(_hooks(module) for module in modules)
    else:
        getattr(pipeline, f"enable_{kind}_cpu_offload")(device=device)
        done = any(hasattr(layer, "_hf_hook") for module in modules for layer in module.modules())
    if not done:
        raise SourceError(f"no component of {type(pipeline).__name__} was offloaded")


def _compile(pipeline: Any, mode: str) -> None:
    """A compiled wrapper around each denoiser: hooks on it stay outside what is compiled."""
    for name, module in denoisers(pipeline).items():
        setattr(pipeline, name, torch.compile(module, mode=None if mode == "default" else mode))


TORCHAO = {
    "int8wo": "Int8WeightOnlyConfig",
    "int4wo": "Int4WeightOnlyConfig",
    "fp8wo": "Float8WeightOnlyConfig",
    "fp8dq": "Float8DynamicActivationFloat8WeightConfig",
}


def quantization_config(preset: str, components: Iterable[str], dtype: torch.dtype) -> Any:
    """diffusers' configuration that quantises the denoisers among ``components`` as they load.

    None for ``layerwise_fp8``, which comes after the load. Text encoders stay as they are.
    """
    configs: Any = importlib.import_module("diffusers.quantizers.quantization_config")
    pipelines: Any = importlib.import_module("diffusers.quantizers")
    backend, _, bits = preset.partition("_")
    match backend:
        case "bitsandbytes" if bits == "8bit":
            config = configs.BitsAndBytesConfig(load_in_8bit=True)
        case "bitsandbytes":
            config = configs.BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
            )
        case "torchao":
            kinds = importlib.import_module("torchao.quantization")
            config = configs.TorchAoConfig(getattr(kinds, TORCHAO[bits])())
        case "quanto":
            config = configs.QuantoConfig(weights_dtype=bits.replace("fp8", "float8"))
        case _:
            return None
    return pipelines.PipelineQuantizationConfig(
        quant_mapping={name: config for name in components if name in DENOISERS}
    )
