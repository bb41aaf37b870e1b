"""What untrained students begin with."""

import pytest
import torch

from raydistill.student.shape import Kind, Shape, model
from raydistill.tokenizer import Tokenizer


@pytest.mark.parametrize("pre_norm", [False, True])
def test_positions_begin_as_waves_and_their_tokens_with_them(pre_norm):
    tokens = [f"<p{at}>" for at in range(40)]
    tokenizer = Tokenizer.learn(["a few words"], tokens, vocabulary=300)
    shape = Shape(kind=Kind.seq2seq, width=64, layers=1, heads=2, max_input=40, max_output=20)
    shape.pre_norm = pre_norm
    made = model(shape, tokenizer)
    places = made.get_encoder().embed_positions
    weights = places.weight[places.offset :].detach()
    waves, rest = weights[:, :32], weights[:, 32:]
    for apart in (1, 7):  # the same turn from every place
        near = (waves[:-apart] * waves[apart:]).sum(1)
        assert torch.allclose(near, near[:1].expand_as(near), atol=1e-6)
        assert not torch.allclose((rest[:-apart] * rest[apart:]).sum(1), near, atol=1e-3)
    assert 0.8 < waves.std() / rest.std() < 1.25
    said = made.get_input_embeddings().weight[[tokenizer.id(one) for one in tokens]]
    assert torch.equal(said.detach(), weights[:40])
