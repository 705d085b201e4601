"""From a file to a network that runs: the module, its weights, its card, and inputs it takes."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.export import ExportedProgram

from fastmatch import checkpoints, networks
from fastmatch.checkpoints import Card, StoredCheckpoint
from fastmatch.devices import move_module
from fastmatch.errors import CheckpointError, ModelError


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A network with its weights.

    Attributes
    ----------
    module
        In evaluation mode, with the checkpoint's weights.
    state_dict
        A copy of the weights, with the dtypes of ``module``; on the CPU, as all else, until :meth:`to` moves it.
    model
        The model string that built ``module``, or ``"program"`` for a .pt2.
    example_inputs
        Two random examples of the right shape, a program's own, or the ``example_input_array`` of a user's network;
        None where the shape is not known.
    sha256
        Of the file.
    fixed_batch
        The only batch size that an exported program takes; None where any will do.
    masks
        Of a pruned network: bool tensors, True where a weight is kept, by the names of the tensors that have one.
    """

    path: Path
    module: nn.Module
    state_dict: dict[str, Tensor]
    card: Card | None
    model: str
    example_inputs: tuple[Tensor, ...] | None
    sha256: str
    fixed_batch: int | None = None
    masks: dict[str, Tensor] | None = None

    def to(self, device: str | torch.device) -> Checkpoint:
        """Return the same network on ``device``: this one where it is there already, else a copy."""
        device = torch.empty(0, device=device).device  # with its number
        if all(tensor.device == device for tensor in self.state_dict.values()):
            return self
        inputs, masks = self.example_inputs, self.masks
        return replace(
            self,
            module=move_module(self.module, device),
            state_dict={name: tensor.to(device) for name, tensor in self.state_dict.items()},
            example_inputs=None if inputs is None else tuple(tensor.to(device) for tensor in inputs),
            masks=None if masks is None else {name: mask.to(device) for name, mask in masks.items()},
        )


def load(path: str | os.PathLike[str], model: str | None = None) -> Checkpoint:
    """Load a checkpoint and build its network.

    The network is a .pt2's own program, else the one named by ``model``, else the card's, else the one built-in network
    that the tensors fit.

    Parameters
    ----------
    path
        ``.pt``, ``.safetensors`` or ``.pt2``.
    model
        Model string, or a .pt2 whose program the weights belong to; the only way to name a factory, since that is code.

    Raises
    ------
    CheckpointError
        The file cannot be read safely, or its tensors do not fit the network.
    ModelError
        The network is unknown, or none was named and no single built-in one fits.
    """
    stored = checkpoints.read(path)
    if stored.program is not None:
        return _from_program(stored, stored.program)
    name = model or _card_model(stored) or networks.recognise(stored.state_dict)
    if networks.is_builtin(name):
        with torch.device("meta"):  # a card may ask for any width: what does not fit is refused before it costs memory
            _check_tensors(stored, networks.build(name), name)
    module, inputs, batch = _architecture(name)
    _check_tensors(stored, module, name)
    module.load_state_dict(stored.state_dict)
    state = _state(module)
    return Checkpoint(stored.path, module, state, stored.card, name, inputs, stored.sha256, batch, stored.masks)


def _architecture(name: str) -> tuple[nn.Module, tuple[Tensor, ...] | None, int | None]:
    """Network of a model string, in evaluation mode, inputs it takes, and its batch size if that is fixed."""
    if name.endswith(".pt2"):
        network = load(name)
        return network.module, network.example_inputs, network.fixed_batch
    with torch.random.fork_rng(devices=[]):  # the initial weights are replaced: they may not cost the caller a draw
        module = networks.build(name).eval().float()
    shape = networks.input_shape(name)
    if shape is None:
        return module, _own_inputs(module), None
    return module, (torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)),), None


def _own_inputs(module: nn.Module) -> tuple[Tensor, ...] | None:
    """Example inputs that a user's network brings along, as ``example_input_array`` (the name that Lightning gives)."""
    inputs = getattr(module, "example_input_array", None)
    if isinstance(inputs, Tensor):
        return (inputs,)
    return tuple(inputs) if isinstance(inputs, list | tuple) else None


def _state(module: nn.Module) -> dict[str, Tensor]:
    """In the order and precision of the module, whatever those of the file."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def _card_model(stored: StoredCheckpoint) -> str | None:
    name = stored.card.model if stored.card else None
    if name is not None and not networks.is_builtin(name):
        raise ModelError(
            f"the card of {stored.path} names {name!r}, which is not a built-in network; name the network with --model"
        )
    return name


def _from_program(stored: StoredCheckpoint, program: ExportedProgram) -> Checkpoint:
    arguments, keywords = program.example_inputs or ((), {})
    if keywords or not arguments or not all(isinstance(value, Tensor) for value in arguments):
        raise CheckpointError(
            f"{stored.path}: the program takes other inputs than tensors by position; export it with those"
        )
    if any(_trains(node) for node in program.graph.nodes):
        raise CheckpointError(
            f"{stored.path} was exported in training mode; call eval() on the network and export it again"
        )
    module = program.module()
    del module.train, module.eval  # they only raise; the mode is part of the graph, so the flags change nothing
    module.eval()
    batch = _fixed_batch(program)
    return Checkpoint(stored.path, module, _state(module), None, "program", tuple(arguments), stored.sha256, batch)


def _fixed_batch(program: ExportedProgram) -> int | None:
    first = program.graph_signature.user_inputs[0]
    size = next(node.meta["val"].shape[0] for node in program.graph.nodes if node.name == first)
    return size if isinstance(size, int) else None


def _trains(node: fx.Node) -> bool:
    """True for dropout and normalisation in training mode."""
    if not isinstance(node.target, OpOverload):
        return False
    names = (argument.name for argument in node.target._schema.arguments)
    arguments = dict(zip(names, node.args, strict=False)) | node.kwargs
    if arguments.get("running_mean", True) is None:
        return False  # without running statistics there is no other mode
    return arguments.get("train") is True or arguments.get("training") is True


def _check_tensors(stored: StoredCheckpoint, module: nn.Module, name: str) -> None:
    wanted = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    found = {key: tuple(tensor.shape) for key, tensor in stored.state_dict.items()}
    problems = [f"no {key!r}" for key in wanted if key not in found]
    problems += [f"unexpected {key!r}" for key in found if key not in wanted]
    problems += [
        f"{key!r} is {found[key]}, not {wanted[key]}" for key in wanted if key in found and found[key] != wanted[key]
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(
            f"{stored.path} does not fit {name:.100}: {'; '.join(problems[:3])}{more}; give a matching --model"
        )
