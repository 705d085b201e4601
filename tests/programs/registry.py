"""The list of steps that a program is made of."""

STEPS = []


def step(weight=1):
    """Register a step: a function that adds lines to a builder and returns the names of its results."""

    def register(function):
        STEPS.extend([function] * weight)
        return function

    return register
