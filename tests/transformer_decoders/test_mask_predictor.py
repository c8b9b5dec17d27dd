# SPDX-License-Identifier: Apache-2.0
import torch

from unisegment.transformer_decoders.mask_predictor import MaskPredictor


def test_shapes_and_formula():
    predictor = MaskPredictor(dim=12, mask_dim=5, num_labels=3)
    queries = torch.randn(2, 7, 12)
    class_logits, mask_embeddings = predictor(queries)
    assert class_logits.shape == (2, 7, 4)
    assert mask_embeddings.shape == (2, 7, 5)
    normed = torch.nn.functional.layer_norm(queries, (12,))
    first, _, second, _, third = predictor.mask_head
    torch.testing.assert_close(mask_embeddings, third(second(first(normed).relu()).relu()))
    torch.testing.assert_close(class_logits, predictor.class_head(normed))
    assert predictor(queries, with_classes=False)[0] is None
    assert torch.equal(predictor(queries, with_classes=False)[1], mask_embeddings)
