"""How much memory a file may take, whatever kind it is."""

import gzip
import io
import tarfile

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
from PIL import Image, ImageOps

from tests.train.fresh import fresh_source
from train.errors import BadInput, Unreadable
from train.modalities import Audio, Images, Ranges, Series, Tables, Video, Volumes
from train.modalities.files import limits
from train.modalities.files.limits import OWN, check_decoded, room
from train.modalities.files.pictures import bands, opaque, read_picture
from train.modalities.files.recordings import read_recording
from train.sources.rows import Rows

GIB = 2**30


@pytest.mark.parametrize(
    "decoded,stored",
    [
        (3600 * 44_100 * 2 * 4, 200e6),  # an hour of stereo, as FLAC
        (3600 * 48_000 * 4, 3600 * 1000),  # of speech at 8 kbps
        (4 * 512 * 512 * 2900, 1.5e9),  # a scan of 1.5 GB
        (4 * 512 * 512 * 2900, 300e6),  # packed
        (4 * 10**8, 10_000),  # a white page of 100 megapixels
        (4 * 2 * 10**8, 20e6),  # a photograph of 200
    ],
)
def test_large_signals_of_files_that_bear_them_out_are_read(decoded, stored):
    check_decoded(decoded, stored)


def test_sets_may_be_larger_than_a_signal(monkeypatch):
    assert room(10**6) == GIB // 2 and room(10**7) == 2e9 and room(10**9) == 8 * GIB
    assert room(10**9, alone=False) == 2e11
    assert room(10**6, growth=limits.FILM) == 1.5e9  # eight seconds of 1080p
    for size, stored in ((2 * GIB, 10**6), (9 * GIB, 10**9), (10**400, 10**9)):
        with pytest.raises(Unreadable, match=OWN):
            check_decoded(size, stored)
    monkeypatch.setenv(OWN, "4")
    check_decoded(4e9, 1)
    with pytest.raises(Unreadable, match=f"set {OWN}=4.1 if"):
        check_decoded(4.01e9, 1)
    for wrong in ("0", "-1", "nan", "x"):
        monkeypatch.setenv(OWN, wrong)
        with pytest.raises(BadInput, match=f"{OWN}={wrong}: write gigabytes"):
            room(1)


def made(folder):
    """A file of each kind, what reads it, and bytes that it takes."""
    picture = Image.new("RGB", (40, 30))
    picture.save(folder / "a.png")
    shades = [Image.new("L", (40, 30), 9 * i) for i in range(5)]
    shades[0].save(folder / "a.gif", save_all=True, append_images=shades[1:])
    for i, shade in enumerate(shades):
        (folder / "clip").mkdir(exist_ok=True)
        shade.save(folder / "clip" / f"{i}.png")
    soundfile.write(folder / "a.wav", np.zeros((1000, 2)), 8000, "PCM_16")
    np.savez(folder / "a.npz", volume=np.ones((4, 5, 6), np.uint8), other=np.ones(9999))
    np.save(folder / "b.npy", np.ones((4, 50)))
    np.savez(folder / "s.npz", a=np.ones((100, 3), np.float32))
    table = pyarrow.table({"a": np.ones(100), "b": np.ones(100), "w": ["xy"] * 100})
    pyarrow.parquet.write_table(table, folder / "a.parquet")
    (folder / "a.csv").write_text("a,b\n" + "1,2\n" * 400)
    (folder / "b.csv").write_text(",".join("abcdefgh") + "\n" + "1," * 7 + "1\n")
    series = Series("folder", channels=1, columns=("a",), length=2)
    wide = Series("folder", channels=8, length=2)
    clip = Video("folder", size=8)
    return [
        ("a.png", Images("folder").read, 4 * 1200),
        ("a.gif", Images("folder").read, 4 * 1200),
        ("a.gif", clip.read, 3 * 5 * 1200),
        ("clip", clip.read, 4 * 1200 + 1200),
        ("a.wav", Audio("folder").read, 4 * 2000),
        ("a.npz", Volumes("folder").read, 4 * 120),
        ("b.npy", Ranges("folder").read, 8 * 200),
        ("s.npz", Series("folder", channels=3).read, 8 * 300),
        ("a.parquet", series.load, 8 * 100 + 500),
        ("a.parquet", lambda path: Rows(Tables(), path), 100 * 3 * 32 + 1000),
        ("a.csv", lambda path: Rows(Tables(), path), 400 * 2 * 32),
        ("b.csv", wide.read, 7 * 10_000),
    ]


def test_every_reader_asks_before_it_decodes(tmp_path, monkeypatch):
    """What is a little more than may be is refused, and a little less is read."""
    monkeypatch.setattr(limits, "GROWTH", 0)
    for name, read, size in made(tmp_path):
        if name != "clip":  # whose frames are decoded one by one
            monkeypatch.setattr(limits, "FREE", 0.5 * size)
            with pytest.raises((Unreadable, BadInput), match=OWN):
                read(tmp_path / name)
        else:  # and count all together
            monkeypatch.setattr(limits, "FREE", 4.5 * 1200)
            with pytest.raises(Unreadable, match="cut it into shorter ones"):
                read(tmp_path / name)
        monkeypatch.setattr(limits, "FREE", 1.5 * size)
        read(tmp_path / name)


