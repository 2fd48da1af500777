"""An experiment's train step and forward pass on random data, as the loop runs them."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from train.config import Experiment, StageOne, StageTwo
from train.config.network import network
from train.objectives import denoising, start
from train.objectives.reconstruction import SIGNAL
from train.runtime.flops import macs
from train.runtime.sharding import (
    DIT_RULES,
    TOKENIZER_RULES,
    Rules,
    batch_sharding,
    by_example,
    create_state,
    make_mesh,
    state_shapes,
)
from train.runtime.step import TrainState


class Rehearsal:
    """An experiment opened without data: its network, and a batch of its shapes.

    model:     the network; of stage two with the streams that are written, as no
               tokenizer is opened, and `processes` beside it.
    batch:     what the train step takes. arguments: what the network does, after its
               variables.
    mesh:      of all devices, or of the given ones.
    """

    def __init__(
        self, experiment: Experiment, devices: Sequence[jax.Device] | None = None
    ):
        self.experiment = experiment
        self.model: Any  # a Tokenizer or a DiT
        self._rules: Rules
        batch: dict[str, Any]
        self.arguments: tuple[Any, ...]
        rows, key = experiment.run.batch, jax.random.key(0)
        if isinstance(experiment, StageOne):
            self.model, self._rules = experiment.model, TOKENIZER_RULES
            self._made = start.build_step(experiment, start.open_start(experiment))
            x = jax.random.uniform(key, (rows, *experiment.data.shape), minval=-1.0)
            batch, self.arguments = {"streams": {SIGNAL: x}}, (x,)
        elif isinstance(experiment, StageTwo):
            self.model, self.processes = network(experiment, experiment.values)
            self._rules = DIT_RULES
            self._made = denoising.build_step(experiment, self.model, self.processes)
            self.arguments = denoising.example(self.model, rows)
            drawn = {}
            for i, (name, x) in enumerate(self.arguments[0].items()):
                # Of codes both values are below any vocabulary.
                values = jax.random.bernoulli(jax.random.fold_in(key, i), 0.5, x.shape)
                drawn[name] = values.astype(x.dtype)
            classes = max(self.model.classes, 1)
            label = jax.random.randint(key, (rows,), 0, classes)
            batch = {"streams": drawn, "label": label}
        self.mesh = make_mesh(experiment.mesh, devices)
        self.batch = batch
        if devices is None:
            placed = (batch, self.arguments)
            own = batch_sharding(self.mesh)
            self.batch, self.arguments = jax.device_put(placed, own)

    @property
    def dtype(self) -> str:
        return self.experiment.dtype

    def train_step(
        self,
    ) -> tuple[jax.stages.Compiled, float, TrainState, Callable[[], Any]]:
        """(the compiled program, the seconds it took to trace and compile, its first
        state, a call that takes one step more).

        The first call donates the first state.
        """
        init, step = self._made
        state = create_state(init, self._rules, self.mesh)
        program, seconds = self._compiled(step, state, self.batch)
        held = {"state": state}

        def one_step():
            held["state"], metrics = program(held["state"], self.batch)
            return metrics

        return program, seconds, state, one_step

    def ahead(self) -> tuple[jax.stages.Compiled, float, TrainState]:
        """(the compiled program, the seconds it took, its state as shapes): of the
        given devices, which need not be here. Nothing is placed on them."""
        init, step = self._made
        state = state_shapes(init, self._rules, self.mesh)
        at = batch_sharding(self.mesh)
        shape = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at)
        batch = jax.tree.map(shape, self.batch)
        return *self._compiled(step, state, batch), state

    def _compiled(self, step, state, batch):
        layout = jax.tree.map(lambda x: x.sharding, state)
        step = by_example(step, batch_sharding(self.mesh))
        jitted = jax.jit(step, donate_argnums=0, out_shardings=(layout, None))
        began = time.perf_counter()
        program = jitted.lower(state, batch).compile()
        return program, time.perf_counter() - began

    def forward(self, variables: Any, *arguments: Any) -> Any:
        """What the network returns; of a tokenizer the reconstruction alone."""
        apply = by_example(self.model.apply, batch_sharding(self.mesh))
        found = apply(variables, *arguments)
        return found[0] if isinstance(self.experiment, StageOne) else found

    def macs(self) -> int:
        """Multiply-accumulates of a forward pass, whatever computes the attention."""
        model = self.model
        if not isinstance(self.experiment, StageOne):
            # A kernel of its own, such as cuDNN's, is no product that could be counted.
            model = model.clone(block=model.block.clone(implementation="plain"))
        variables = jax.eval_shape(model.init, jax.random.key(0), *self.arguments)
        return macs(model.apply, variables, *self.arguments)
