"""Camera, lidar, way and boxes of one street: any from any others.

python -m train.stage_one --config=configs/driving_camera.py --workdir=runs/camera
python -m train.stage_one --config=configs/driving_range.py --workdir=runs/sweep
python -m train.stage_one --config=configs/driving_position.py --workdir=runs/position
python -m train.stage_two --config=configs/driving.py --workdir=runs/driving \\
    --config.streams.camera.tokenizer=runs/camera \\
    --config.streams.range.tokenizer=runs/sweep \\
    --config.streams.position.tokenizer=runs/position
ASK=range_to_camera,position_to_camera,range+position_to_camera
ASK=$ASK,camera_to_range,position_to_range,camera+position_to_range
ASK=$ASK,camera_to_position,range_to_position,camera+range_to_position
ASK=$ASK,camera_to_boxes,range_to_boxes,position_to_boxes,camera+range+position_to_boxes
python -m train.evaluate --workdir=runs/driving --crossings=$ASK --num=150 --steps=8 \\
    --draws=4
python -m train.score --workdir=runs/driving --of=camera --given=range,position \\
    --anomaly='camera,no camera' --usual=none --draws=12 --most=500 \\
    --config.data.camera.name=driving_faults --config.data.range.name=driving_faults \\
    --config.data.position.name=driving_faults --config.data.boxes.name=driving_faults

Generated streets of known truth (train/sources/generated/driving.py): up to three boxes
of vehicles and walkers, which the camera sees by day, the lidar by a few beams, and the
way by the car's speed. All by masks. The last command tells a camera that lies, or is
out, by what the others say; --of=range and --of=position ask the same of these.

One CPU core: 65 minutes, after 20 for the tokenizers. Boxes learn late, and so are
asked for in most examples and weigh more. With --variant=long and a cache one H100
takes six minutes. Expected: RESULTS.md, section Driving.
"""

from configs.driving_camera import CONFIG as CAMERA
from configs.driving_position import CONFIG as POSITION
from configs.driving_range import CONFIG as RANGE
from train.config import Optimizer, Run, StageTwo, Stream
from vqdit.diffusion import Case, Confidence, Cosine, LogitNormal, Masking, Mixture
from vqdit.dit import DiT
from vqdit.nn import Block
from vqdit.tokenizer import Boxes

MASKING = Masking(schedule=Cosine(), weight="none")
CODES = {"codes": 512, "start": "codebook", "solver": Confidence(noise=1.0)}
SENSORS = ("camera", "range", "position")

CONFIG = StageTwo(
    name="driving",
    data={
        "camera": CAMERA.data,
        "range": RANGE.data,
        "position": POSITION.data,
        "boxes": CAMERA.data,
    },
    model=DiT(width=96, depth=4, block=Block(4)),
    streams={
        "camera": Stream(MASKING, shape=(8, 8, 2), **CODES),
        "range": Stream(MASKING, shape=(2, 32, 2), **CODES),
        "position": Stream(MASKING, shape=(4, 2), **CODES),
        "boxes": Stream(
            MASKING,
            tokenizer=Boxes(3, bins=64, classes=2),
            times=LogitNormal(1.0),
            start="codebook",
            solver=Confidence(noise=1.0),
            weight=6.0,
        ),
    },
    mixture=Mixture(
        (
            Case(given=SENSORS, weight=3.0),
            Case(given=("camera",), absent=("range", "position")),
            Case(given=("range",), absent=("camera", "position")),
            Case(given=("position",), absent=("camera", "range"), weight=0.5),
            Case(given=0.5, absent=0.4, weight=2.5),
            Case(),
        )
    ),
    optimizer=Optimizer(
        peak_lr=2e-3, schedule="cosine", warmup=100, b2=0.99, ema=0.998
    ),
    run=Run(steps=6400, batch=32, log_every=100, save_every=800),
    bars=(
        "range+position_to_camera psnr_db > range_to_camera psnr_db",
        "range+position_to_camera psnr_db > position_to_camera psnr_db",
        "camera+position_to_range psnr_db > camera_to_range psnr_db",
        "camera+position_to_range psnr_db > position_to_range psnr_db",
        "camera+range_to_position explained > camera_to_position explained",
        "camera+range_to_position explained > range_to_position explained",
        "camera+range+position_to_boxes map > camera_to_boxes map",
        "camera+range+position_to_boxes map > range_to_boxes map",
        "camera+range+position_to_boxes map > position_to_boxes map",
    ),
)

VARIANTS = {
    "long": {
        "model.width": 128,
        "model.depth": 6,
        "run.batch": 128,
        "run.steps": 9000,
        "optimizer.ema": 0.999,
    },
}
