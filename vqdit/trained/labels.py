"""Labels that a generator is given, checked at the door."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.shapes import Array
from vqdit.trained import inputs
from vqdit.values import near


def check_label(generator: Any, label: Any, ids: Array) -> Array | None:
    """Labels as (b,) int32, of one label or many, in numbers or class names.

    Raises ValueError when they do not fit; of values inside a jit only the shape is
    known.
    """
    classes = generator.module.classes
    if label is None:
        if classes and classes in generator.untrained:
            raise ValueError(
                "this model was trained with label_dropout=0, so always told a "
                "class: give a label"
            )
        return None
    if not classes:
        raise ValueError("this model has no classes: leave label out")
    label = inputs.array(class_numbers(label, generator.class_names))
    if not isinstance(label, jax.core.Tracer):
        label = np.asarray(label)
    if not label.ndim:
        label = label.repeat(len(ids))
    if label.shape != ids.shape or label.dtype.kind not in "iu":
        raise ValueError(
            f"label is {label.dtype} {label.shape}; write integers {ids.shape}"
        )
    if isinstance(label, np.ndarray):
        wrong = label[(label < 0) | (label > classes)]
        if wrong.size:
            raise ValueError(
                f"label {wrong[0]} is outside the classes: write 0 to "
                f"{classes - 1}, or {classes} for none"
            )
        unseen = label[np.isin(label, generator.untrained)]
        if unseen.size:
            raise ValueError(
                f"label {unseen[0]} had no example in training; write another"
            )
    return jnp.asarray(label, jnp.int32)


def check_guidance(generator: Any, guidance: Any) -> None:
    """Raises ValueError for a scale of labels that needs what was not trained; one
    of 1 is no guidance, and one inside a jit is not known."""
    if isinstance(guidance, Mapping):
        guidance = guidance.get("label", 1.0)
    classes = generator.module.classes
    if not classes or classes not in generator.untrained or guidance is None:
        return
    if isinstance(guidance, jax.core.Tracer) or np.all(np.asarray(guidance) == 1):
        return
    raise ValueError(
        f"guidance={guidance} compares with no label, which label_dropout=0 never "
        "trained: write 1, which is none, or train with label_dropout=0.1"
    )


def class_numbers(label: Any, names: tuple[str, ...]) -> Any:
    """A label, or a list of them, with a class's number where its name is.

    Raises ValueError, with the nearest name, where no class has it.
    """
    if isinstance(label, np.ndarray) and label.dtype.kind == "U":
        label = label.tolist()
    if isinstance(label, list | tuple):
        return [class_numbers(each, names) for each in label]
    if not isinstance(label, str):
        return label
    if label not in names:
        raise ValueError(f"no class is called {label!r}; {near(label, names)}")
    return names.index(label)
