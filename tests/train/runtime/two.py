"""A small run of everything that trains and evaluates, for `test_hosts.py`.

python -m tests.train.runtime.two FOLDER AXIS [--coordinator=... --processes=... ...]

trains a tokenizer and a generator that encodes on the fly, on a mesh of which AXIS has
every device. Where that is `data` or `fsdp`, it also writes a cache of latents and
trains a generator on it; where it is `data` it evaluates, by programs that make no mesh
of an experiment's.
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
    stage_two.main([flow, f"--workdir={folder / 'direct'}", over, *mesh])
    if axis == "tensor":
        return
    bundle, cache = f"--bundle={folder / 'tok'}", folder / "cache"
    encode.main([tokenizer, bundle, f"--out={cache}", *processes])
    cached = f"--config.cache={cache}"
    stage_two.main([flow, f"--workdir={folder / 'cached'}", over, cached, *mesh])
    if axis != "data":
        return
    evaluate.main([f"--workdir={folder / 'tok'}", *processes])
    judged = ["--num=24", "--steps=2", "--guidance=(1.5,)", "--judge-steps=3"]
    evaluate.main([f"--workdir={folder / 'direct'}", *judged, *processes])


if __name__ == "__main__":
    main(*sys.argv[1:])
