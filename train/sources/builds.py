"""Where a prepared TFDS set lies, and what prepares one."""

import importlib.util
import re
from pathlib import Path

from train.errors import BadInput, briefly
from train.modalities.modality import Modality


def command(data: Modality, root: Path) -> str:
    return (
        f"run: tfds build {data.name} --data_dir={root} --file_format=array_record "
        "(needs TensorFlow: pip install tensorflow)"
    )


def version_of(data: Modality, root: Path) -> Path | None:
    """Folder of the newest prepared version (or the one named); None: not prepared."""
    name, _, version = data.name.partition(":")
    parent = root / name
    found = _versions(parent)
    if not found:
        configs = [path for path in parent.glob("*/") if _versions(path)]
        names = sorted(f"{name}/{path.name}" for path in configs)
        if len(names) == 1:
            found = _versions(configs[0])
        elif names:
            raise BadInput(
                f"data.name={data.name!r} has configurations; "
                f"write {' or '.join(names)}"
            )
    if version and found and version not in found:
        raise BadInput(
            f"data.name={data.name!r}: version {version} is not in {parent}; "
            f"write one of {', '.join(sorted(found))}"
        )
    if not found:
        return None
    numbers = lambda version: tuple(map(int, version.split(".")))
    return found[version or max(found, key=numbers)]


def _versions(parent: Path) -> dict[str, Path]:
    folders = [path.parent for path in parent.glob("*/dataset_info.json")]
    # A build that was cut short leaves a folder such as 1.0.0.incompleteA1B2.
    return {f.name: f for f in folders if re.fullmatch(r"\d+\.\d+\.\d+", f.name)}


def prepare_set(data: Modality, root: Path) -> Path:
    if not getattr(data, "download", False):
        infos = [*root.glob("*/*/dataset_info.json")]
        infos += root.glob("*/*/*/dataset_info.json")
        present = sorted({path.relative_to(root).parts[0] for path in infos})
        beside = f"; prepared there: {', '.join(present)}" if present else ""
        raise BadInput(
            f"data.name={data.name!r} is not prepared in {root}{beside}; "
            f"{command(data, root)}, or write data.download=True"
        )
    # Asked first: without it TFDS downloads everything and fails only then.
    if importlib.util.find_spec("tensorflow") is None:
        raise BadInput(
            f"data.download=True: preparing {data.name!r} needs TensorFlow; "
            "pip install tensorflow"
        )
    import tensorflow_datasets as tfds  # slow to import

    try:
        builder = tfds.builder(data.name, data_dir=root, file_format="array_record")
        builder.download_and_prepare()
    except Exception as error:  # network, disk, licence: each raises its own
        raise BadInput(
            f"data.download=True: TFDS could not prepare {data.name!r} "
            f"({briefly(error)}); {command(data, root)}"
        ) from error
    return Path(builder.data_dir)
