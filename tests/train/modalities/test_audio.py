import dataclasses
import json

import numpy as np
import pytest
import soundfile
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.proto import tf_example_pb2

from tests.train.fresh import batches, fresh
from train.errors import BadInput, Unreadable
from train.modalities.audio import Audio, played, window
from train.modalities.series import Series
from train.modalities.transforms.augment import SeriesAugment
from train.modalities.transforms.sound import AudioCleaning
from train.pipeline import open_examples, whole
from train.sources.split import held_out

RATE = 1000
PLAIN = AudioCleaning(dc=False, peak=None)


def at(root, name="folder", **fields) -> Audio:
    fields = {"rate": RATE, "length": 100, "clean": PLAIN, "threads": 1} | fields
    return Audio(name=name, data_dir=str(root), **fields)


def ramp(length, seed=1):
    return np.sin(np.arange(length) * 0.05 * seed) * 0.5


def write_folder(root, count=6):
    for i in range(count):
        path = root / "ab"[i % 2] / f"{i % 2}_{'xyz'[i % 3]}_{i}.wav"
        path.parent.mkdir(exist_ok=True, parents=True)
        soundfile.write(path, ramp(80 + 10 * i, i + 1), RATE, subtype="FLOAT")


def both(audio):
    return [fresh(audio, train) for train in (True, False)]


def test_the_embedded_tones_are_of_their_classes():
    audio = Audio(rate=2000, length=256)
    train, test = both(audio)
    batch = train.take(np.arange(len(train)))
    assert audio.shape == (256, 1) and batch["x"].shape == (96, 256, 1)
    assert batch["x"].dtype == np.float32 and batch["label"].dtype == np.int32
    assert np.abs(batch["x"]).max() == pytest.approx(0.9, abs=1e-5)
    assert (train.classes, len(test)) == (4, 32)
    again = fresh(Audio(rate=2000, length=256), True).take(np.array([3, 3, 0]))
    np.testing.assert_array_equal(again["x"], batch["x"][[3, 3, 0]])
    # The strongest frequency of a class lies in its third of an octave.
    spectrum = np.abs(np.fft.rfft(batch["x"][..., 0], 4096))
    pitch = spectrum.argmax(1) * 2000 / 4096
    for y, name in enumerate(train.class_names):
        ratio = np.log2(pitch[batch["label"] == y] / float(name.split()[0]))
        assert np.abs(ratio).max() < 0.2


def test_the_window_of_longer_and_shorter_recordings():
    x = np.arange(1.0, 9.0)
    np.testing.assert_array_equal(window(x, 4, 0.0), [1, 2, 3, 4])
    np.testing.assert_array_equal(window(x, 4, 0.5), [3, 4, 5, 6])
    np.testing.assert_array_equal(window(x, 4, 0.999), [5, 6, 7, 8])
    np.testing.assert_array_equal(window(x, 4, 0.999, shift=2), [7, 8, 0, 0])
    np.testing.assert_array_equal(window(x[:2], 4, 0.0), [1, 2, 0, 0])
    np.testing.assert_array_equal(window(x[:2], 4, 0.5), [0, 1, 2, 0])
    np.testing.assert_array_equal(window(x[:2], 4, 0.999), [0, 0, 1, 2])
    np.testing.assert_array_equal(window(x[:2], 4, 0.0, shift=-1), [0, 1, 2, 0])
    np.testing.assert_array_equal(window(x, 4, 0.0, shift=100), [0, 0, 0, 0])


def test_a_folder_gives_its_recordings_and_classes(tmp_path):
    write_folder(tmp_path)
    train, test = both(at(tmp_path, crop="start", holdout=0.4))
    assert len(train) + len(test) == 6 and min(len(train), len(test)) > 0
    assert train.class_names == test.class_names == ("a", "b")
    seen = {}
    for part in (train, test):
        batch = part.take(np.arange(len(part)))
        for x, y, file in zip(*batch.values(), part.source.files, strict=True):
            i = int(file.rsplit("_", 1)[1].removesuffix(".wav"))
            n = min(100, 80 + 10 * i)
            np.testing.assert_allclose(x[:n, 0], ramp(n, i + 1), atol=1e-6)
            assert not x[n:].any() and y == i % 2
            seen[i] = file
    assert len(seen) == 6


