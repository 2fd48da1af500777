"""What finding the nearest codes takes: memory and time, beside the whole matrix.

python -m train.bench_search
python -m train.bench_search --codes=1024,16384 --dims=8, --vectors=4096 --repeats=5

For every count of codes and width: the time of the quantizers' blockwise search and of
one product of all vectors with all codes, medians of interleaved repeats, with the
temporary memory of both compiled programs. A program that needs more than --limit GiB
is compiled, so that its need is known, and not run. Prints a line of progress for each
row, and JSON.
"""

import json

import jax
import jax.numpy as jnp

from train.config.command import parse
from train.errors import BadInput, run
from train.runtime.log import say
from train.runtime.timing import median_ms
from vqdit.quantizers import nearest

FLAGS = {
    "codes": tuple[int, ...],
    "dims": tuple[int, ...],
    "vectors": int,
    "repeats": int,
    "limit": float,
}
CODES, DIMS, VECTORS, REPEATS, LIMIT = (1024, 16_384, 262_144), (8, 256), 16_384, 3, 4.0


def whole(z: jax.Array, codewords: jax.Array) -> jax.Array:
    """The plain search: an (n, k) matrix and the maximum of each row."""
    dots = jnp.matmul(z, codewords.T, precision="highest")
    return (dots - 0.5 * jnp.square(codewords).sum(-1)).argmax(-1).astype(jnp.int32)


def row(k: int, d: int, n: int, repeats: int, limit: float) -> dict:
    """The figures of one count of codes and width; None for what was not run."""
    z_key, e_key = jax.random.split(jax.random.key(0))
    z, e = jax.random.normal(z_key, (n, d)), jax.random.normal(e_key, (k, d))
    programs = {
        name: jax.jit(function).lower(z, e).compile()
        for name, function in (("blocks", nearest), ("whole", whole))
    }
    bytes_ = {
        name: program.memory_analysis().temp_size_in_bytes
        for name, program in programs.items()
    }
    small = {
        name: (lambda program=program: program(z, e))
        for name, program in programs.items()
        if bytes_[name] <= limit * 2**30
    }
    ms = median_ms(small, repeats)
    same = None
    if len(small) == 2:
        # Products that round otherwise may choose the other of two all but equal codes.
        same = float((programs["blocks"](z, e) == programs["whole"](z, e)).mean())
    return {
        "codes": k,
        "dim": d,
        "vectors": n,
        "blocks_temporary_mib": bytes_["blocks"] / 2**20,
        "whole_temporary_mib": bytes_["whole"] / 2**20,
        "blocks_ms": ms.get("blocks"),
        "whole_ms": ms.get("whole"),
        "same_codes": same,
    }


def main(argv=None):
    flags = dict(parse(argv, None, flags=FLAGS).flags)
    codes, dims = flags.get("codes", CODES), flags.get("dims", DIMS)
    n, repeats = flags.get("vectors", VECTORS), flags.get("repeats", REPEATS)
    for name, value in (("vectors", n), ("repeats", repeats)):
        if value < 1:
            raise BadInput(f"--{name}={value}: write 1 or more")
    for name, values in (("codes", codes), ("dims", dims)):
        if not values or min(values) < 1:
            raise BadInput(f"--{name}={values}: write numbers of at least 1")
    limit = flags.get("limit", LIMIT)
    rows = []
    for d in dims:
        for k in codes:
            found = row(k, d, n, repeats, limit)
            rows.append(found)
            time = {
                name: f"{found[f'{name}_ms']:.0f} ms" if found[f"{name}_ms"] else "-"
                for name in ("blocks", "whole")
            }
            say(
                f"k {k}, d {d}: blocks {time['blocks']} in "
                f"{found['blocks_temporary_mib']:.0f} MiB, whole {time['whole']} in "
                f"{found['whole_temporary_mib']:.0f} MiB"
            )
    device = jax.devices()[0].device_kind
    print(json.dumps({"backend": device, "jax": jax.__version__, "rows": rows}))


if __name__ == "__main__":
    run(main)
