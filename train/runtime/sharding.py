"""Where each array lives. The only file that names mesh axes.

`data` splits the batch; `fsdp` splits the batch and the parameters, which are gathered
where they are used; `tensor` splits the wide axis of a block's matrices.
"""

import contextlib
import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from train.config import experiment as config
from train.errors import BadInput
from train.runtime import hosts
from train.runtime.step import AdversarialState, TrainState

AXES = ("data", "fsdp", "tensor")
EXAMPLES = ("data", "fsdp")  # those that split a batch
# Modules that multiply by what the rules may split.
LAYERS = (
    *(nn.Dense, nn.DenseGeneral, nn.Einsum, nn.Embed),
    *(nn.Conv, nn.ConvLocal, nn.ConvTranspose),
)


class Rule(NamedTuple):
    """Arrays whose path matches `pattern` are split by `spec`.

    pattern: a regular expression, searched in the "/"-joined path of a variable, its
        collection first: "params/block_00/attn/qkv/kernel", "codebook/quantizer/sums".
    spec: right-aligned to the shape, so a layer scan's leading axis needs no row.
    optional: the model may have no such variable (a switch, a kind of stream).
    """

    pattern: str
    spec: P = P()
    optional: bool = False


Rules = Sequence[Rule]

# First match wins. No match is an error, so nothing is replicated by accident.
DIT_RULES = (
    Rule(r"(/attn/qkv|mlp/up|mlp/gate)/kernel$", P("fsdp", "tensor")),
    Rule(r"(/attn/out|mlp/down)/kernel$", P("tensor", "fsdp")),
    # Along its input: what comes out is cut into shifts, scales and gates of the whole
    # width, and to split those would split the tokens' own channels, norms and all.
    Rule(r"modulation/kernel$", P(("fsdp", "tensor"), None)),
    Rule(r"/(time|duration)/(up|down)/kernel$", P(None, "fsdp")),
    Rule(r"/label/table$", P(None, "fsdp"), optional=True),
    Rule(r"_in/kernel$", P(None, "fsdp"), optional=True),
    Rule(r"_in/table$", P(None, "fsdp"), optional=True),
    Rule(r"_positions$", P(None, "fsdp"), optional=True),
    Rule(r"_out/kernel$", P("fsdp", None)),
    Rule(r"^params/stream$", optional=True),
    Rule(r"modulation_table$", optional=True),
    Rule(r"(_norm/|attn_|mlp_)scale$", optional=True),
    Rule(r"/bias$"),
)

# A tokenizer is small beside a DiT: `fsdp` only, on the channels a convolution returns,
# or takes where few come out. Codebooks and their statistics are on every device.
TOKENIZER_RULES = (
    Rule(r"/quantizer/.*\b(logits|phi_\d+|into|out_of)/kernel$", optional=True),
    Rule(r"^perceptual/", optional=True),
    Rule(r"/(conv_out|head_down|into)/kernel$", P("fsdp", None)),
    Rule(r"/kernel$", P(None, "fsdp")),
    Rule(r"/(bias|scale)$"),
    Rule(r"/(latent_tokens|latent_positions|mask_token)$", optional=True),
    Rule(r"/(codewords|basis)$", optional=True),
    Rule(r"^(codebook|usage|revival)/", optional=True),
)

DISCRIMINATOR_RULES = (
    Rule(r"/conv_out/kernel$", P("fsdp", None)),
    Rule(r"/kernel$", P(None, "fsdp")),
    Rule(r"/(bias|scale)$"),
    Rule(r"^lecam/"),
)


