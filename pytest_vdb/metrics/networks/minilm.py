"""MiniLM: one vector for a text. Sentences that mean the same lie close together.

`all-MiniLM-L6-v2` of sentence-transformers: a BERT of 6 layers (Wang et al., "MiniLM", NeurIPS
2020), the mean of its tokens' vectors without padding, brought to length 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import normalize

from pytest_vdb.metrics.weights import fill, read_state

TOKENS = 256  # max_seq_length of the published model; a longer text is cut there


class MiniLM(nn.Module):
    """Texts → float32 (N, 384), each of length 1. ``bert`` and ``tokenizer`` of one folder."""

    def __init__(self, bert: nn.Module, tokenizer: Any) -> None:
        super().__init__()
        self.bert = bert
        self.tokenizer = tokenizer

    def forward(self, texts: list[str]) -> torch.Tensor:
        device = next(self.parameters()).device
        encoded = self.tokenizer.encode_batch(texts)
        ids = torch.tensor([text.ids for text in encoded], device=device)
        mask = torch.tensor([text.attention_mask for text in encoded], device=device)
        tokens = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        weight = mask[..., None].to(tokens.dtype)
        return normalize((tokens * weight).sum(1) / weight.sum(1), dim=1)


def load(path: Path) -> MiniLM:
    """The network of ``path``, with config.json and tokenizer.json beside it.

    Raises WrongWeights for weights that are damaged or of another network.
    """
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    bert = BertModel(BertConfig.from_json_file(str(path.with_name("config.json"))))
    state = read_state(path)
    state.pop("embeddings.position_ids", None)  # 0, 1, 2 …; no parameter in newer transformers
    fill(bert, state, path)
    tokenizer = Tokenizer.from_file(str(path.with_name("tokenizer.json")))
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding()
    return MiniLM(bert, tokenizer).eval()
