"""Checkpoints that are verified when they are read. The only file that knows Orbax.

One checkpoint is a folder named by its step: the state, and a manifest that holds the
position in the data, the caller's notes, and a fingerprint of every array. Orbax sees
that a file was cut short, but a flipped bit restores silently wrong; the fingerprints
do not let it pass. Nothing is ever deleted but the oldest of more than `keep`.
"""

import contextlib
import logging
import os
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from train.errors import BadInput, some
from train.progress import say
from train.runtime import hosts
from train.runtime.checkpoint.fingerprint import fingerprints
from train.runtime.checkpoint.manifest import (
    altered,
    compare,
    sealed_manifest,
    unsealed,
)
from vqdit import sealed


class NonFinite(BadInput):
    """The state holds nan or infinity, so it was not saved."""


class SaveFailed(BadInput):
    """The last checkpoint could not be written."""


class Checkpoints(contextlib.AbstractContextManager):
    """The checkpoints of one run. A context manager: leaving it finishes the writing.

    Only one process tree may have them open (see `train.runtime.lock`): another would
    take unfinished files for garbage.

    keep: newest checkpoints that stay on disk; older ones go once a newer is committed.
    Says in a line when a write failed or a checkpoint was rejected. Raises BadInput
    when `keep` is below 1.
    """

    def __init__(self, directory: str | os.PathLike, keep: int = 3):
        if keep < 1:
            raise BadInput(f"run.keep={keep} keeps nothing; write 1 or more")
        # Where a link leads, too: what is damaged is moved aside on the same disk.
        remote = "://" in os.fspath(directory)
        place = directory if remote else os.path.realpath(directory)
        self.directory = epath.Path(place)
        if os.path.islink(directory) and not self.directory.exists():
            raise BadInput(
                f"{directory} leads to {self.directory}, which is not there; bring it "
                f"back, or remove the link to start anew"
            )
        # What goes wrong is told here in a line; Orbax would add pages of traceback.
        for name in ("absl", "asyncio"):
            logging.getLogger(name).addFilter(_not_orbax)
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep,
                # What a killed process left half written: never restorable.
                cleanup_tmp_directories=True,
            ),
            item_names=("state", "manifest"),
        )
        self._newest: int | None = None  # restored, or given to Orbax to write
        self._committed: int | None = None
        self._failure: str | None = None

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Finishes the writing."""
        self._settle()
        self._manager.close()

    @property
    def committed(self) -> int | None:
        """The newest step known to be whole on disk; a step being written is not."""
        if not self._manager.is_saving_in_progress():
            self._settle()
        return self._committed

    @property
    def good(self) -> str:
        """Folder of the newest whole step, or "none". Waits for one being written."""
        self._settle()
        return "none" if self._committed is None else str(self._path(self._committed))

    def save(
        self, step: int, state: Any, *, position: int, meta: dict | None = None
    ) -> None:
        """Starts writing the state of `step`; the writing goes on in the background.

        The state may be donated as soon as this returns. A step that is already here is
        not written again. A failed write is reported, and raised by `wait`: training
        can outlive a full disk.

        position: batches of data consumed. meta: JSON-able notes, given back by
            `restore_latest`.
        Raises NonFinite, and writes nothing, when the state holds nan or infinity.
        """
        if step == self._newest:
            return
        leaves = fingerprints(state)
        broken = [name for name, leaf in leaves.items() if not leaf.pop("finite")]
        if broken:
            raise NonFinite(
                f"the state of step {step} is not finite and was not saved: "
                f"{some(broken)}; the last good checkpoint is {self.good}"
            )
        manifest = sealed_manifest(step, position, meta or {}, leaves)
        self._settle()
        self._newest, self._failure = step, None
        try:
            started = self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),
                    manifest=ocp.args.JsonSave(manifest),
                ),
            )
        except Exception as error:  # whatever the file system had to say
            self._fail(error)
            return
        if not started:
            raise RuntimeError(
                f"{self.directory} has a checkpoint newer than step {step}; "
                f"restore_latest comes before save"
            )

    def wait(self) -> None:
        """Returns once the last save is whole on disk; raises SaveFailed if not."""
        self._settle()
        if self._failure:
            raise SaveFailed(
                f"{self._failure}; the last good checkpoint is {self.good}"
            )

    def restore_latest(self, like: Any) -> tuple[Any, int, dict] | None:
        """The newest whole checkpoint: (state, position, meta). None if there is none.

        Every array is compared with the fingerprint taken when it was saved. A damaged
        checkpoint is reported, the next older one is tried, and once that proved whole
        the damaged one is moved beside the folder.

        like: the state's structure, as arrays or shapes with shardings, on any mesh.
        Raises BadInput when the checkpoint is of another model (names, shapes or types
        differ), and when there are checkpoints but none of them can be read.
        """
        like = jax.tree.map(_shape, like)
        rejected: dict[int, str] = {}
        for step in sorted(self._steps(), reverse=True):
            try:
                manifest = self._manifest(step)
                compare(manifest, like, self._path(step))
                args = ocp.args.Composite(state=ocp.args.StandardRestore(like))
                state, why = self._manager.restore(step, args=args)["state"], ""
            except BadInput:
                raise
            except Exception as error:  # Orbax and TensorStore raise many kinds
                why = _line(error)
            if hosts.agreed(not why):
                wrong = altered(state, manifest)
                why = f"altered on disk: {some(wrong)}" if wrong else ""
            else:
                why = why or "another process cannot read it"
            if why:
                rejected[step] = why
                say(f"checkpoint {self._path(step)} rejected: {why}")
                continue
            if rejected:
                self._set_aside(sorted(rejected))
            self._newest = self._committed = step
            return state, manifest["position"], manifest["meta"]
        if rejected:
            reasons = "; ".join(f"step {step}: {why}" for step, why in rejected.items())
            raise BadInput(
                f"no checkpoint in {self.directory} can be read ({reasons}); bring "
                f"back a whole one, or write another --workdir to start anew"
            )
        return None

    def preempted(self, step: int) -> bool:
        """Whether the scheduler asked all processes to stop after this very step.

        Only where there are several: they must agree on a step. A single process sees
        the signal itself.
        """
        return hosts.several() and self._manager.reached_preemption(step)

    def _steps(self) -> list[int]:
        if not self.directory.exists():
            return []
        names = [p.name for p in self.directory.iterdir() if p.is_dir()]
        return [int(n) for n in names if n.isdecimal() and n == str(int(n))]

    def _path(self, step: int) -> epath.Path:
        return self.directory / str(step)

    def _manifest(self, step: int) -> dict:
        folder = self._path(step) / "manifest"
        if not folder.exists():
            raise ValueError("it has no manifest")
        if any(path.stat().length > sealed.LARGEST for path in folder.iterdir()):
            raise ValueError("its manifest is too large")
        args = ocp.args.Composite(manifest=ocp.args.JsonRestore())
        manifest = dict(self._manager.restore(step, args=args)["manifest"])
        return unsealed(manifest, step, self._path(step))

    def _set_aside(self, steps: list[int]) -> None:
        """Moves damaged steps out of the way of new ones and of the count of `keep`."""
        place = self.directory.parent / f"{self.directory.name}.rejected"
        with hosts.together():
            for step in steps if hosts.first() else ():
                place.mkdir(parents=True, exist_ok=True)
                names = (f"{step}-{i}" for i in range(10_000))
                free = next(place / n for n in names if not (place / n).exists())
                self._path(step).rename(free)
                say(f"checkpoint {self._path(step)} moved to {free}")
        self._manager.reload()

    def _settle(self) -> None:
        """Waits for the write under way, and notes how it ended."""
        if self._newest == self._committed:
            return
        try:
            self._manager.wait_until_finished()
        except Exception as error:  # a full disk, a vanished folder
            self._fail(error)
            return
        self._committed = self._newest

    def _fail(self, error: Exception) -> None:
        place = self.directory / str(self._newest)
        failure = f"checkpoint {place} not written: {_line(error)}"
        say(failure)
        if hosts.first():  # what is half written takes room on a full disk
            for partial in self.directory.glob(f"{self._newest}.orbax-checkpoint-tmp*"):
                partial.rmtree(missing_ok=True)
        self._newest, self._failure = self._committed, failure
        self._manager.reload()


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _not_orbax(record: logging.LogRecord) -> bool:
    """Nor of what asyncio says at the end of a program of each array that Orbax could
    not write to a full disk."""
    lost = "exception was never retrieved" in record.getMessage()
    return "orbax" not in (record.getMessage() if lost else record.pathname)


def _line(error: Exception) -> str:
    """An error as one short line; TensorStore's run to a page."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    text = text.removeprefix("ValueError: ")
    return text if len(text) <= 200 else text[:197] + "..."