def test_findings_are_shares_of_the_recordings(tmp_path):
    write_folder(tmp_path)  # 80 to 130 samples
    soundfile.write(tmp_path / "a" / "silent.wav", np.zeros(100), RATE)
    findings = fresh(at(tmp_path, holdout=0), True).findings
    shares = {"shorter_share": 2 / 7, "longer_share": 3 / 7, "silent_share": 1 / 7}
    assert findings == {name: [pytest.approx(x)] for name, x in shares.items()}


def test_what_is_done_to_recordings_is_told(tmp_path, caplog):
    """What is not finite is no recording; level and length are asked for."""
    for i, (rate, channels) in enumerate([(RATE, 1), (RATE, 2), (2 * RATE, 1)]):
        x = np.repeat(ramp(400, 1 + i)[:, None], channels, 1) * 0.5 + 0.25 * (i == 0)
        soundfile.write(tmp_path / f"{i}.wav", x, rate, subtype="FLOAT")
    quiet = np.concatenate([np.zeros(200), np.resize([0.5, -0.5], 200)])
    soundfile.write(tmp_path / "3.wav", quiet, RATE, subtype="FLOAT")
    audio = at(tmp_path, holdout=0, clean=AudioCleaning(trim=40.0))
    fresh(audio, True)
    said = [record.getMessage() for record in caplog.records]
    assert said[:2] == [
        f"recordings of {2 * RATE} samples a second, brought to {RATE}: 1 of 4",
        "recordings of 2 channels, which are averaged: 1 of 4",
    ]
    offset, cut = said[2:]
    assert offset.startswith("means to 0.2") and offset.endswith("data.clean.dc=False")
    assert cut.startswith("silence at the ends of recordings is cut off, 1")
    caplog.clear()
    fresh(at(tmp_path, holdout="match:^1|^2", rate=RATE), False)
    assert not caplog.records  # the training part is told of


def test_recordings_that_stay_as_they_are_are_told_of_in_nothing(tmp_path, caplog):
    write_folder(tmp_path)
    fresh(at(tmp_path, holdout=0, clean=AudioCleaning(dc=False)), True)
    assert not caplog.records


def test_recordings_are_held_out_by_take_and_by_speaker(tmp_path):
    write_folder(tmp_path)
    train, test = both(at(tmp_path, holdout="takes:0-1"))
    assert sorted(test.source.files) == ["a/0_x_0.wav", "b/1_y_1.wav"]
    assert len(train) == 4
    train, test = both(at(tmp_path, holdout="speaker:z"))
    assert sorted(test.source.files) == ["a/0_z_2.wav", "b/1_z_5.wav"]
    assert not any("_z_" in file for file in train.source.files)
    names = ["a/0_theo_0", "a/0_theodora_1", "b/1_theo_2"]
    assert held_out(names, "speaker:theo").tolist() == [True, False, True]
    # A speaker and the first takes of the others; of paths, so folders may say it.
    train, test = both(at(tmp_path, holdout="match:_z_|^a/.*_[01]$"))
    assert sorted(test.source.files) == ["a/0_x_0.wav", "a/0_z_2.wav", "b/1_z_5.wav"]
    assert len(train) == 3


@pytest.mark.parametrize(
    "rule,said",
    [
        ("speaker:bob", "speakers are jane, theo"),
        ("takes:7", "holds out 0 of 3"),
        ("takes:x", "name:0.1, takes:0-4, speaker:NAME or match:REGEX"),
        ("voice:theo", "write a share"),
        ("match:bob", "holds out 0 of 3; the first is '1_theo_0.wav'"),
        ("match:", "holds out 3 of 3"),
        ("match:(", "no regular expression .* write for example match:_theo_"),
    ],
)
def test_rules_that_hold_nothing_out_are_refused(rule, said):
    names = ["1_theo_0.wav", "1_theo_1.wav", "2_jane_0.wav"]
    np.testing.assert_array_equal(held_out(names, "takes:0"), [True, False, True])
    with pytest.raises(BadInput, match=said):
        held_out(names, rule)
    if not rule.startswith("match"):
        with pytest.raises(BadInput, match="not named like"):
            held_out(["hello.wav"], rule)


