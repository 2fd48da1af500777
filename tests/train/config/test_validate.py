"""What cannot be run is refused before anything compiles, naming field and remedy."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from tests.train.experiments import JOINT, TOKENIZER
from train.config import Mesh, Run
from train.config.override import overrides, replaced
from train.config.validate import validate
from train.errors import BadInput
from train.modalities import Audio, Ranges, Series
from train.objectives.start import open_start
from train.pipeline import whole
from vqdit.diffusion import TimeLaw
from vqdit.nn import Continuous
from vqdit.tokenizer import LogMel


@pytest.mark.parametrize("experiment", [TOKENIZER, JOINT], ids=lambda e: e.name)
@pytest.mark.parametrize("devices", [1, 8, 16])
def test_a_sound_experiment_passes_and_nothing_compiles(experiment, devices, caplog):
    with jax.log_compiles(), jax.transfer_guard("disallow"):
        validate(experiment, devices)
    assert "Compiling" not in caplog.text


REFUSED = [
    ("run.steps=0", "run.steps: write a whole number, at least 1"),
    ("run.batch=0", "run.batch: write a whole number, at least 1"),
    ("run.keep=0", "run.keep: write a whole number, at least 1"),
    ("run.sample_every=-1", "run.sample_every: write a whole number, at least 0"),
    ("run.batch=12", "run.batch=12 .* over 8 devices .*1.; .* such as run.batch=16"),
    ("run.batch=12 mesh.fsdp=8", "data 1 x mesh.fsdp 8.*; .* such as run.batch=16"),
    ("run.batch=4", "such as run.batch=8"),
    ("optimizer.accumulate=4", "in 4 microbatches .* such as run.batch=32"),
    (
        "optimizer.accumulate=0",
        "optimizer.accumulate: write a whole number, at least 1",
    ),
    ("optimizer.peak_lr=0", "optimizer.peak_lr: write a number, above 0"),
    ("optimizer.peak_lr=nan", "optimizer.peak_lr: write a number, above 0"),
    ("optimizer.b2=1", "optimizer.b2: write a number, at least 0 and below 1"),
    ("optimizer.ema=1", "optimizer.ema: write a number, at least 0 and below 1"),
    ("optimizer.clip=0", "optimizer.clip: write a number, above 0"),
    ("optimizer.weight_decay=-1", "optimizer.weight_decay: write a number, at least 0"),
    (
        "optimizer.schedule=cosine optimizer.warmup=1000",
        "optimizer.warmup=1000 leaves nothing of run.steps=1000",
    ),
    ("run.seed=-1", "run.seed: write a whole number, at least 0 and below 9"),
    (f"run.seed={10**30}", "run.seed: write a whole number, at least 0 and below 9"),
    (f"run.save_every={10**400}", "run.save_every: write a whole number, at least 1"),
    ("run.batch=800000000000", "run.batch=8.*: as many examples of .*; write fewer"),
    ("mesh.data=3", "data 3 x fsdp 1 x tensor 1 does not make 8 dev.*mesh.data=-1"),
    ("mesh.fsdp=3", "fsdp 3 .* does not make 8 devices; write sizes that divide 8"),
    ("mesh.fsdp=0", "mesh.fsdp=0: write 1 or more"),
    ("mesh.tensor=-1", "mesh.tensor=-1: only one axis can be the rest"),
]

REFUSED_TOKENIZERS = [
    ("data.size=1000000", "data: an example of .1000000, .* takes 4e.03 GB; write a"),
    (
        "model.encoder.channels=1000000000",
        "model has up to .* parameters, more than 1.1e.12; write smaller widths",
    ),
    ("data.size=9", "data.size=9 is no multiple .* factor 2; write data.size=10"),
    (
        "data.channels=3",
        "model.decoder.out=1 and the data's 3 channels differ; write model.d",
    ),
    (
        "losses.quantizer.commit=-1",
        "losses.quantizer.commit: write a number, at least 0 or Ramp",
    ),
    (
        "losses.quantizer.entropy=Ramp(0.1,0,0)",
        "losses.quantizer.entropy: Ramp.steps: write a whole number, at least 1",
    ),
    (
        "losses.quantizer.comit=0.5",
        "losses.quantizer.comit=0.5: the quantizer has no loss of that name; "
        "did you mean commit",
    ),
    ("losses.commit=0.5", "losses.commit is now losses.quantizer.commit"),
    ("losses.entropy_end=0", "losses.entropy_end is now .*'Ramp.START, END, STEPS.'"),
    ("losses.perceptual=nan", "losses.perceptual: write a number, at least 0"),
    ("losses.mel=1", "losses.mel=1.0 is for waveforms: .*; write losses.mel=0"),
    ("losses.stft=1", "losses.stft=1.0 is for waveforms"),
    ("losses.windows=(100,)", r"losses.windows=\(100,\): write multiples of 8"),
    ("losses.lpips=none.safetensors", "losses.lpips=.* is no file; .*python -c"),
    ("losses.features=runs/none", "losses.features=runs/none: .*no bundle"),
    (
        "kmeans=None",
        r"kmeans=None .*write kmeans=KMeansInit\(\), or model.quantizer.start=normal",
    ),
    (
        "kmeans.step=1000",
        "kmeans.step: write a whole number, at least 1 and below 1000",
    ),
    ("kmeans.step=0", "kmeans.step: write a whole number, at least 1, not 0"),
    ("kmeans.samples=8", "kmeans.samples: write a whole number, at least 16"),
    ("model.decoder.dims=3 model.encoder.dims=3", "data, image of "),
    ("model.encoder.attention=(True,)", "model: "),
]

AGAINST = "adversarial=Adversarial(discriminator=PatchDiscriminator(8,1{})"
REFUSED_TOKENIZERS += [
    (AGAINST.format(f"){more}"), f"adversarial.*{message}")
    for more, message in [
        (",start=1000", "start: write a whole number, at least 0 and below 1000"),
        (",ramp=-1", "ramp: write a whole number, at least 0"),
        (",lecam=-1", "lecam: write a number, at least 0"),
        (",last='encoder/conv_out'", "last=.* no such parameter; did you mean deco"),
        (
            ",start=900,optimizer=AdamW(schedule='cosine',warmup=100)",
            "optimizer.warmup=100 .* run.steps=1000 after adversarial.start=900; "
            "write a warm-up below 100",
        ),
        (
            ",optimizer=AdamW(b1=1)",
            "AdamW.b1: write a number, at least 0 and below 1",
        ),
    ]
]
REFUSED_TOKENIZERS += [
    (AGAINST.format(",dims=3)"), "adversarial.discriminator: .*dims=3"),
    (
        "adversarial=Adversarial(discriminator=ConvEncoder(8,(1,1)))",
        "adversarial.discriminator=ConvEncoder.* is no discriminator; write .*Patch",
    ),
]

REFUSED_DITS = [
    ("bars=('fid is small',)", "bars: 'fid is small'; write such as"),
    (
        "model.block.heads=5",
        "model.block.heads=5 .* model.width=32; write model.block.heads=4",
    ),
    ("model.depth=0", "model.depth: write a whole number, at least 1"),
    ("model.intervals=True", "model.intervals=True takes two .*intervals=False"),
    ("model.classes=-1", "model.classes: write a whole number, at least 0"),
    ("label_dropout=1.5", "label_dropout: write a number, at least 0 and at most 1"),
    ("mesh.tensor=8", "mesh.tensor=8 does not divide model.block.heads=4"),
    ("mesh.data=1 mesh.fsdp=-1 model.width=36", "mesh.fsdp=8 .* model.width=36"),
    ("streams={}", "streams is empty; write streams="),
    (
        "mixture=Mixture((Case(),Case(given=('imge',))))",
        "mixture: cases.1.given: there is no stream 'imge'; did you mean image",
    ),
    (
        "mixture=Mixture((Case(parts={'word':Prefix()}),))",
        "mixture: cases.0.parts: there is no stream 'word'; there are image, text",
    ),
    (
        "mixture=Mixture((Case(given=('image',),absent=('text',)),))",
        "mixture: cases.0: every stream is given or absent, so nothing is noised",
    ),
    ("streams.image.shape=(4,-4,4)", "streams.image: shape=.4, -4, 4.: .*at least 1"),
    (
        "streams.text.tokenizer=Byte(6)",
        r"Byte is no dataclass .*; did you mean Bytes",
    ),
    ("streams.image.weight=0 streams.text.weight=0", "streams: every weight is 0"),
    ("streams={'label': Stream()}", "streams.label: a stream's name is a word"),
    ("streams={'a/b': Stream()}", "streams.a/b: a stream's name is a word"),
    ("streams.image.tokenizer=None", "write --config.streams.image.tokenizer=DIR"),
    (
        "streams.image.process=Masking()",
        "streams.image: without a tokenizer, write .*books., codes",
    ),
    ("streams.text.process=Gaussian()", r"streams.text: codes=32, .*Masking\(\)"),
    (
        "streams.text.process.vocab=64",
        "streams.text: .* Masking.vocab 64 is not the stream's vocab 32",
    ),
    ("streams.text.patch=2", "streams.text: patch=2: every place of codes is a token"),
    ("streams.image.patch=3", "streams.image: .*patch=3: does not divide the grid"),
    ("streams.text.solver=Heun()", "streams.text.solver: .*Heun is a solver for Gaus"),
    ("streams.image.weight=-1", "streams.image.weight: write a number, at least 0"),
    ("streams.image.shape=(4,)", "streams.image: shape=.4,.: write the grid, and last"),
    ("streams.text.tokenizer=Bytes(7)", "grid is .7,., and .6,. is written"),
    (
        "streams.image.tokenizer=Labels(3)",
        r"streams.image: Labels has codes and no latents; .*Masking\(\)",
    ),
    ("data={'image': Images()}", "data.text is absent; write data of every stream"),
    (
        "data={'image': Images(), 'text': Images(), 'txt': Images()}",
        "data.txt: there is no such stream; did you mean text",
    ),
    ("model.positions=rotary model.block.heads=32", "model: "),
    (
        "model.width=10000000 model.depth=1000",
        "model has up to .* parameters, more than 1.1e.12; write smaller widths",
    ),
]


CASES = [
    pytest.param(experiment, changes, message, id=f"{experiment.name}-{changes}")
    for experiment, more in ((TOKENIZER, REFUSED_TOKENIZERS), (JOINT, REFUSED_DITS))
    for changes, message in REFUSED + more
]


@pytest.mark.parametrize("experiment, changes, message", CASES)
def test_a_broken_relation_names_the_field_and_the_remedy(experiment, changes, message):
    texts = [change.partition("=")[::2] for change in _words(changes)]
    with pytest.raises(BadInput, match=message) as caught:
        changed = overrides(experiment, dict(texts))
        validate(changed, 8)
        open_start(changed)
    assert "\n" not in str(caught.value)


def _words(changes):
    """At spaces, unless within brackets."""
    words, depth = [""], 0
    for letter in changes:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == " " and not depth:
            words.append("")
        else:
            words[-1] += letter
    return words


@pytest.mark.parametrize(
    "path, message",
    [
        ("streams.txt.patch", "does not exist; did you mean streams.text"),
        ("tokenizers.image", "is now streams.image.tokenizer"),
        ("processes.text.vocab", "is now streams.text.process.vocab"),
        ("times.image", "is now streams.image.times"),
        ("tokenizers", "is now a field of each stream: streams.NAME"),
    ],
)
def test_a_path_of_a_stream_that_is_not_there_names_the_one_that_is(path, message):
    with pytest.raises(BadInput, match=message):
        overrides(JOINT, {path: "1"})


def test_a_program_of_one_set_asks_which():
    assert JOINT.one_data is JOINT.data
    data = {"image": JOINT.data, "text": JOINT.data}
    with pytest.raises(BadInput, match="one a stream, of image, text: write the one"):
        _ = dataclasses.replace(JOINT, data=data).one_data


def test_a_model_has_no_streams_of_its_own():
    model = JOINT.model.clone(streams=(Continuous("image", (4, 4), 4),))
    with pytest.raises(BadInput, match="model.streams follow from the experiment's"):
        validate(dataclasses.replace(JOINT, model=model), 8)


@pytest.mark.parametrize("data", [Series(length=256, channels=1), Ranges()])
def test_a_mask_of_the_signal_does_not_fit_behind_a_front_end(data):
    model = TOKENIZER.model.clone(front=LogMel(2000, 64, 32, bands=16))
    behind = dataclasses.replace(TOKENIZER, model=model, data=data)
    with pytest.raises(BadInput, match=rf"model.front=LogMel.* {data.kind} is marked"):
        validate(behind, 8)
    sound = dataclasses.replace(behind, data=Audio(rate=2000, length=256))
    validate(sound, 8)
    with pytest.raises(BadInput, match="stft=1.0 is for .* without a front end"):
        validate(replaced(sound, {"losses.stft": 1.0}), 8)


@pytest.mark.parametrize("data", [Series(threads=0), Ranges(threads=0), Audio()])
def test_masked_data_are_those_whose_batches_have_a_mask(data):
    small = dataclasses.replace(data, examples=8) if data.kind != "audio" else data
    assert ("known" in whole(small, train=False, count=1)) == data.masked


def test_types_of_a_config_file_are_checked_too():
    """No override has seen these values, and Python takes any."""
    optimizer = dataclasses.replace(TOKENIZER.optimizer, schedule="cosin")
    with pytest.raises(
        BadInput, match="optimizer.schedule: write one of constant, cos"
    ):
        validate(dataclasses.replace(TOKENIZER, optimizer=optimizer), 8)
    run = Run(steps=1000.0, batch=16)
    with pytest.raises(BadInput, match="run.steps: write a whole number, at least 1"):
        validate(dataclasses.replace(TOKENIZER, run=run), 8)
    with pytest.raises(BadInput, match="streams.image.tokenizer: write "):
        validate(replaced(JOINT, {"streams.image.tokenizer": 3}), 8)
    with pytest.raises(BadInput, match="kmeans: write KMeansInit"):
        validate(dataclasses.replace(TOKENIZER, kmeans=100), 8)


def test_a_program_that_reads_no_data_needs_no_tokenizers():
    joint = replaced(JOINT, {"streams.image.tokenizer": None})
    validate(joint, 8, tokenizers=False)
    with pytest.raises(BadInput, match="streams.image.tokenizer is absent"):
        validate(replaced(joint, {"streams.image.shape": ()}), 8, tokenizers=False)


def test_quantizers_that_wait_for_nothing_pass_whatever_kmeans_says():
    """So that an ablation of the quantizer changes one field."""
    validate(overrides(TOKENIZER, {"model.quantizer": "FSQ((5, 4))"}), 8)


def test_a_factor_needs_no_parameter_to_be_a_share_of():
    game = AGAINST.format("),adaptive=False,last='gone'").partition("=")[2]
    validate(overrides(TOKENIZER, {"adversarial": game}), 8)


def test_what_is_written_of_a_stream_may_be_what_its_tokenizer_says():
    texts = {"streams.text.tokenizer": "Bytes(6)", "streams.text.codes": "257"}
    texts["streams.image.process"] = "Gaussian(learned_variance=True)"
    validate(overrides(JOINT, texts), 8)
    # What the tokenizer alone says is known as early.
    texts |= {"streams.text.shape": "()", "streams.text.codes": "0"}
    with pytest.raises(BadInput, match="streams.text: patch=2: every place of codes"):
        validate(overrides(JOINT, texts | {"streams.text.patch": "2"}), 8)


def test_a_rate_that_never_falls_may_still_rise_at_the_end():
    validate(overrides(TOKENIZER, {"optimizer.warmup": "2000"}), 8)


@pytest.mark.parametrize(
    "mesh, sizes",
    [
        (Mesh(), (8, 1, 1)),
        (Mesh(fsdp=4), (2, 4, 1)),
        (Mesh(2, 2, 2), (2, 2, 2)),
        (Mesh(2, -1, 2), (2, 2, 2)),
        (Mesh(8, 1, -1), (8, 1, 1)),
    ],
)
def test_minus_one_is_what_is_left_of_the_devices(mesh, sizes):
    assert mesh.sizes(8) == sizes


def test_edm_trains_at_its_own_law_of_times():
    texts = {"streams.image.process": "EDM()", "streams.image.times": "LogNormal()"}
    chosen = overrides(JOINT, texts)
    validate(chosen, 8, tokenizers=False)
    assert type(chosen.streams["image"].times).__name__ == "LogNormal"


@dataclasses.dataclass(frozen=True)
class Late(TimeLaw):
    """Times of noise alone."""

    def __call__(self, key, batch):
        return jnp.ones(batch)


def test_times_are_of_any_law_and_of_nothing_else():
    chosen = replaced(JOINT, {"streams.image.times": Late()})
    validate(chosen, 8, tokenizers=False)
    written = r"write LogNormal\(...\), LogitNormal\(...\), Uniform\(...\), not Steps"
    with pytest.raises(BadInput, match=f"streams.image.times: {written}"):
        overrides(JOINT, {"streams.image.times": "Steps(3)"})


@pytest.mark.parametrize("path", ["runs/tok(1)", "./tok(1)", "runs/Bytes(3)"])
def test_a_folder_may_have_brackets_in_its_name(path):
    changed = overrides(JOINT, {"streams.image.tokenizer": path})
    validate(changed, 8)
    assert changed.streams["image"].tokenizer == path