def test_members_of_shards_are_asked_too(tmp_path, monkeypatch):
    file = io.BytesIO()
    Image.new("RGB", (400, 300)).save(file, "png")
    with tarfile.open(tmp_path / "train.tar", "w") as tar:
        for i in range(4):
            info = tarfile.TarInfo(f"{i}.png")
            info.size = len(file.getvalue())
            tar.addfile(info, io.BytesIO(file.getvalue()))
    data = Images("webdataset", str(tmp_path), holdout=0.0)
    monkeypatch.setattr(limits, "FREE", 400_000)
    with pytest.raises(BadInput, match=f"0.png: takes 480 kB .*set {OWN}=0.1"):
        fresh_source(data, True)


def test_what_follows_a_packed_scan_is_not_unpacked(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    path = tmp_path / "a.nii.gz"
    scan = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    nibabel.save(nibabel.Nifti1Image(scan, np.eye(4)), path)
    whole = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(whole + bytes(10**7)))
    found = Volumes("folder").read(path).values
    np.testing.assert_array_equal(found[..., 0], scan.swapaxes(0, 2))
    broken = bytearray(gzip.compress(whole))
    broken[-8] ^= 1
    path.write_bytes(broken)
    with pytest.raises(Unreadable, match="not a whole NIfTI"):
        Volumes("folder").read(path)


def test_columns_that_are_not_asked_for_are_not_read(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    table = {"t": np.arange(100.0), "a": np.ones(100), "w": ["x" * 10**4] * 100}
    pyarrow.parquet.write_table(pyarrow.table(table), path)
    monkeypatch.setattr(limits, "FREE", 10**5)
    monkeypatch.setattr(limits, "GROWTH", 0)
    one = Series("folder", channels=1, columns=("a",), time="t", rate=1.0, length=8)
    assert one.load(path).values.shape == (100, 1)
    with pytest.raises(Unreadable, match="choose columns"):
        Series("folder", channels=2, columns=("a", "w")).load(path)


@pytest.mark.parametrize(
    "columns,why",
    [
        ([("a", [])], "has no rows"),
        ([("a", [1]), ("a", [2])], "has 2 columns named 'a'"),
        ([("b", [1])], "has no column 'a', only b"),
        (
            [("a", [[1, 2]]), ("b", [1])],
            "not numbers or words; choose with",
        ),
    ],
)
def test_parquet_files_that_are_no_tables_of_it(tmp_path, columns, why):
    path = tmp_path / "a.parquet"
    names, arrays = zip(*columns, strict=True)
    arrays = list(map(pyarrow.array, arrays))
    pyarrow.parquet.write_table(pyarrow.table(arrays, names=names), path)
    with pytest.raises(Unreadable, match=why):
        Series("folder", channels=1, columns=("a",)).load(path)


@pytest.mark.parametrize("ordered", [False, True])
def test_categories_of_a_parquet_file_are_words(tmp_path, ordered):
    path, words = tmp_path / "a.parquet", ["b", None, "a", "b"]
    kind = pyarrow.dictionary(pyarrow.int8(), pyarrow.string(), ordered)
    table = pyarrow.table({"a": pyarrow.array(words).cast(kind), "b": [1, 2, 3, 4]})
    pyarrow.parquet.write_table(table, path)
    assert [each.more["row"]["a"] for each in Rows(Tables(), path)] == words


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "CMYK"])
def test_bands_are_the_picture(mode, monkeypatch):
    draw = np.random.default_rng(0)
    noise = draw.integers(0, 256, (33, 7, 4), np.uint8)
    picture = Image.fromarray(noise).convert(mode)
    want = picture.mode if mode in ("L", "LA", "RGBA") else "RGB"
    whole = np.asarray(picture.convert(want)).reshape(33, 7, -1)
    laid = opaque(whole)
    monkeypatch.setattr("train.modalities.files.pictures.BAND", 20)
    np.testing.assert_array_equal(bands(picture, want), whole)
    np.testing.assert_array_equal(opaque(whole), laid)


@pytest.mark.parametrize("turn", range(1, 9))
def test_pictures_are_turned_as_pillow_turns_them(turn):
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = turn
    noise = np.random.default_rng(turn).integers(0, 256, (5, 7, 3), np.uint8)
    Image.fromarray(noise).save(file, "png", exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(file)))
    np.testing.assert_array_equal(read_picture(file.getvalue()).pixels, upright)


def test_a_recording_is_read_beside_columns_that_are_no_numbers(tmp_path):
    """Those that are chosen, and their times; the others are named, and not read."""
    path = tmp_path / "a.parquet"
    columns = {"time": np.arange(9.0), "a": np.ones(9), "tags": [["x"]] * 9}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    values, rate, _, others = read_recording(path, ("a",), "", 1)
    assert values.tolist() == [[1.0]] * 9 and rate == 1.0
    assert others == ["tags"]
    with pytest.raises(Unreadable, match="no column 'b', only time, a, tags"):
        read_recording(path, ("b",), "", 1)


def test_a_film_of_a_few_large_frames_is_read(tmp_path):
    """4096 x 2160, of which a decoder holds some: a file of kilobytes."""
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 4096, 2160, "yuv420p"
        for _ in range(2):
            frame = av.VideoFrame(4096, 2160, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    assert (tmp_path / "a.mp4").stat().st_size < 2e5
    clip = Video("folder", size=8).read(tmp_path / "a.mp4")
    assert clip.values.shape[1:] == (2160, 4096, 3)
