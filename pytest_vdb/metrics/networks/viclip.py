"""ViCLIP: one vector for a video and one for a text; they are close where the text tells the video.

Wang et al., "InternVid" (ICLR 2024): CLIP's ViT-L/14 over the patches of 8 frames at once, and
CLIP's text encoder. Parameters have the names and shapes of the published checkpoint, and are
those of CLIP beside one vector a frame.
"""

from __future__ import annotations

import gzip
import html
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from pytest_vdb.errors import WrongWeights
from pytest_vdb.metrics.weights import fill, read_state

FRAMES, SIDE, PATCH = 8, 224, 14
TOKENS = 32  # a longer text is cut there
VOCABULARY = 49408
MERGES = "bpe_simple_vocab_16e6.txt.gz"
QUOTES = str.maketrans("‘’‚‛“”„‟", "''''\"\"\"\"")


class Size(NamedTuple):
    """Of a transformer."""

    width: int
    layers: int
    heads: int


VISION, TEXT = Size(1024, 24, 16), Size(768, 12, 12)  # of ViCLIP-L/14


class ViCLIP(nn.Module):
    """``vision_encoder`` of frames, ``text_encoder`` of tokens, and the ``tokenizer`` of a text."""

    def __init__(
        self,
        vision: Size = VISION,
        text: Size = TEXT,
        joint: int = 768,
        side: int = SIDE,
        vocabulary: int = VOCABULARY,
    ) -> None:
        super().__init__()
        self.vision_encoder = _Vision(vision, joint, side)
        self.text_encoder = _Text(text, joint, vocabulary)
        self.temp = nn.Parameter(torch.tensor(0.01))  # of training alone
        self.tokenizer: Any = None

    def video(self, frames: torch.Tensor) -> torch.Tensor:
        """Normalised frames, float (N, 8, 3, 224, 224) → (N, 768)."""
        result: torch.Tensor = self.vision_encoder(frames)
        return result

    def text(self, text: str) -> torch.Tensor:
        """One text → (1, 768)."""
        clean = html.unescape(html.unescape(text)).translate(QUOTES).strip()
        ids = self.tokenizer(clean, truncation=True, max_length=TOKENS)["input_ids"]
        device = self.text_encoder.positional_embedding.device
        result: torch.Tensor = self.text_encoder(torch.tensor([ids], device=device))
        return result


class _Vision(nn.Module):
    """float (N, T, 3, side, side) → (N, joint)."""

    def __init__(self, size: Size, joint: int, side: int) -> None:
        super().__init__()
        patches = (side // PATCH) ** 2
        self.class_embedding = nn.Parameter(torch.zeros(size.width))
        self.positional_embedding = nn.Parameter(torch.zeros(patches + 1, size.width))
        self.temporal_positional_embedding = nn.Parameter(torch.zeros(1, FRAMES, size.width))
        self.proj = nn.Parameter(torch.zeros(size.width, joint))
        kernel = (1, PATCH, PATCH)
        self.conv1 = nn.Conv3d(3, size.width, kernel, stride=kernel, bias=False)
        self.ln_pre = nn.LayerNorm(size.width)
        self.transformer = _Transformer(size)
        self.ln_post = nn.LayerNorm(size.width)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        patches = self.conv1(frames.transpose(1, 2)).flatten(3).permute(0, 2, 3, 1)  # N, T, P, C
        patches = patches + self.positional_embedding[1:]
        patches = patches + self.temporal_positional_embedding[:, :, None]
        first = (self.class_embedding + self.positional_embedding[0]).expand(len(patches), 1, -1)
        x = self.ln_pre(torch.cat([first, patches.flatten(1, 2)], dim=1))
        seen: torch.Tensor = self.ln_post(self.transformer(x)[:, 0])
        return seen @ self.proj


class _Text(nn.Module):
    """Token ids (N, L), L ≤ 32 → (N, joint), of the end token. No padding is needed behind it."""

    def __init__(self, size: Size, joint: int, vocabulary: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.zeros(TOKENS, size.width))
        self.text_projection = nn.Parameter(torch.zeros(size.width, joint))
        self.transformer = _Transformer(size)
        self.token_embedding = nn.Embedding(vocabulary, size.width)
        self.ln_final = nn.LayerNorm(size.width)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        length = ids.shape[1]
        hidden = torch.ones(length, length, dtype=torch.bool, device=ids.device).triu(1)
        x = self.token_embedding(ids) + self.positional_embedding[:length]
        x = self.ln_final(self.transformer(x, hidden))
        ends = ids.argmax(dim=1)  # the end token has the highest id
        told: torch.Tensor = x[torch.arange(len(x), device=x.device), ends] @ self.text_projection
        return told


class _Transformer(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(_Block(size) for _ in range(size.layers))

    def forward(self, x: torch.Tensor, hidden: torch.Tensor | None = None) -> torch.Tensor:
        for block in self.resblocks:
            x = block(x, hidden)
        return x


class _Block(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(size.width, size.heads, batch_first=True)
        self.ln_1 = nn.LayerNorm(size.width)
        self.mlp = nn.ModuleDict(
            {
                "c_fc": nn.Linear(size.width, 4 * size.width),
                "c_proj": nn.Linear(4 * size.width, size.width),
            }
        )
        self.ln_2 = nn.LayerNorm(size.width)

    def forward(self, x: torch.Tensor, hidden: torch.Tensor | None) -> torch.Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=hidden)[0]
        wide = self.mlp["c_fc"](self.ln_2(x))
        result: torch.Tensor = x + self.mlp["c_proj"](wide * (1.702 * wide).sigmoid())
        return result


def tokenizer(merges: Path) -> Any:
    """CLIP's byte pair encoding from the file that OpenAI publishes: a transformers tokenizer.

    Ids are 256 bytes, the same at a word's end, a merge each, start and end. Raises WrongWeights
    for a file that holds no merges.
    """
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    try:
        lines = gzip.decompress(merges.read_bytes()).decode().splitlines()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise WrongWeights(f"{merges} holds no merges of byte pairs: {error}") from None
    letters = sorted(ByteLevel.alphabet())
    kept = VOCABULARY - 2 * len(letters) - 2  # the file goes on
    pairs = [(left, right) for left, right in (line.split() for line in lines[1 : kept + 1])]
    words = [*letters, *(f"{letter}</w>" for letter in letters), *(a + b for a, b in pairs)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    ids = {word: i for i, word in enumerate(words)}
    return CLIPTokenizer(vocab=ids, merges=pairs)  # type: ignore[arg-type]  # the BPE wants pairs


def load(path: Path) -> ViCLIP:
    """The network of ``path``, with the merges of CLIP's tokenizer beside it.

    Raises WrongWeights for files that are damaged or of another network.
    """
    state = read_state(path)
    network = ViCLIP()
    fill(network, state.get("model", state), path)
    network.tokenizer = tokenizer(path.with_name(MERGES))
    return network.eval()