def test_bad_files_are_skipped_counted_and_refused_above_a_share(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "a" / "0_x_9.wav").write_text("a text file under a false name\n")
    with pytest.raises(BadInput, match="1 of 7 .*0_x_9.wav: is a text file"):
        fresh(at(tmp_path, holdout=0), True)
    sounds = fresh(at(tmp_path, holdout=0, bad_share=0.2), True)
    assert len(sounds) == 6 and sounds.found == 7
    assert [file for file, _ in sounds.refused] == ["a/0_x_9.wav"]


def test_folders_that_hold_nothing_are_refused(tmp_path):
    with pytest.raises(BadInput, match="holds nothing to read"):
        fresh(at(tmp_path), True)
    with pytest.raises(BadInput, match="data_dir is empty"):
        fresh(Audio(name="folder"), True)
    (tmp_path / "one.wav").write_text("words")
    with pytest.raises(BadInput, match="one.wav: is a text file"):
        fresh(at(tmp_path, holdout=0), True)


def test_other_rates_are_resampled(tmp_path):
    t = np.arange(400) / 4000
    soundfile.write(tmp_path / "x.wav", np.sin(2 * np.pi * 50 * t), 4000)
    sounds = fresh(at(tmp_path, holdout=0), True)
    assert [len(each.values) for each in sounds.source] == [100]
    found = sounds.take(np.array([0]))["x"][0, :, 0]
    expected = np.sin(2 * np.pi * 50 * np.arange(100) / RATE)
    np.testing.assert_allclose(found[10:-10], expected[10:-10], atol=0.01)


def test_arrays(tmp_path):
    x = (np.stack([ramp(120, i) for i in range(1, 9)]) * 32768).astype(np.int16)
    label = np.arange(8) % 3
    np.savez(tmp_path / "x.npz", audio=x, label=label, rate=np.array(RATE))
    train, test = both(at(tmp_path / "x.npz", "npz", crop="start"))
    assert len(train) + len(test) == 8 and train.classes == 3
    whole_set = fresh(at(tmp_path / "x.npz", "npz", crop="start", holdout=0), True)
    batch = whole_set.take(np.arange(8))
    np.testing.assert_allclose(batch["x"][..., 0], x[:, :100] / 32768, atol=1e-7)
    np.testing.assert_array_equal(batch["label"], label)
    both_ears = np.stack([x / 32768, 0 * x], -1)  # which are averaged
    np.savez(tmp_path / "stereo.npz", audio=both_ears, rate=np.array(RATE))
    stereo = fresh(at(tmp_path / "stereo.npz", "npz", crop="start", holdout=0), True)
    np.testing.assert_allclose(stereo.take(np.arange(8))["x"], batch["x"] / 2)
    rows = lambda array: Audio().signals_in({"audio": array})
    loudest = np.full((2, 9), -128.0)
    assert rows(loudest) is loudest
    for other, said in (
        (loudest - 0.5, "beyond 128; write"),
        (x.astype(np.int32), "is int32 .8, 120.; write"),
        (np.zeros((1, 2, 3, 4)), r"is float64 .1, 2, 3, 4.; write"),
    ):
        with pytest.raises(Unreadable, match=said):
            rows(other)
    np.savez(tmp_path / "bad.npz", audio=x.astype(np.float32) * np.nan)
    with pytest.raises(BadInput, match="no finite numbers"):
        fresh(at(tmp_path / "bad.npz", "npz", holdout=0), True).take(np.array([0]))
    np.savez(tmp_path / "none.npz", sound=x)
    with pytest.raises(BadInput, match="np.savez"):
        fresh(at(tmp_path / "none.npz", "npz"), True)
    with pytest.raises(BadInput, match="no names"):
        fresh(at(tmp_path / "x.npz", "npz", holdout="takes:0"), True)


