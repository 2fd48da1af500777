"""Digits written, spoken, spelled: one transformer, any of the three from any others.

python -m train.stage_one --config=configs/mnist_tokenizer.py \\
    --workdir=runs/mnist_tok --config.data.data_dir=DIR --config.run.steps=1200
python -m train.stage_one --config=configs/speech_short.py \\
    --workdir=runs/mel --config.data.data_dir=DIR
SET="--config.data.image.data_dir=DIR --config.data.word.data_dir=DIR \\
    --config.data.audio.data_dir=DIR --config.streams.image.tokenizer=runs/mnist_tok \\
    --config.streams.audio.tokenizer=runs/mel"
python -m train.encode --config=configs/spoken_written.py $SET --out=runs/cache \\
    --epochs=48
python -m train.stage_two --config=configs/spoken_written.py $SET \\
    --config.cache=runs/cache --workdir=runs/joint
python -m train.evaluate --workdir=runs/joint --crossings=True --num=400 --steps=12 \\
    --before=word --guidance='(1.0, 2.0)'
python -m train.evaluate --workdir=runs/joint --baselines=True --steps=5 \\
    --crossings=audio_to_word --among=_theo_ \\
    --solver='Confidence(noise=0.0, temperature=0.1)'

49 codes of a picture of MNIST, 24 of a clip of spoken_digit, and five bytes of a word,
"zero" to "nine": all by masks, which learn faster than flows where steps are few. A
picture goes with any clip of its class. Of the clips all of one speaker, theo, and
takes 0 to 4 of the others are held out; the rest are played a little faster, slower,
louder and at other places, since five voices are few.

One CPU core: 72 minutes, after twenty for tokenizers and cache. --variant=long is for a
GPU, where today's mixture and rule were not tried yet. Expected: RESULTS.md,
section Digits written, spoken and spelled.
"""

from configs.mnist_tokenizer import CONFIG as PICTURES
from configs.speech_short import CONFIG as SPEECH
from train.config import Muon, Optimizer, Run, StageTwo, Stream, replaced
from train.modalities import SeriesAugment
from vqdit.diffusion import Case, Confidence, Cosine, LogitNormal, Masking, Mixture
from vqdit.dit import DiT
from vqdit.nn import Block
from vqdit.tokenizer import Bytes

MASKING = Masking(schedule=Cosine(), weight="none")
CODES = {"process": MASKING, "codes": 512, "start": "codebook", "solver": Confidence()}
WORDS = (
    *("zero", "one", "two", "three", "four"),
    *("five", "six", "seven", "eight", "nine"),
)
SPOKEN = replaced(
    SPEECH.data, {"augment": SeriesAugment(shift=800, pace=0.1, gain=3.0)}
)
WRITTEN = replaced(PICTURES.data, {"words": WORDS})

CONFIG = StageTwo(
    name="spoken_written",
    data={"image": WRITTEN, "audio": SPOKEN, "word": WRITTEN},
    join="class",
    model=DiT(width=96, depth=4, block=Block(4, own=("mlp", "modulation"))),
    streams={
        "image": Stream(shape=(7, 7, 1), **CODES),
        "audio": Stream(shape=(24, 1, 1), **CODES),
        # A word of which letters are seen says itself: most times hide all of them.
        "word": Stream(
            MASKING,
            tokenizer=Bytes(5),
            times=LogitNormal(2.0),
            weight=2.0,
            solver=Confidence(temperature=0.5),
        ),
    },
    mixture=Mixture(
        (
            Case(),
            Case(absent=0.9),
            Case(given=0.5, absent=0.3),
            Case(absent=("audio", "word"), weight=2.0),
            Case(absent=("image",), weight=0.75),
            Case(given=("audio",), absent=("image",), weight=0.35),
            Case(given=("image",), absent=("audio",), weight=2.5),
            Case(given=("word",), absent=0.5, weight=2.0),
        )
    ),
    optimizer=Optimizer(
        rule=Muon(), peak_lr=4e-3, schedule="cosine", warmup=100, b2=0.99, ema=0.998
    ),
    run=Run(steps=16_000, batch=32, save_every=500),
    bars=(
        "audio_to_word likeliest accuracy >= 0.95",
        "image_to_word likeliest accuracy >= 0.97",
        "word_to_image accuracy >= 0.95",
        "word_to_audio accuracy >= 0.90",
        "audio_to_image accuracy >= 0.85",
        "image_to_audio accuracy >= 0.85",
        "agree share >= 0.85",
    ),
)


def _of(*names: str) -> dict:
    """Fields of a model of these streams alone, otherwise the same."""
    asked = (Case(), Case(given=0.5)) if len(names) > 1 else (Case(),)
    return {
        "data": {name: CONFIG.data[name] for name in names},
        "streams": {name: CONFIG.streams[name] for name in names},
        "mixture": Mixture(asked),
    }


VARIANTS = {
    "long": {"run.batch": 128, "run.steps": 10_000, "optimizer.ema": 0.999},
    "image": _of("image"),
    "audio": _of("audio"),
    "word": _of("word"),
    "image_word": _of("image", "word"),
    "audio_word": _of("audio", "word"),
}
