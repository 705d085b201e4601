from __future__ import annotations

import torch

from fastmatch.data.assemble import assemble


def test_the_given_tensors_are_neither_changed_nor_shared() -> None:
    images, labels = torch.arange(32.0).reshape(2, 1, 4, 4), torch.tensor([0, 1])
    data = assemble("some", (images, labels), (images, labels), normalise=True)
    assert torch.equal(images, torch.arange(32.0).reshape(2, 1, 4, 4))
    torch.testing.assert_close(data.train.inputs * data.std[0] + data.mean[0], images)
    assert torch.equal(data.test.inputs, data.train.inputs)