def write_set(folder, recordings, dtype="int64"):
    """A prepared set as spoken_digit is: (samples, label, file name) each."""
    folder.mkdir(parents=True)
    path = folder / "toys-train.array_record-00000-of-00001"
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for x, label, name in recordings:
        message = tf_example_pb2.Example()
        feature = message.features.feature
        feature["audio"].int64_list.value.extend(x)
        feature["label"].int64_list.value.append(label)
        feature["audio/filename"].bytes_list.value.append(name.encode())
        writer.write(message.SerializeToString())
    writer.close()
    kind = "tensorflow_datasets.core.features"
    sound = {"sampleRate": str(RATE), "dtype": dtype, "shape": {"dimensions": ["-1"]}}
    features = {
        "audio": {"pythonClassName": f"{kind}.audio_feature.Audio", "audio": sound},
        "label": {
            "pythonClassName": f"{kind}.class_label_feature.ClassLabel",
            "classLabel": {"numClasses": "2"},
        },
        "audio/filename": {"pythonClassName": f"{kind}.text_feature.Text"},
    }
    tree = {"featuresDict": {"features": features}}
    (folder / "features.json").write_text(json.dumps(tree))
    split = {"name": "train", "shardLengths": [str(len(recordings))]}
    (folder / "dataset_info.json").write_text(
        json.dumps({"fileFormat": "array_record", "splits": [split]})
    )


def test_a_prepared_set_is_read_without_tensorflow(tmp_path):
    sounds = [
        (np.full(50 + 20 * i, 1000 * (i + 1)), i % 2, f"{i % 2}_{'st'[i // 2]}_{i}.wav")
        for i in range(4)
    ]
    write_set(tmp_path / "toys" / "1.0.0", sounds)
    audio = at(tmp_path, "toys", holdout="takes:0-1", crop="start")
    train, test = both(audio)
    assert (len(train), len(test), train.class_names) == (2, 2, ("0", "1"))
    batch = test.take(np.arange(2))
    np.testing.assert_array_equal(batch["label"], [0, 1])
    np.testing.assert_allclose(batch["x"][1, :70, 0], 2000 / 32768, atol=1e-7)
    assert not batch["x"][1, 70:].any()
    by_speaker = fresh(at(tmp_path, "toys", holdout="speaker:t", crop="start"), False)
    assert [len(each.values) for each in by_speaker.source] == [90, 110]
    assert by_speaker.keys == ["0_t_2", "1_t_3"]  # its own, not the set's first
    by_share = both(at(tmp_path, "toys", holdout=0.5))
    assert sum(map(len, by_share)) == 4
    # Parts that are named are these, and nothing is divided.
    slices = {"train_split": "train[:75%]", "test_split": "train[75%:]"}
    named = both(at(tmp_path, "toys", **slices))
    assert [each.keys for each in named] == [["0_s_0", "1_s_1", "0_t_2"], ["1_t_3"]]
    for split in ("train_split", "test_split"):
        with pytest.raises(BadInput, match=f"no data.{split}='valid'"):
            fresh(at(tmp_path, "toys", **{split: "valid"}), split == "train_split")
    with pytest.raises(BadInput, match="not prepared"):
        fresh(at(tmp_path, "absent"), True)


def test_augmentation_is_a_function_of_seed_epoch_and_index(tmp_path):
    augment = SeriesAugment(shift=20, gain=6.0, noise=0.01)
    write_folder(tmp_path)  # of other lengths, so that the window can slide
    audio = at(tmp_path, crop="random", augment=augment, holdout=0)
    sounds = fresh(audio, True)
    index, epochs = np.array([4, 1, 4]), np.array([0, 0, 1])
    first = sounds.augmented(index, epochs, 7)["x"]
    assert first.dtype == np.float32 and first.shape == (3, 100, 1)
    again = fresh(Audio(**vars(audio)), True).augmented(index[::-1], epochs[::-1], 7)
    np.testing.assert_array_equal(again["x"][::-1], first)
    assert np.abs(first[0] - first[2]).max() > 0.01, "another epoch, another draw"
    other = sounds.augmented(index, epochs, 8)["x"]
    assert np.abs(other - first).max() > 0.01, "another seed, another draw"


def test_shifts_move_the_window_both_ways():
    plain = fresh(Audio(rate=RATE, length=128), True).take(np.arange(40))["x"]
    shifted = Audio(rate=RATE, length=128, augment=SeriesAugment(shift=3))
    sounds = fresh(shifted, True).augmented(np.arange(40), np.zeros(40, int), 0)["x"]
    moves = []
    for x, y in zip(plain[..., 0], sounds[..., 0], strict=True):
        padded = np.pad(x, 3)
        same = [m for m in range(-3, 4) if (padded[3 + m : 131 + m] == y).all()]
        moves += same
    assert len(moves) == 40 and set(moves) == set(range(-3, 4))


