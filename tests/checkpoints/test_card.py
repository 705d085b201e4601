import re

import pytest

from fastmatch.checkpoints import CARD_FORMAT, Card
from fastmatch.errors import CheckpointError

FULL = Card(
    model="mlp(4, 5, 3, norm=none)",
    data="moons(train=512, noise=0.1)",
    step=7,
    epoch=1,
    init_seed=0,
    order_seed=2,
    extra={"recipe": {"lr": 0.1}},
)


@pytest.mark.parametrize("card", [Card(), FULL], ids=["empty", "full"])
def test_a_card_survives_json(card):
    assert Card.from_json(card.to_json(), "a.pt") == card


def test_a_card_at_another_point_keeps_the_rest():
    assert FULL.at(step=9, epoch=2).to_json() == FULL.to_json() | {"step": 9, "epoch": 2}


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ([], "malformed card"),
        ({}, "malformed card"),
        ({"format": "1"}, "malformed card"),
        ({"format": True}, "malformed card"),
        ({"format": 1, "unknown": 0}, "malformed card"),
        ({"format": 1, "model": ["mlp"]}, "model is a list"),
        ({"format": 1, "step": 1.5}, "step is a float"),
        ({"format": 1, "epoch": True}, "epoch is a bool"),
        ({"format": 1, "extra": None}, "extra is a NoneType"),
        ({"format": 1, "extra": {"x": object()}}, "extra is a dict"),
        ({"format": CARD_FORMAT + 1}, "is newer than"),
    ],
)
def test_a_malformed_card_is_refused(card, message):
    with pytest.raises(CheckpointError, match=f"^a.pt: .*{re.escape(message)}"):
        Card.from_json(card, "a.pt")


@pytest.mark.parametrize("field", ["model", "data"])
@pytest.mark.parametrize(
    "text",
    [
        "package.module:function",
        "package.module:function(1)",
        "factory.py:build",
        "factory.py",
        "../weights.npz",
        "net.pt2",
        "mlp(a/b)",
        r"c:\data",
        "mlp(1); import os",
    ],
)
def test_a_card_may_name_neither_code_nor_files(field, text):
    with pytest.raises(CheckpointError, match=f"^a.pt: its card names code or a file.*--{field}"):
        Card.from_json({"format": 1, field: text}, "a.pt")
