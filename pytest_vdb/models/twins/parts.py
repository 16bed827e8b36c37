"""What tiny pipelines share: tokenizers, text encoders and picture encoders, without any file."""

# mypy: disable-error-code="no-untyped-call"
# (constructors of diffusers and transformers carry no annotations)

from __future__ import annotations

from typing import Any

from pytest_vdb.models.embedded import DIM, finished, text_config

BYTES = 256
SPECIAL = ("<pad>", "<s>", "</s>", "<|vision_start|>")  # after the bytes in the vocabulary
PAD, BOS, EOS = BYTES, BYTES + 1, BYTES + 2
VOCABULARY = BYTES + len(SPECIAL)

CHAT = (
    "{% for message in messages if message['role'] == 'user' %}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %}"
    "{% endfor %}"
)
"""A chat template in Jinja: what the user says."""


def twin(pipeline: Any, seed: int, grain: float, contrast: float) -> Any:
    """``pipeline`` with seeded weights, its videos ``contrast`` times as strong around grey.

    The last layer of the VAE's decoder is multiplied by it: random weights give as much of black
    and white as they happen to, and where it is too much, faults would not show.
    """
    import torch

    finished(pipeline, seed, grain)
    decoder = pipeline.vae.decoder
    last = decoder.conv_out if hasattr(decoder, "conv_out") else decoder.proj_out
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.mul_(contrast)
    return pipeline


def byte_tokenizer(length: int = 1024, system: int = 0) -> Any:
    """A tokenizer of transformers whose tokens are bytes, and which knows a chat template.

    It stands where a CLIP, Llama, Gemma or Qwen tokenizer needs a vocabulary file. A text is
    begun with BOS and ended with EOS; ``length`` is the longest that it makes. In a chat,
    ``system`` tokens stand for what the system says: some pipelines cut off a fixed number.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: index for index, symbol in enumerate([*alphabet, *SPECIAL])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", BOS), ("</s>", EOS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=length,
        chat_template="<s>" * system + CHAT,
    )


def t5() -> dict[str, Any]:
    """``tokenizer`` and ``text_encoder``: a T5 encoder that reads bytes."""
    from transformers import ByT5Tokenizer, T5Config, T5EncoderModel

    return {
        "tokenizer": ByT5Tokenizer(),
        "text_encoder": T5EncoderModel(T5Config(**text_config())),
    }


def umt5() -> dict[str, Any]:
    """``tokenizer`` and ``text_encoder``: a UMT5 encoder that reads bytes."""
    from transformers import ByT5Tokenizer, UMT5Config, UMT5EncoderModel

    return {
        "tokenizer": ByT5Tokenizer(),
        "text_encoder": UMT5EncoderModel(UMT5Config(**text_config())),
    }


def clip(suffix: str = "") -> dict[str, Any]:
    """``tokenizer`` and ``text_encoder``, with ``suffix``: a CLIP text model, 77 bytes of text."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        **language_config(),
        max_position_embeddings=77,
        projection_dim=DIM,
    )
    return {
        f"tokenizer{suffix}": byte_tokenizer(77),
        f"text_encoder{suffix}": CLIPTextModel(config),
    }


def language_config(layers: int = 2) -> dict[str, Any]:
    """Of a language model over bytes."""
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": DIM,
        "intermediate_size": 64,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "pad_token_id": PAD,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
    }


def qwen_config(layers: int = 2) -> dict[str, Any]:
    """Of the text part of Qwen-VL, whose tokens have a place in time, rows and columns."""
    return {
        **language_config(layers),
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "rope_scaling": {"rope_type": "default", "type": "default", "mrope_section": [2, 1, 1]},
    }


def vision_config(size: int = 32, patch: int = 8) -> dict[str, Any]:
    """Of a vision transformer over squares of ``size`` px a side."""
    return {
        "hidden_size": DIM,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": size,
        "patch_size": patch,
    }


def clip_vision(size: int = 32, patch: int = 8, *, projected: bool = True) -> tuple[Any, Any]:
    """A CLIP picture encoder and what prepares its pictures."""
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        CLIPVisionModel,
        CLIPVisionModelWithProjection,
    )

    config = CLIPVisionConfig(**vision_config(size, patch), projection_dim=DIM)
    model = CLIPVisionModelWithProjection if projected else CLIPVisionModel
    sides = {"height": size, "width": size}
    return model(config), CLIPImageProcessor(size={"shortest_edge": size}, crop_size=sides)


def picture_vae(**changes: Any) -> dict[str, Any]:
    """Of the VAE of Stable Diffusion, which knows single pictures."""
    return {
        "block_out_channels": (8, 8, 8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "norm_num_groups": 4,
        "sample_size": 64,
        **changes,
    }
