"""The networks without a set function against loops over single sets."""

from __future__ import annotations

import torch
from torch import nn

from graphinv.sets import DeepSetsSelector, SetBatch, SetTransformerSelector
from graphinv.testing import assert_close

SIZES = (3, 1, 6, 3)


def batch():
    x = torch.randn(13, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return SetBatch.from_lists(list(x.split(SIZES)), [[0]] * 4)


def encoder():
    return nn.Linear(4, 8)


def test_deep_sets_score_an_element_beside_the_mean_of_its_set():
    torch.manual_seed(0)
    model, b, expected = DeepSetsSelector(encoder, 8, hidden=5, layers=2).double(), batch(), []
    for rows in b.x.split(SIZES):
        phi = model.encoder(rows)
        mean = sum(phi) / len(phi)
        for own in phi:
            x = (model.own.weight @ own + model.own.bias + model.common.weight @ mean).clamp(min=0)
            first, last = model.rest.linears
            x = (first.weight @ x + first.bias).clamp(min=0)
            expected.append(last.weight @ x + last.bias)
    assert_close(model.logits(b), torch.cat(expected), "logits", tolerance=1e-12)


def test_the_set_transformer_attends_within_a_set():
    torch.manual_seed(0)
    model, b, expected = SetTransformerSelector(encoder, 8, hidden=5, heads=2, blocks=2).double(), batch(), []
    for rows in b.x.split(SIZES):
        x = model.encoder(rows)
        for block in model.blocks:
            x = block.norm1(x + attention(block.self_attn, x))
            hidden = (x @ block.linear1.weight.t() + block.linear1.bias).clamp(min=0)
            x = block.norm2(x + hidden @ block.linear2.weight.t() + block.linear2.bias)
        expected.append(model.head(x).flatten())
    assert_close(model.logits(b), torch.cat(expected), "logits", tolerance=1e-10)


def attention(layer, x):
    """Softmax attention of two heads over the rows of one set."""
    q, k, v = (x @ layer.in_proj_weight.t() + layer.in_proj_bias).split(8, 1)
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        weight = (q[:, part] @ k[:, part].t() / 2).exp()
        heads.append(weight / weight.sum(1, keepdim=True) @ v[:, part])
    return torch.cat(heads, 1) @ layer.out_proj.weight.t() + layer.out_proj.bias


def test_without_noise_the_seed_changes_nothing():
    for kind in (DeepSetsSelector, SetTransformerSelector):
        model = kind(encoder, 8, hidden=5).double()
        assert torch.equal(model.scores(batch(), seed=1), model.scores(batch(), seed=2))