def make_mesh(
    mesh: config.Mesh, devices: Sequence[jax.Device] | None = None
) -> jax.sharding.Mesh:
    """The mesh over all devices, or the given ones; one axis may be -1, what is left.

    Raises BadInput when the product of the axes is not the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = mesh.sizes(len(devices))
    # jax.make_mesh defaults to Explicit axes; stock Linen layers need Auto.
    auto = (jax.sharding.AxisType.Auto,) * len(AXES)
    return jax.make_mesh(sizes, AXES, axis_types=auto, devices=devices)


def specs(variables: Any, rules: Rules) -> Any:
    """Same structure as the variables, a PartitionSpec of full rank at each leaf.

    Raises ValueError on a leaf without a rule, a leaf with fewer axes than its rule,
    and a rule that is not optional and matches nothing.
    """
    unused = {rule.pattern for rule in rules if not rule.optional}

    def spec(path, leaf):
        name = path_name(path)
        for rule in rules:
            if re.search(rule.pattern, name):
                unused.discard(rule.pattern)
                missing = leaf.ndim - len(rule.spec)
                if missing < 0:
                    raise ValueError(
                        f"{name}{leaf.shape}: rule {rule.pattern!r} has {rule.spec}"
                    )
                return P(*(None,) * missing, *rule.spec)
        raise ValueError(f"{name}{leaf.shape}: no sharding rule")

    out = jax.tree_util.tree_map_with_path(spec, variables)
    if unused:
        raise ValueError(f"sharding rules that match nothing: {sorted(unused)}")
    return out


def shardings(variables: Any, rules: Rules, mesh: jax.sharding.Mesh) -> Any:
    """Same structure as the variables, a NamedSharding at each leaf.

    Raises ValueError as `specs` does, and BadInput when a mesh axis does not divide the
    axis of the array that it splits.
    """

    def place(path, leaf, spec):
        for size, entry in zip(leaf.shape, spec, strict=True):
            axes = entry if isinstance(entry, tuple) else (entry,) if entry else ()
            parts = math.prod(mesh.shape[axis] for axis in axes)
            if size % parts:
                raise BadInput(
                    f"{path_name(path)}{leaf.shape}: mesh axis {' x '.join(axes)!r} of "
                    f"{parts} does not divide {size}; write a smaller "
                    f"mesh.{axes[-1]} or another width"
                )
        return NamedSharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(place, variables, specs(variables, rules))


def state_sharding(
    state: TrainState, rules: Rules, mesh: jax.sharding.Mesh
) -> TrainState:
    """A TrainState of NamedShardings: arrays or shapes in, the same structure out.

    Moments and the moving average live where their parameter does; step, key and the
    optimizer's counters are on every device; unlearned state follows the same rules. A
    discriminator's state beside it follows its own.
    """
    variables = {"params": state.params, **state.stats}
    placed = shardings(variables, rules, mesh)
    params = placed.pop("params")
    everywhere = NamedSharding(mesh, P())
    mirrored = {
        path_name(path): (leaf.shape, place)
        for (path, leaf), place in zip(
            jax.tree_util.tree_leaves_with_path(state.params),
            jax.tree.leaves(params),
            strict=True,
        )
    }

    def place(path, leaf):
        """What is kept of a parameter has its path at the end of its own."""
        ends = (path_name(path[i:]) for i in range(len(path)))
        own = next((mirrored[end] for end in ends if end in mirrored), None)
        constant = path[-1] == jax.tree_util.GetAttrKey("ns_coeffs")  # Muon's
        if own is None and leaf.ndim and not constant:
            raise ValueError(
                f"opt/{path_name(path)}{leaf.shape}: neither a counter nor a "
                f"parameter's, so its sharding is unknown"
            )
        # Sums over an axis of the parameter are small.
        return own[1] if own and own[0] == leaf.shape else everywhere

    if isinstance(state, AdversarialState):
        other = state_sharding(state.discriminator, DISCRIMINATOR_RULES, mesh)
        state = state.replace(discriminator=other)
    return state.replace(
        step=everywhere,
        key=everywhere,
        params=params,
        stats=placed,
        opt=jax.tree_util.tree_map_with_path(place, state.opt),
        ema=params if jax.tree.leaves(state.ema) else state.ema,
    )


def state_shapes(
    init: Callable[[], TrainState], rules: Rules, mesh: jax.sharding.Mesh
) -> TrainState:
    """What `create_state` makes, as shapes, each with where it lives."""
    shapes = jax.eval_shape(init)
    place = lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at)
    return jax.tree.map(place, shapes, state_sharding(shapes, rules, mesh))


def create_state(
    init: Callable[[], TrainState], rules: Rules, mesh: jax.sharding.Mesh
) -> TrainState:
    """Calls `init` under jit with every array born where it lives.

    No device ever holds the whole state; the values are the same on every mesh.
    """
    layout = state_sharding(jax.eval_shape(init), rules, mesh)
    return jax.jit(init, out_shardings=layout)()


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Examples, the leading axis, over `data` and `fsdp`; whole over `tensor`."""
    return NamedSharding(mesh, P(EXAMPLES))


