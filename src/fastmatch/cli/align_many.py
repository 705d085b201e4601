"""``fastmatch align`` for more than two networks: a folder of alignments."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch

import fastmatch
from fastmatch.cli import options
from fastmatch.cli.aligning import Prepared, Request, origin, prepare
from fastmatch.cli.output import check_targets, console, progress, table, write_json
from fastmatch.devices import device_name
from fastmatch.errors import OptionError
from fastmatch.files import check_target
from fastmatch.matching import ManyMethod

FOLDER = "alignments"
Pair = tuple[int, int]
Reference = Literal["universe", "mean", "first", "pairwise"]
Found = fastmatch.JointMatch | fastmatch.PairwiseMatch


def align_many(paths: Sequence[str], request: Request, reference: Reference, folder: str) -> None:
    """Line all networks up with the first by one common order, or each two by themselves; certify and write each."""
    if len(paths) < 2:
        raise OptionError("received one network; give at least two checkpoints to line up")
    _check_method(request.method, reference, request.asked)
    ends = [(i, j) for j in range(len(paths)) for i in (range(j) if reference == "pairwise" else [0][:j])]
    files = {pair: str(Path(folder) / f"{name}.safetensors") for pair, name in _names(paths, ends).items()}
    _check_folder(folder)
    inside = files.values() if Path(folder).is_dir() else ()
    inputs = [*paths, *([request.spec_path] if request.spec_path else [])]
    check_targets(*inside, request.json_path, inputs=inputs)
    given = prepare([fastmatch.load(path, request.model) for path in paths], request)
    found = _match(given, request, reference)
    results = _certify(given, found, files)
    about = {"model": given.networks[0].model, "data": given.source, "options": request.record(reference=reference)}
    _save(given.networks, found, files, results, about)
    _write(request, found, paths, files, results)
    _report(found, paths, files, results, given.certified_on, request.device)


def _certify(given: Prepared, found: Found, pairs: Iterable[Pair]) -> dict[Pair, dict[str, Any]]:
    """Certify every alignment, and return what its file says of the match."""
    results = {}
    for pair in pairs:
        network, indices = given.networks[pair[1]], found.between(*pair).indices
        certificate = fastmatch.certify(given.spec, network.module, network.state_dict, indices, given.inputs)
        certificate.require(f"the alignment of {network.path}")
        match = found.matches[pair] if isinstance(found, fastmatch.PairwiseMatch) else found
        results[pair] = {**match.to_json(), "certificate": certificate.to_json()}
    return results


def _save(
    networks: Sequence[fastmatch.Checkpoint],
    found: Found,
    files: Mapping[Pair, str],
    results: Mapping[Pair, Mapping[str, Any]],
    about: Mapping[str, Any],
) -> None:
    """Write every alignment, all of them certified, to their folder."""
    folder = Path(next(iter(files.values()))).parent
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OptionError(f"cannot make the folder {folder}: {error.strerror}; choose another with -o") from error
    for pair, path in files.items():
        permutation = found.between(*pair)
        sides = {side: origin(networks[number], path) for side, number in zip("ab", pair, strict=True)}
        metadata = {**sides, **about, "match": results[pair]}
        fastmatch.Permutation(permutation.spec, permutation.indices, metadata).save(path)


def _names(paths: Sequence[str], pairs: Sequence[Pair]) -> dict[Pair, str]:
    """Names of files: of the checkpoints where these differ, else their numbers."""
    stems = [Path(path).stem for path in paths]
    short = stems if len(set(stems)) == len(stems) else [str(number) for number in range(len(paths))]
    names = {(i, j): f"{short[i]}-{short[j]}" for i, j in pairs}
    return names if len(set(names.values())) == len(names) else {(i, j): f"{i}-{j}" for i, j in pairs}


def _check_method(method: str, reference: str, asked: Mapping[str, Any]) -> None:
    """Refuse methods and options that are of pairs alone, and those that do not go together."""
    fastmatch.check_options(method, **asked)
    if reference == "pairwise":
        return
    options.refuse(f"one order of many networks (--reference {reference})", **asked)
    if method not in get_args(ManyMethod):
        raise OptionError(
            f"many networks are brought to one order by {', '.join(get_args(ManyMethod))}, not by {method}; to match "
            "every two by themselves, use --reference pairwise"
        )


def _check_folder(folder: str) -> None:
    """Refuse names of files, and folders that could not be made after all work."""
    if Path(folder).is_file():
        raise OptionError(f"{folder} is a file; name a folder for the alignments with -o")
    if Path(folder).suffix == ".safetensors":
        raise OptionError(f"{folder} is the name of a file; name a folder for the alignments with -o")
    if not Path(folder).is_dir():
        check_target(folder)


def _match(given: Prepared, request: Request, reference: Reference) -> Found:
    how: dict[str, Any] = {"module": given.networks[0].module, "data": given.examples, "method": request.method}
    with progress("matching") as tick:
        how |= {"seed": request.seed, "progress": tick}
        if reference == "pairwise":
            return fastmatch.match_pairs(given.spec, given.states, **how, **request.asked)
        return fastmatch.match_many(given.spec, given.states, **how, reference=reference)


def _write(
    request: Request,
    found: Found,
    paths: Sequence[str],
    files: Mapping[Pair, str],
    results: Mapping[Pair, Mapping[str, Any]],
) -> None:
    alignments = [
        {"pair": list(pair), "path": files[pair], **_sizes(found.between(*pair)), **_own(found, result)}
        for pair, result in results.items()
    ]
    whole = found.to_json() | {"paths": list(paths), "inconsistency": found.inconsistency, "alignments": alignments}
    whole.pop("pairs", None)  # they are its alignments
    write_json(request.json_path, whole, seed=request.seed, device=device_name(request.device))


def _own(found: Found, result: Mapping[str, Any]) -> dict[str, Any]:
    """What is of one alignment alone."""
    return dict(result) if isinstance(found, fastmatch.PairwiseMatch) else {"certificate": result["certificate"]}


def _sizes(permutation: fastmatch.Permutation) -> dict[str, int]:
    """Number of units, and of those that stay in their place."""
    units = sum(index.size for index in permutation.indices.values())
    return {"units": units, "fixed_points": sum(permutation.fixed_points().values())}


def _report(
    found: Found,
    paths: Sequence[str],
    files: Mapping[Pair, str],
    results: Mapping[Pair, Mapping[str, Any]],
    inputs: str,
    device: torch.device,
) -> None:
    pairwise = isinstance(found, fastmatch.PairwiseMatch)
    own = ["method", "before", "after"] if pairwise else []
    rows = table("alignment", "units", "fixed", *own, "outputs change by")
    for pair, result in results.items():
        sizes = map(str, _sizes(found.between(*pair)).values())
        figures = [f"{result[name]:.4g}" for name in ("objective_before", "objective_after")]
        change = f"{result['certificate']['max_abs']:.1e}"
        rows.add_row(files[pair], *sizes, *([result["method"], *figures] if pairwise else []), change)
    console.print(rows)
    if isinstance(found, fastmatch.PairwiseMatch):
        for pair, match in found.matches.items():
            for note in match.notes:
                console.print(f"{files[pair]}: {note}")
        seconds = sum(match.seconds for match in found.matches.values())
        console.print(f"{len(found.matches)} pairs by themselves, {seconds:.1f} s in all on {device_name(device)}")
    else:
        console.print(
            f"{found.method} matching of {len(paths)} networks: {found.measure} of all pairs "
            f"{found.objective_before:.6g} -> {found.objective_after:.6g}, {found.status} after {found.sweeps} "
            f"round{'s' * (found.sweeps != 1)}, {found.seconds:.1f} s on {device_name(device)}"
        )
        for note in found.notes:
            console.print(note)
    if len(paths) > 2:
        console.print(f"around three networks, {100 * found.inconsistency:.2f} % of the units do not come back")
    following = shlex.join(["fastmatch", "barrier", next(iter(files.values()))])
    console.print(f"every alignment certified on {inputs}; next: {following}")
