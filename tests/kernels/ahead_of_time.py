"""Compile every form of a kernel for a GPU that need not be there: ``python ahead_of_time.py module 90``.

Prints one JSON list of what the compiled forms take.
"""

import importlib
import json
import re
import subprocess
import sys
import tempfile

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


def resources(cubin):
    """Registers, stack (bytes that a thread spills) and static shared memory of a compiled kernel."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name.lower(): int(re.search(rf"{name}:(\d+)", text)[1]) for name in ("REG", "STACK", "LOCAL")}


def compiled(kernel, variant, capability):
    signature = {**variant.signature, **dict.fromkeys(variant.constants, "constexpr")}
    source = ASTSource(kernel, {name: signature[name] for name in kernel.arg_names}, dict(variant.constants))
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=variant.options)


def main(name, capability):
    module = importlib.import_module(name)
    found = []
    for variant in module.variants():
        result = compiled(module.kernel, variant, int(capability))
        ptx = result.asm["ptx"]
        found.append(
            {
                "variant": {name: str(value) for name, value in {**variant.signature, **variant.constants}.items()},
                "shared": result.metadata.shared,
                "wide_loads": len(re.findall(r"ld\.global\S*\.v4|cp\.async\.cg\.shared\.global", ptx)),
                "wide_stores": len(re.findall(r"st\.global\S*\.v4", ptx)),
                "tensor_cores": len(re.findall(r"mma\.", ptx)),
                **resources(result.asm["cubin"]),
            }
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
