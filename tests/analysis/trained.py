"""Small trained networks that the tests of analyses share."""

from functools import cache

from fastmatch import DataSet, load_data, networks, trace, training

MODEL = "mlp(64, 24, 20, 10)"
STEPS = (0, 12, 24)


@cache
def data() -> DataSet:
    return load_data("digits")


@cache
def module():
    return networks.build(MODEL).eval()


@cache
def spec():
    return trace(module(), (data().train.inputs[:4],))


@cache
def run(seed, parent=None):
    """State dicts of one training run by step; ``parent`` is (seed, step) of the network it starts from."""
    recipe = training.Recipe(epochs=2, save_epochs=(0, 1), lr=5e-3, init_seed=seed, order_seed=seed)
    network = training.initialise(MODEL, "default", seed)
    if parent is not None:
        network.load_state_dict(run(parent[0])[parent[1]])
    found = {}
    training.train(network, data(), recipe, save=lambda snapshot: found.update({snapshot.step: snapshot.state_dict}))
    last = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    return {**found, STEPS[-1]: last}
