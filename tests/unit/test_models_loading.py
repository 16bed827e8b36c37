"""Load options: what they read, that each takes effect, and that none is silently ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_dispatch import _AttentionBackendRegistry

from pytest_vdb.errors import BadSetting, SourceError
from pytest_vdb.models.catalog import CATALOG
from pytest_vdb.models.load_options import LOAD_OPTIONS, check, check_all, split
from pytest_vdb.models.open import open_source
from pytest_vdb.records import ModelSpec, Prompt

FOX = Prompt("fox", "a red fox runs through snow")
NAMED = {spec.name: spec for spec in CATALOG}
SMALL = {"num_frames": 5, "height": 32, "width": 32, "num_inference_steps": 6}
WAN = {**NAMED["tiny-wan"].call, **SMALL}
LTX = {**NAMED["tiny-ltx"].call, **SMALL, "num_frames": 9}

BARE_WAN = """
import pytest_vdb.models.embedded as embedded

def without_blocks():
    pipeline = embedded.tiny_wan()
    del pipeline.transformer.blocks[:]  # every layer takes seconds to compile
    return pipeline

def without_cache():
    pipeline = embedded.tiny_wan()
    pipeline.vae = None
    return pipeline
"""


def opened(model: str, **options: Any) -> Any:
    spec = NAMED[model]
    return open_source(ModelSpec(model, "factory", spec.location, options=options))


def frames(source: Any, call: dict[str, Any]) -> np.ndarray:
    return source.generate(FOX, 0, call).frames


@pytest.fixture(scope="module")
def wan() -> np.ndarray:
    return frames(opened("tiny-wan"), WAN)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bare_wan_for_vdb.py").write_text(BARE_WAN)
    monkeypatch.syspath_prepend(str(tmp_path))


# ------------------------------------------------------------------------------ what is read


@pytest.mark.parametrize(
    ("name", "value", "result"),
    [
        ("num_threads", 2, 2),
        ("compile", True, "default"),
        ("compile", "max-autotune", "max-autotune"),
        ("compile", False, None),
        ("vae_tiling", True, True),
        ("cache_threshold", 1, 1.0),
        ("motion_adapter", "guoyww/animatediff-motion-adapter-v1-5-2", ...),
        ("retries", 0, 0),
        ("cache", None, None),
    ],
)
def test_a_value_in_its_one_form(name: str, value: Any, result: Any) -> None:
    assert check(name, value) == (value if result is ... else result)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("num_threads", 0, r"num_threads=0: give a whole number above 0"),
        ("num_threads", True, r"num_threads=True"),
        ("compile", "fast", r"compile='fast': give one of: default, reduce-overhead"),
        ("vae_tiling", 1, r"give true or false"),
        ("cpu_offload", "modle", r"did you mean 'model'"),
        ("quantization", "bitsandbytes", r"did you mean 'bitsandbytes_8bit'"),
        ("cache", "teacache", r"give one of: first_block, faster, pyramid"),
        ("cache_threshold", float("nan"), r"give a number above 0"),
        ("attention_backend", "a b", r"give a name"),
        ("vae_tilling", True, r"no load option 'vae_tilling': did you mean 'vae_tiling'"),
    ],
)
def test_a_wrong_value_says_what_is_right(name: str, value: Any, message: str) -> None:
    with pytest.raises(BadSetting, match=message):
        check(name, value)


def test_call_arguments_and_load_options_part() -> None:
    given = {"num_frames": 5, "vae_tiling": True, "compile": True, "guidance_scale": 5.0}
    call, options = split(given)
    assert call == {"num_frames": 5, "guidance_scale": 5.0}
    assert options == {"vae_tiling": True, "compile": "default"}
    with pytest.raises(BadSetting, match="cache='x'"):
        split({"cache": "x"})


def test_options_are_for_a_kind_of_source() -> None:
    with pytest.raises(BadSetting, match=r"retries means nothing.*'factory'.*endpoint"):
        check_all({"retries": 1}, "factory", "mine")
    with pytest.raises(BadSetting, match=r"cache_threshold needs cache="):
        check_all({"cache_threshold": 0.1, "cache": "pyramid"}, "factory", "mine")
    assert check_all({"vae_tiling": False, "cache": None}, "factory", "mine") == {}


def test_the_catalog_s_options_are_known() -> None:
    for spec in CATALOG:
        check_all(spec.options, spec.source, spec.name)


def test_no_option_is_a_call_argument_of_a_pipeline() -> None:
    """Else ``--vdb-set`` could not tell which of the two is meant."""
    import inspect

    import diffusers

    for pipeline in {spec.pipeline for spec in CATALOG if spec.pipeline}:
        taken = set(inspect.signature(getattr(diffusers, pipeline).__call__).parameters)
        assert not taken & set(LOAD_OPTIONS), pipeline


# --------------------------------------------------------------------------- what takes effect


def test_nothing_set_changes_nothing(wan: np.ndarray) -> None:
    assert np.array_equal(frames(opened("tiny-wan", vae_tiling=False, cache=None), WAN), wan)


def test_tiling_and_slicing_reach_the_vae() -> None:
    source = opened("tiny-wan", vae_tiling=True, vae_slicing=True)
    assert source.pipeline.vae.use_tiling
    assert source.pipeline.vae.use_slicing
    assert np.isfinite(frames(source, WAN)).all()


def test_fp8_storage_is_smaller_and_changes_little(wan: np.ndarray) -> None:
    source = opened("tiny-wan", quantization="layerwise_fp8")
    kinds = {p.dtype for p in source.pipeline.transformer.parameters()}
    assert kinds == {torch.float8_e4m3fn, torch.float32}
    assert source.nbytes < 0.6 * opened("tiny-wan").nbytes
    difference = np.abs(frames(source, WAN) - wan).mean()
    assert 0 < difference < 0.02


def test_a_first_block_cache_skips_and_starts_anew_each_video() -> None:
    whole = frames(opened("tiny-ltx"), LTX)
    source = opened("tiny-ltx", cache="first_block", cache_threshold=0.5)
    assert source.pipeline.transformer.is_cache_enabled
    last = source.pipeline.transformer.transformer_blocks[-1].ff
    calls: list[int] = []
    last.register_forward_hook(lambda *_: calls.append(1))
    first, second = frames(source, LTX), frames(source, LTX)
    assert len(calls) < 2 * SMALL["num_inference_steps"]
    assert not np.array_equal(first, whole)
    assert np.array_equal(first, second)


@pytest.mark.parametrize("cache", ["faster", "pyramid"])
def test_caches_of_attention_change_the_video(cache: str) -> None:
    call = {**NAMED["tiny-cogvideox"].call, **SMALL}
    whole = frames(opened("tiny-cogvideox"), call)
    source = opened("tiny-cogvideox", cache=cache)
    first, second = frames(source, call), frames(source, call)
    assert np.isfinite(first).all()
    assert not np.array_equal(first, whole)
    assert np.array_equal(first, second)


def test_an_attention_backend_is_this_model_s_alone(wan: np.ndarray) -> None:
    before = _AttentionBackendRegistry._active_backend
    source = opened("tiny-wan", attention_backend="_native_math")
    processors = [block.attn1.processor for block in source.pipeline.transformer.blocks]
    assert {p._attention_backend.value for p in processors} == {"_native_math"}
    assert _AttentionBackendRegistry._active_backend == before
    assert np.allclose(frames(source, WAN), wan, atol=1e-3)


def test_a_scheduler_and_its_shift(wan: np.ndarray) -> None:
    source = opened("tiny-wan", flow_shift=7.0)
    assert source.pipeline.scheduler.config.shift == 7.0
    assert not np.array_equal(frames(source, WAN), wan)
    source = opened("tiny-wan", scheduler="FlowMatchHeunDiscreteScheduler")
    assert type(source.pipeline.scheduler).__name__ == "FlowMatchHeunDiscreteScheduler"
    with pytest.raises(BadSetting, match=r"did you mean 'UniPCMultistepScheduler'"):
        opened("tiny-wan", scheduler="UniPCMultiStepScheduler")
    with pytest.raises(SourceError, match=r"flow_shift=7.*no fixed shift"):
        opened("tiny-ltx", flow_shift=7.0)  # it shifts by the number of tokens


def test_a_compiled_denoiser_gives_the_same_video_and_shows_its_calls(mine: None) -> None:
    location = "bare_wan_for_vdb:without_blocks"
    plain = open_source(ModelSpec("one", "factory", location))
    source = open_source(ModelSpec("one", "factory", location, options={"compile": "default"}))
    transformer = source.pipeline.components["transformer"]
    assert isinstance(transformer, torch._dynamo.eval_frame.OptimizedModule)
    calls: list[int] = []
    transformer.register_forward_hook(lambda *_: calls.append(1))
    call = {**WAN, "num_inference_steps": 2}
    assert np.allclose(frames(source, call), frames(plain, call), atol=1e-3)
    assert len(calls) == 4  # two steps, with and without guidance: hooks are not compiled away
    assert source.nbytes == plain.nbytes


# ------------------------------------------------------------------------ what cannot be applied


@pytest.mark.parametrize(
    ("model", "options", "kind", "message"),
    [
        ("tiny-wan", {"cpu_offload": "model"}, BadSetting, r"on cpu: .*--vdb-device=cuda"),
        ("tiny-wan", {"attention_backend": "flash"}, SourceError, r"flash-attn"),
        ("tiny-wan", {"attention_backend": "falsh"}, BadSetting, r"did you mean 'flash'"),
        (
            "tiny-cogvideox",
            {"attention_backend": "native"},
            SourceError,
            r"attention_backend=native of model 'tiny-cogvideox'.*would do nothing",
        ),
        ("tiny-wan", {"quantization": "quanto_int8"}, SourceError, r"pip install optimum-quanto"),
        (
            "tiny-wan",
            {"cache": "taylorseer"},
            SourceError,
            r"no layer of transformer \(WanTransformer3DModel\) takes this cache",
        ),
        ("tiny-wan", {"cache": "pyramid"}, SourceError, r"is for AllegroTransformer3DModel"),
        ("tiny-ltx", {"cache": "sea"}, SourceError, r"is for WanTransformer3DModel"),
        ("tiny-wan", {"variant": "fp16"}, BadSetting, r"source is 'factory'"),
    ],
)
def test_what_would_do_nothing_is_an_error(
    model: str, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        opened(model, **options)


def test_a_pipeline_without_what_an_option_needs(mine: None) -> None:
    spec = ModelSpec("mine", "factory", "bare_wan_for_vdb:without_cache")
    with pytest.raises(SourceError, match=r"vae_tiling=True of model 'mine': NoneType has no"):
        open_source(ModelSpec("mine", "factory", spec.location, options={"vae_tiling": True}))


def test_the_table_of_the_docs_is_the_code_s() -> None:
    page = Path(__file__).parents[2] / "docs" / "loading.md"
    rows = [line for line in page.read_text().splitlines() if line.startswith("| `")]
    for name, option in LOAD_OPTIONS.items():
        assert f"| `{name}` | {option.values} | {option.doc} |" in rows