def _parts(mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh) -> int:
    """Of a batch, one for each device but for those along `tensor`."""
    return math.prod(mesh.shape[axis] for axis in EXAMPLES)


def by_example(function: Callable, sharding: jax.sharding.Sharding) -> Callable:
    """The function, in which each device keeps the examples it has.

    What a layer returns is split along its first axis, which is of examples, or of
    examples and places in them, and so is its gradient. So the compiler gathers a
    layer's parameters over `fsdp`; left to itself it may split the channels instead,
    compute every example on every device, and add up activations. (A first axis of
    something else would cost a layout, and change no value.) What the compiler cannot
    split (an FFT, a TPU's attention kernel) is split as the rules split examples and
    heads: see `vqdit.split`.

    sharding: of the batch.
    """
    mesh = getattr(sharding, "mesh", None)
    if mesh is None:
        return function
    platform = mesh.devices.flat[0].platform
    if mesh.size == 1 and platform == jax.default_backend():
        return function
    parts = _parts(mesh)

    def layer(call, args, kwargs, context):
        x = call(*args, **kwargs)
        if not isinstance(context.module, LAYERS) or context.method_name != "__call__":
            return x
        if x.ndim < 2 or x.shape[0] % parts:  # too few to split, as at init
            return x
        spec = P(EXAMPLES, *(P.UNCONSTRAINED,) * (x.ndim - 1))
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))

    @functools.wraps(function)
    def split(*args, **more):
        rules = (("batch", EXAMPLES), ("heads", "tensor"))
        with contextlib.ExitStack() as held:
            held.enter_context(nn.intercept_methods(layer))
            held.enter_context(jax.sharding.use_abstract_mesh(mesh.abstract_mesh))
            held.enter_context(nn.logical_axis_rules(rules))
            return function(*args, **more)

    return split


def spread(draw: Callable, sharding: jax.sharding.Sharding) -> Callable:
    """The sampler, of which each device of the sharding draws its part of the samples.

    Given numbers alone every device would draw all. Samples that fill up the parts are
    drawn and thrown away. Of several processes each draws by itself.
    """
    if not isinstance(sharding, NamedSharding) or sharding.mesh.size == 1:
        return draw
    if hosts.several():
        return draw
    mesh = sharding.mesh
    assert isinstance(mesh, jax.sharding.Mesh), "of devices that are there"
    own, parts = batch_sharding(mesh), _parts(mesh)

    def split(key, ids, label=None, **call):
        spare = -len(ids) % parts
        place = lambda x: jax.device_put(np.pad(x, (0, spare), "edge"), own)
        label = label if label is None else place(label)
        found = by_example(draw, own)(key, place(ids), label=label, **call)
        return {name: x[: len(ids)] for name, x in found.items()} if spare else found

    return split


def mesh_in_words(mesh: jax.sharding.Mesh) -> str:
    """The devices of a mesh in words, with its axes that split something."""
    axes = ", ".join(f"{name} {n}" for name, n in mesh.shape.items() if n > 1)
    kind = mesh.devices.flat[0].device_kind
    return f"{mesh.size} {kind} ({axes})" if axes else f"{mesh.size} {kind}"


def along_batch(sharding: jax.sharding.Sharding, rows: int) -> jax.sharding.Sharding:
    """Rows over the given devices, or whole on each where they do not divide."""
    if isinstance(sharding, NamedSharding):
        mesh = sharding.mesh
        assert isinstance(mesh, jax.sharding.Mesh), "of devices that are there"
        return replicated(sharding) if rows % _parts(mesh) else batch_sharding(mesh)
    return sharding


def replicated(sharding: jax.sharding.Sharding) -> jax.sharding.Sharding:
    """Whole on every device of the given sharding."""
    if isinstance(sharding, NamedSharding):
        return NamedSharding(sharding.mesh, P())
    return sharding


def path_name(path: tuple) -> str:
    """A key path of JAX as "params/block_00/attn/qkv/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")
