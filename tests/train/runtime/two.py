"""A small run of everything that trains and evaluates, for `test_hosts.py`.

python -m tests.train.runtime.two FOLDER AXIS [--coordinator=... --processes=... ...]

trains a tokenizer, writes a cache of its latents, trains a generator on it and one that
encodes on the fly, and evaluates, all on a mesh of which AXIS has every device.
"""

import sys
from pathlib import Path

from train import encode, evaluate, stage_one, stage_two

CONFIGS = Path(__file__).with_name("two_configs")


def main(folder: str, axis: str, *processes: str) -> None:
    folder = Path(folder)
    rest = [] if axis == "data" else ["--config.mesh.data=1"]
    mesh = [*rest, f"--config.mesh.{axis}=-1", *processes]
    tokenizer = f"--config={CONFIGS / 'tokenizer.py'}"
    flow = f"--config={CONFIGS / 'flow.py'}"
    over = f"--config.streams.image.tokenizer={folder / 'tok'}"
    stage_one.main([tokenizer, f"--workdir={folder / 'tok'}", *mesh])
    encode.main(
        [
            tokenizer,
            f"--bundle={folder / 'tok'}",
            f"--out={folder / 'cache'}",
            *processes,
        ]
    )
    cached = f"--config.cache={folder / 'cache'}"
    stage_two.main([flow, f"--workdir={folder / 'cached'}", over, cached, *mesh])
    stage_two.main([flow, f"--workdir={folder / 'direct'}", over, *mesh])
    evaluate.main([f"--workdir={folder / 'tok'}", *processes])
    judged = ["--num=24", "--steps=2", "--guidance=(1.5,)", "--judge-steps=3"]
    evaluate.main([f"--workdir={folder / 'direct'}", *judged, *processes])


if __name__ == "__main__":
    main(*sys.argv[1:])
