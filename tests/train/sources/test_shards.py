import dataclasses
import io
import json
import logging
import tarfile

import numpy as np
import pytest
import soundfile
from PIL import Image

from tests.train.fresh import forget, fresh_source
from train.errors import BadInput
from train.modalities import Audio, Images, Ranges, Series, Video, Volumes
from train.modalities.files.arrays import npz
from train.modalities.files.clips import even, write_gif, write_mp4
from train.sources import open_source
from train.sources import source as sources
from train.sources.shards import expanded


def picture(value: int, **how) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4), value, np.uint8)).save(file, "png", **how)
    return file.getvalue()


def shard(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            content = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def samples(low: int, high: int):
    for i in range(low, high):
        yield f"{i}.png", picture(i)
        yield f"{i}.cls", f"{i % 3}\n"


def at(path, **fields) -> Images:
    fields = {"size": 4, "holdout": 0.0} | fields
    return Images(name="webdataset", data_dir=str(path), **fields)


def values(source) -> list[int]:
    return [int(record.values[0, 0, 0]) for record in source]


def test_samples_are_in_the_order_of_shards_and_of_what_they_hold(tmp_path):
    for n in (10, 2):
        shard(tmp_path / f"x-{n}.tar", samples(n, n + 4))
    source = open_source(at(tmp_path), True)
    assert values(source) == [2, 3, 4, 5, 10, 11, 12, 13]
    assert source.class_names == ("0", "1", "2") and source.classes == 3
    assert [record.label for record in source] == [2, 0, 1, 2, 1, 2, 0, 1]
    assert [source[i].values[0, 0, 0] for i in (6, 0)] == [12, 2]
    assert source.files[0] == "x-2.tar/2.png"
    patterns = ("x-{2,10}.tar", "x-*.tar", "x-2.tar::{dir}/x-10.tar")
    for pattern in patterns:
        pattern = pattern.replace("{dir}", str(tmp_path))
        forget()
        assert values(open_source(at(tmp_path / pattern), True)) == values(source)
    assert values(open_source(at(tmp_path / "x-10.tar"), True)) == [10, 11, 12, 13]


def test_patterns_may_be_of_several_folders(tmp_path, monkeypatch):
    for i in range(2):
        shard(tmp_path / f"{i}" / "x.tar", samples(i, i + 1))
    monkeypatch.chdir(tmp_path)
    source = open_source(at(f"{tmp_path}/0/x.tar::1/x.tar"), True)
    assert source.files == ["0/x.tar/0.png", "1/x.tar/1.png"]


@pytest.mark.parametrize(
    "label,classes", [("[1, 2]", 0), ("2.5", 0), ("NaN", 0), ("3.0", 4), ('""', 0)]
)
def test_labels_of_json(tmp_path, label, classes):
    members = [("1.png", picture(1)), ("1.json", f'{{"label": {label}}}')]
    shard(tmp_path / "a.tar", [*members, ("1.cls", "\n")])
    assert open_source(at(tmp_path), True).classes == classes


def test_members_that_are_not_read_are_counted(tmp_path):
    """Of those of one name the last one is read, as tar unpacks them."""
    sparse = tarfile.TarInfo("3.png")
    sparse.type = tarfile.GNUTYPE_SPARSE
    before = [("1.png", picture(9)), ("1.cls", "8")]
    path = shard(tmp_path / "a.tar", [*samples(0, 1), *before, *samples(1, 3)])
    with tarfile.open(path, "a") as tar:
        tar.addfile(sparse)
    source = open_source(at(tmp_path), True)
    assert values(source) == [0, 1, 2] and source.labels.tolist() == [0, 1, 2]
    assert source.left_out == {
        ".png that another of its name replaces": 1,
        ".cls that another of its name replaces": 1,
        ".png that tar stored as sparse": 1,
    }


def test_a_file_of_two_names_is_read_by_both_and_other_links_are_counted(tmp_path):
    """tar stores the second of two hard links as one to the first."""
    path = shard(tmp_path / "a.tar", samples(0, 3))
    with tarfile.open(path, "a") as tar:
        for name, kind, to in (
            ("3.png", tarfile.LNKTYPE, "1.png"),
            ("3.cls", tarfile.LNKTYPE, "2.cls"),
            ("4.png", tarfile.SYMTYPE, "1.png"),
            ("5.png", tarfile.LNKTYPE, "gone.png"),
            ("folder", tarfile.DIRTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, to
            tar.addfile(member)
    source = open_source(at(tmp_path, holdout=0.0), True)
    assert values(source) == [0, 1, 2, 1] and source.labels.tolist() == [0, 1, 2, 2]
    assert source.left_out == {".png that is a link, device or pipe": 2}


def test_files_beside_shards_are_counted_by_suffix(tmp_path, caplog):
    shard(tmp_path / "0.tar", samples(0, 3))
    for name in ("1.tgz", "2.tgz", "3.tar.gz", "set.json"):
        (tmp_path / name).write_bytes(b"x")
    with caplog.at_level(logging.WARNING):
        assert len(open_source(at(tmp_path, holdout=0.0), True)) == 3
    assert "left out 2 .tgz, 1 .gz, 1 .json" in caplog.text


def test_braces_stand_for_what_they_do_in_a_shell():
    assert expanded("a{08..10}b{x,y}") == [
        f"a{i}b{x}" for i in ("08", "09", "10") for x in "xy"
    ]
    assert expanded("plain") == ["plain"] and expanded("a::b{1..1}") == ["a", "b1"]
    with pytest.raises(BadInput, match=r"\{5\.\.2\} names no shards"):
        expanded("{5..2}")


def test_extensions_may_be_of_large_letters(tmp_path):
    members = [("1.PNG", picture(1)), ("1.CLS", "3"), ("1.TXT", "A b"), ("1.Txt2", "")]
    shard(tmp_path / "a.tar", [*members, ("1.DEPTH.PNG", picture(9))])
    source = open_source(at(tmp_path), True)
    assert values(source) == [1] and source[0].label == 3
    assert source[0].more["caption"] == "A b"
    assert source.left_out == {".png": 1, ".txt2": 1}


def test_classes_may_be_names(tmp_path):
    members = [
        *(("a/1.x.png", picture(1)), ("a/1.x.cls", "no class, since that is 1.cls")),
        *(("a/1.cls", "dog"), ("./b/1.png", picture(2)), ("./b/1.cls", "cat 2\n")),
        *(("3.png", picture(3)), ("3.json", json.dumps({"label": "cat 10"}))),
    ]
    source = open_source(at(shard(tmp_path / "a.tar", members)), True)
    assert source.class_names == ("cat 2", "cat 10", "dog")
    assert [e.label for e in source] == [2, 0, 1] and values(source) == [1, 2, 3]
    assert source.files == ["a.tar/a/1.x.png", "a.tar/b/1.png", "a.tar/3.png"]
    assert source.left_out == {".cls": 1} and source.order == ""


def test_captions(tmp_path):
    members = [
        *(("1.png", picture(1)), ("1.txt", " ein grüner Käfer\n")),
        *(("2.png", picture(2)), ("2.json", json.dumps({"caption": "c", "label": 7}))),
        *(("3.png", picture(3)), ("3.json", "[broken"), ("3.depth.png", picture(9))),
        *((".hidden.png", b""), ("5.txt", "alone"), ("6.xyz", b"z"), ("3.xyz", b"")),
    ]
    path = shard(tmp_path / "a.tar", members)
    with pytest.raises(BadInput, match=r"1.png: no label, though others have one"):
        open_source(at(path), True)
    none = {"caption": None}  # is none, as in the lines of a manifest
    members[3] = (
        "2.json",
        json.dumps({"text": "c", "label": [[1, 2], "boxes"]} | none),
    )
    shard(path, members)
    source = fresh_source(at(path), True)
    assert [e.more["caption"] for e in source] == ["ein grüner Käfer", "c", ""]
    assert source.classes == 0 and values(source) == [1, 2, 3]
    assert source.left_out == {".xyz": 2, ".txt": 1, ".png": 1}
    shard(path, [*members, ("3.jpg", picture(3))])
    with pytest.raises(BadInput, match="3 holds png and jpg; keep one image a sample"):
        fresh_source(at(path), True)
    shard(path, [("1.png", picture(1)), ("1.txt", b"\xff\xfe\xfa")])
    with pytest.raises(BadInput, match=r"1\.txt: not UTF-8 text"):
        fresh_source(at(path), True)


def test_words_in_the_names_of_shards_are_the_parts(tmp_path, caplog):
    for i, name in enumerate(["set-train-0", "set-train-1", "set-test-0", "more"]):
        shard(tmp_path / f"{name}.tar", samples(4 * i, 4 * i + 4))
    data = at(tmp_path, holdout=0.2)
    assert values(open_source(data, True)) == list(range(8))
    assert values(open_source(data, False)) == list(range(8, 12))
    assert "in neither part: more.tar" in caplog.text
    # Folders have such names, too, and a split may be a pattern.
    for split in ("train", "test"):
        shard(tmp_path / split / "0.tar", samples(0, 4))
    pattern = tmp_path / "t*" / "*.tar"
    assert values(open_source(at(pattern), False)) == list(range(4))
    for split in ("train", "test"):
        (tmp_path / split / "0.tar").unlink()
    named = at(tmp_path, train_split="set-t*-{0..1}.tar", test_split="more.tar")
    assert values(open_source(named, True)) == [*range(8, 12), *range(8)]
    assert values(open_source(named, False)) == list(range(12, 16))
    (tmp_path / "set-test-0.tar").rename(tmp_path / "set-val-0.tar")
    with pytest.raises(BadInput, match="write data.test_split=val"):
        fresh_source(data, True)
    with pytest.raises(BadInput, match="data.test_split='tset': no shard of .* is of"):
        fresh_source(at(tmp_path, test_split="tset"), True)
    one = at(tmp_path, train_split="val", test_split="val", holdout=0.5)
    parts = [values(open_source(one, part)) for part in (True, False)]
    assert sorted(sum(parts, [])) == list(range(8, 12)) and all(parts)


def test_a_class_of_the_test_shards_alone_is_refused(tmp_path):
    shard(tmp_path / "train.tar", samples(0, 2))
    shard(tmp_path / "test.tar", samples(0, 3))
    with pytest.raises(BadInput, match="label '2' is outside the classes"):
        open_source(at(tmp_path), False)


def test_broken_shards_are_one_line_and_what_lies_before_is_read(tmp_path, caplog):
    whole = shard(tmp_path / "0.tar", samples(0, 4)).read_bytes()
    damaged = bytearray(whole)
    damaged[4 * 1024 : 4 * 1024 + 512] = b"x" * 512  # the header of the third sample
    for damage, said in (
        (whole[: 3 * 1024 + 700], "unexpected end of data"),
        (bytes(damaged), "is damaged at byte 4096"),
        (b"no tar at all" * 100, "is no whole tar file"),
        (b"", "is no whole tar file"),
    ):
        (tmp_path / "1.tar").write_bytes(damage)
        with pytest.raises(BadInput, match=f"1 of 2 shards broken.*1.tar.*{said}") as e:
            fresh_source(at(tmp_path), True)
        assert "\n" not in str(e.value)
    (tmp_path / "1.tar").write_bytes(bytes(damaged))
    with caplog.at_level(logging.WARNING):
        source = fresh_source(at(tmp_path, bad_share=0.5), True)
    assert values(source) == [0, 1, 2, 3, 0, 1]
    assert "1.tar is damaged at byte 4096: what lies before is read" in caplog.text


def test_damaged_members_are_judged_as_files_are(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "KEPT_BYTES", 0)
    members = dict(samples(0, 10))
    members["3.png"] = b"no picture"
    path = shard(tmp_path / "a.tar", members.items())
    with pytest.raises(BadInput, match="1 of 10 files unreadable.*a.tar/3.png"):
        open_source(at(path), True)
    source = open_source(at(path, bad_share=0.3), True)
    assert values(source) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert source.found == 10 and source.refused[0][0] == "a.tar/3.png"
    path.write_bytes(path.read_bytes()[: 9 * 2048])  # the last one is gone since
    assert values(source) == [0, 1, 2, 4, 5, 6, 7, 8, 0]


def test_other_samples_of_the_same_names_are_other_data(tmp_path):
    members, found = dict(samples(0, 3)), []
    for more in (b"", b"", b" "):
        members["1.png"] += more
        path = shard(tmp_path / "a.tar", members.items())
        found.append(fresh_source(at(path), True).identity)
    assert found[0] == found[1] != found[2]


def test_a_file_that_is_there_is_no_pattern(tmp_path):
    path = shard(tmp_path / "trip [2020].tar", samples(0, 3))
    assert values(open_source(at(path, holdout=0.0), True)) == [0, 1, 2]


@pytest.mark.parametrize(
    "where,said",
    [
        ("", "data.data_dir is empty"),
        ("gone", "no such file"),
        ("{0..3}.tar", r"no such file .*/3\.tar"),
        ("empty", r"holds no \.tar shard"),
        ("packed", r"packed holds 0\.tar\.gz; gunzip it"),
        ("other.tar", "holds nothing to read but 1 .xyz"),
    ],
)
def test_what_are_no_shards_is_refused(tmp_path, where, said):
    (tmp_path / "empty").mkdir()
    shard(tmp_path / "packed" / "0.tar.gz", samples(0, 2))
    shard(tmp_path / "other.tar", [("a.xyz", b"")])
    for i in range(3):
        shard(tmp_path / f"{i}.tar", samples(0, 2))
    with pytest.raises(BadInput, match=said) as caught:
        open_source(at(tmp_path / where) if where else at(""), True)
    assert "\n" not in str(caught.value)


def test_a_folder_of_shards_says_what_reads_them(tmp_path):
    shard(tmp_path / "0.tar", samples(0, 2))
    with pytest.raises(BadInput, match=r"but 1 \.tar; write data\.name=webdataset or"):
        open_source(Images(name="folder", data_dir=str(tmp_path)), True)


def test_pictures_are_upright_and_opaque(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    lying, clear = io.BytesIO(), io.BytesIO()
    half = np.zeros((4, 4, 3), np.uint8)
    half[:, :2] = 255
    Image.fromarray(half).save(lying, "png", exif=exif)
    Image.fromarray(np.zeros((4, 4, 4), np.uint8)).save(clear, "png")
    members = [("0.png", lying.getvalue()), ("1.png", clear.getvalue())]
    source = open_source(at(shard(tmp_path / "a.tar", members)), True)
    assert (source[0].values[:2] == 255).all() and not source[0].values[2:].any()
    assert (source[1].values == 255).all()


def test_every_kind_of_signal_is_read_out_of_shards(tmp_path):
    """As it is out of files."""
    sound = io.BytesIO()
    soundfile.write(sound, np.sin(np.arange(60)), 1000, format="WAV")
    frames = [np.full((16, 16, 3), 40 * i, np.uint8) for i in range(6)]
    points = np.ones((5, 4), "<f4")
    array = npz(values=np.cumsum(np.ones((20, 2)), 0))
    volume = npz(volume=np.arange(64, dtype=np.float32).reshape(4, 4, 4))
    for name, content, data in (
        ("a.wav", sound.getvalue(), Audio(rate=1000, length=50)),
        ("a.gif", write_gif(frames, even(6, 10)), Video(frames=4, size=16)),
        ("a.mp4", write_mp4(frames, even(6, 10)), Video(frames=4, size=16)),
        ("a.npz", array, Series(length=10, channels=2)),
        ("a.npz", volume, Volumes(size=(4, 4, 4))),
        ("a.bin", points.tobytes(), Ranges(rows=4, azimuth=8, elevation=(0.0, 90.0))),
    ):
        folder = tmp_path / f"{type(data).__name__}{name}"
        shard(folder / "shards" / "0.tar", [(name, content)])
        (folder / "files").mkdir()
        (folder / "files" / name).write_bytes(content)
        cut = []
        for source, where in (("webdataset", "shards"), ("folder", "files")):
            each = dataclasses.replace(
                data, name=source, data_dir=str(folder / where), holdout=0.0
            )
            record = fresh_source(each, True)[0]
            cut.append(each.cut([record], [next(iter(each.starts(record)))], None)["x"])
        np.testing.assert_array_equal(*cut)


def test_a_file_of_its_own_goes_before_what_json_says(tmp_path):
    said = json.dumps({"label": "cat", "caption": "in passing"})
    first = [("1.png", picture(1)), ("1.cls", "dog"), ("1.txt", "at length")]
    other = [("1.json", said), ("2.png", picture(2)), ("2.json", said)]
    shard(tmp_path / "a.tar", [*first, *other])
    source = open_source(at(tmp_path), True)
    assert [source.class_names[each.label] for each in source] == ["dog", "cat"]
    captions = [each.more["caption"] for each in source]
    assert captions == ["at length", "in passing"]


def test_a_label_that_is_a_number_of_something_else_is_refused(tmp_path):
    members = [("1.png", picture(1)), ("1.cls", "900000\n"), ("2.png", picture(2))]
    shard(tmp_path / "a.tar", [*members, ("2.cls", "3\n")])
    with pytest.raises(BadInput, match="label goes to 900000, and 2 values are diff"):
        open_source(at(tmp_path), True)