def test_a_pace_moves_pitch_and_length_alike(tmp_path):
    tone = np.sin(2 * np.pi * 100 * np.arange(500) / RATE)  # of half a second
    for i in range(64):
        soundfile.write(tmp_path / f"{i}.wav", tone, RATE, subtype="FLOAT")
    paced = SeriesAugment(pace=0.25)
    train, test = both(at(tmp_path, length=1000, augment=paced, holdout=0.25))
    count = len(train)
    x = train.augmented(np.arange(count), np.zeros(count, int), 0)["x"][..., 0]
    pitch = np.abs(np.fft.rfft(x)).argmax(1)  # in Hz, of an example of a second
    assert 79 <= pitch.min() < 85 and 118 < pitch.max() <= 126
    ends = np.array([np.flatnonzero(np.abs(each) > 0.1)[[0, -1]] for each in x])
    np.testing.assert_allclose(np.ptp(ends, axis=1), 500 * 100 / pitch, atol=10)
    np.testing.assert_allclose(ends.mean(1), 499.5, atol=8)  # in the middle, as it was
    # Held-out recordings are played as they are.
    held = test.take(np.arange(len(test)))["x"][..., 0]
    assert (np.abs(np.fft.rfft(held)).argmax(1) == 100).all()
    with pytest.raises(BadInput, match="series have no pace"):
        Series(length=32, augment=paced)


def test_batches_are_float32_with_labels():
    audio = Audio(rate=RATE, length=64, threads=0)
    batch = next(batches(audio, train=True, batch=8, seed=0))
    assert batch["x"].shape == (8, 64, 1) and batch["x"].dtype == np.float32
    assert whole(audio, train=False)["x"].shape == (32, 64, 1)


@pytest.mark.parametrize(
    "fields,said",
    [
        ({"rate": 0}, "data.rate"),
        ({"length": 0}, "data.length"),
        ({"crop": "middle"}, "data.crop"),
        ({"holdout": 1.5}, "data.holdout"),
        ({"holdout": "takes:0"}, "tones have no names"),
        ({"name": ""}, "data.name"),
    ],
)
def test_fields_that_cannot_be_are_refused(fields, said):
    with pytest.raises(BadInput, match=said):
        Audio(**fields)


def test_noise_lies_over_the_whole_example_at_its_ratio(tmp_path):
    """And is the same in training as in evaluation, in any epoch and any batch."""
    rng = np.random.default_rng(0)
    x = (0.3 * rng.standard_normal((4, 2000))).astype(np.float32)
    np.savez(tmp_path / "train.npz", audio=x, rate=8000)
    np.savez(tmp_path / "test.npz", audio=x, rate=8000)
    plain = Audio(name="npz", data_dir=str(tmp_path), length=8000, rate=8000)
    noisy = dataclasses.replace(plain, snr=10.0)
    clean = open_examples(plain, True).take(np.arange(4))["x"]
    held = open_examples(noisy, True)
    found = held.take(np.arange(4))["x"]
    noise = (found - clean)[..., 0]
    heard = clean[:, 3000:5000, 0]
    ratio = 10 * np.log10((heard**2).mean(1) / (noise**2).mean(1))
    np.testing.assert_allclose(ratio, 10.0, atol=0.3)
    np.testing.assert_allclose(
        noise[:, :3000].std(1), noise[:, 3000:5000].std(1), rtol=0.1
    )
    assert abs(np.corrcoef(noise)[np.triu_indices(4, 1)]).max() < 0.06
    again = held.augmented(np.array([2, 1]), np.array([5, 9]), 3)["x"]
    np.testing.assert_array_equal(again, found[[2, 1]])


def test_twice_the_pace_is_half_the_length_and_twice_the_pitch():
    tone = np.sin(2 * np.pi * 50 * np.arange(400) / RATE)[:, None]
    fast = played(tone, 2.0)
    assert fast.shape == (200, 1)
    assert np.abs(np.fft.rfft(fast[:, 0])).argmax() * RATE / 200 == 100
