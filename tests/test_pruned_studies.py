"""What the studies of sparse networks share."""

from fastmatch import training
from studies.pruned import Experiment, model_for


def test_networks_take_the_digits_where_they_stand_in_for_mnist():
    assert model_for("mnist", "mlp(784, 128, 128, 10)") == "mlp(784, 128, 128, 10)"
    sizes = {"rewind_epochs": 1.0, "fraction": 0.5, "levels": 1, "limit": 20}
    recipe = training.Recipe(epochs=2)
    assert Experiment.of("digits", model="mlp(784, 8, 10)", recipe=recipe, **sizes).task.model == "mlp(64, 8, 10)"
