"""DiT (arXiv:2212.09748) and SiT (arXiv:2401.08740) on the latents of ImageNet 256.

python -m train.stage_one --config=configs/kl_f8.py --workdir=runs/kl_f8
python -m train.stage_two --config=configs/imagenet_dit.py --variant=b_2 \\
    --workdir=runs/dit_b_2 --config.streams.image.tokenizer=runs/kl_f8

From cached latents, which hold every picture both ways round:

python -m train.encode --config=configs/imagenet_dit.py --bundle=runs/kl_f8 \\
    --out=runs/latents     # and, above, --config.cache=runs/latents

    variant   parameters   multiply-adds   FID-50K as published: 400K steps, batch
                           an image        256, unguided, 250 DDPM steps, SD's VAE
    s_8            33.14M        0.36 G        153.60
    s_4            32.92M        1.41 G        100.41
    s_2            32.96M        6.06 G         68.40
    b_8           130.87M        1.42 G        122.74
    b_4           130.43M        5.57 G         68.38
    b_2           130.51M       23.01 G         43.47
    l_8           458.58M        5.01 G        118.87
    l_4           457.99M       19.70 G         45.64
    l_2           458.10M       80.70 G         23.33
    xl_8          675.66M        7.39 G        106.41
    xl_4          675.00M       29.04 G         43.01
    xl_2          675.13M      118.62 G         19.47

Expected on kl_f8, which lacks two of that VAE's losses: unknown; none of these has
been run here. Parameters at patch 2 count the fixed table of positions, as published.
PyTorch runs of the authors reach 68.9 and 68.3 for b_4, and 18.1 for xl_2; at 7M steps
(--variant=xl_2_full) xl_2 is published at 9.62, and 2.27 guided at scale 1.5. sit_xl_2,
xl_2 trained as a flow, is at 7M steps 8.3 (SDE) or 9.5 (ODE), and 2.06 guided. Both
guide three of the four channels: --config.streams.image.process.guided=3.

Hardware, hours: one H100 takes 56 hours for xl_2 from cached latents, at 512 images a
second, which were measured with --config.model.scan=False --config.model.remat=None and
64 images a step (RESULTS.md, section Accelerator). As below, with the scan and whole
remat, it makes 419 and compiles sooner.

Departs from the papers in its times, which are continuous and stratified over a batch,
and in its latents, which are posterior means scaled per channel, not samples. SiT's
published head returns twice the channels and throws half of them away (18,448
parameters), left out here; it embeds t itself, here 1000 t as in DiT.
"""

from configs.imagenet import CENTRE
from train.config import Optimizer, Run, StageTwo, Stream, replaced
from vqdit.diffusion import Cosine, DDPMLinear, Gaussian, Linear, Process
from vqdit.dit import DiT
from vqdit.nn import Block

# Width, depth and heads (arXiv:2212.09748, table 1).
SIZES = {
    "s": (384, 12, 6),
    "b": (768, 12, 12),
    "l": (1024, 24, 16),
    "xl": (1152, 28, 16),
}


def transformer(name: str, size: str, patch: int, process: Process) -> StageTwo:
    """A DiT of the given size on 32x32x4 latents, as DiT and SiT are both trained."""
    width, depth, heads = SIZES[size]
    return StageTwo(
        name=name,
        data=CENTRE,
        model=DiT(
            width=width,
            depth=depth,
            block=Block(heads),
            classes=1000,
            dtype="bfloat16",
            remat="whole",
            scan=True,
        ),
        streams={"image": Stream(process, patch=patch, shape=(32, 32, 4))},
        optimizer=Optimizer(peak_lr=1e-4, clip=None, ema=0.9999),
        run=Run(
            steps=400_000,
            batch=256,
            log_every=100,
            save_every=10_000,
            sample_every=50_000,
        ),
    )


def dit(size: str, patch: int) -> StageTwo:
    """DiT as published: noise prediction and a learned variance, DDPM's schedule."""
    process = Gaussian(DDPMLinear(), target="noise", learned_variance=True)
    return transformer(f"dit_{size}_{patch}", size, patch, process)


CONFIG = dit("xl", 2)
MODELS = {f"{size}_{patch}": dit(size, patch) for size in SIZES for patch in (8, 4, 2)}
MODELS["sit_xl_2"] = transformer("sit_xl_2", "xl", 2, Gaussian(Linear(), "velocity"))
# One question a line, asked of any of them.
CHANGES = {
    "full": {"run.steps": 7_000_000},  # of the papers' final models
    "cosine": {"streams.image.process.schedule": Cosine()},
    "predict_v": {"streams.image.process.target": "v"},
    "rotary": {"model.positions": "rotary"},
    "qk_norm": {"model.block.qk_norm": "rms"},
    "float32": {"model.dtype": "float32"},
}
# Every model, and every model with one thing changed: b_2, b_2_full, b_2_rotary ...
VARIANTS = MODELS | {
    f"{name}_{question}": replaced(model, change)
    for name, model in MODELS.items()
    for question, change in CHANGES.items()
}
