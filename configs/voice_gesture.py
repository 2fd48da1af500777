"""A spoken digit and the gesture that writes it, both in noise, and which digit it is.

python -m train.stage_one --config=configs/speech_short.py \\
    --config.data.data_dir=DIR --workdir=runs/speech
python -m train.stage_one --config=configs/speech_short.py \\
    --config.init=runs/speech --config.data.snr=10 --config.run.steps=250 \\
    --config.data.data_dir=DIR --workdir=runs/noisy_speech
python -m train.stage_one --config=configs/gesture.py --config.data.data_dir=DIR \\
    --workdir=runs/gesture
python -m train.stage_two --config=configs/voice_gesture.py --workdir=runs/both \\
    --config.data.audio.data_dir=DIR --config.data.digit.data_dir=DIR \\
    --config.data.gesture.data_dir=DIR \\
    --config.streams.audio.tokenizer=runs/noisy_speech \\
    --config.streams.gesture.tokenizer=runs/gesture
python -m train.evaluate --workdir=runs/both --crossings --baselines

Fusion: the digit from what is heard at 10 dB of noise, from what the hand does at 10 dB
of noise, and from both. Recordings of spoken_digit go with gestures of the same class,
drawn anew in every epoch. Three of four examples are trained to name the digit; the
fourth draws any stream from any other.

One of two CPU cores: a quarter of an hour, after as much for its tokenizers. Expected:
RESULTS.md, section Voice and gesture.
"""

from configs.demo_masked import MASKING
from configs.gesture import GESTURES
from train.config import Optimizer, Run, StageTwo, Stream
from train.modalities import Audio, SeriesAugment
from vqdit.diffusion import Case, Mixture
from vqdit.dit import DiT
from vqdit.nn import Block
from vqdit.tokenizer import Labels

SPOKEN = Audio(
    name="spoken_digit",
    rate=8000,
    length=6144,
    holdout="takes:0-4",
    snr=10.0,
    augment=SeriesAugment(shift=400),
)

CONFIG = StageTwo(
    name="voice_gesture",
    data={"audio": SPOKEN, "gesture": GESTURES, "digit": SPOKEN},
    join="class",
    model=DiT(width=96, depth=4, block=Block(4)),
    streams={
        "audio": Stream(MASKING, shape=(24, 1, 1), codes=512, start="codebook"),
        "gesture": Stream(MASKING, shape=(12, 1), codes=1000, start="codebook"),
        "digit": Stream(MASKING, tokenizer=Labels(10)),
    },
    mixture=Mixture(
        (
            Case(given=("audio", "gesture")),
            Case(given=("audio",), absent=("gesture",)),
            Case(given=("gesture",), absent=("audio",)),
            Case(given=0.5, absent=0.3),
        )
    ),
    optimizer=Optimizer(
        peak_lr=1e-3, schedule="cosine", warmup=100, b2=0.99, ema=0.998
    ),
    run=Run(steps=2000, batch=32, save_every=500),
    bars=(
        "audio+gesture_to_digit accuracy > audio_to_digit accuracy",
        "audio+gesture_to_digit accuracy > gesture_to_digit accuracy",
    ),
)
