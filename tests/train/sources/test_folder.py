import dataclasses
import json
import logging
import os
import threading

import numpy as np
import pytest
from PIL import Image

from tests.train.fresh import forget
from train.errors import BadInput
from train.modalities import Images, Series, Video, Volumes
from train.pipeline import open_examples
from train.sources import folder, open_source
from train.sources import source as sources
from train.sources.entries import listing
from train.sources.split import name_draw


def draw(path, value: int, size: int = 4):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size), value, np.uint8)).save(path)


def at(path, **fields) -> Images:
    return Images(name="folder", data_dir=str(path), size=4, **fields)


def values(source) -> list[int]:
    return [int(source[i].values[0, 0, 0]) for i in range(len(source))]


def everything(images: Images) -> dict[int, dict]:
    sources = [open_source(images, part) for part in (True, False)]
    return {
        int(e.values[0, 0, 0]): e
        for s in sources
        for e in (s[i] for i in range(len(s)))
    }


def test_classes_come_from_sorted_sub_folders_nested_or_not(tmp_path, monkeypatch):
    """Each folder is looked through once, for both parts: one may hold a million."""
    for i in range(12):
        draw(tmp_path / ("zebra", "ant", "bee/deep")[i % 3] / f"{i}.png", i)
    (tmp_path / "ant" / "notes.md").write_text("not a picture")
    (tmp_path / "ant" / "._0.png").write_bytes(b"a file manager's litter")
    scan, seen = os.scandir, []
    monkeypatch.setattr(
        os, "scandir", lambda path: seen.append(str(path)) or scan(path)
    )
    examples = everything(at(tmp_path))
    seen.sort()
    names = ("ant", "bee", "bee/deep", "zebra")
    assert seen[-4:] == [f"{tmp_path}/{name}" for name in names]
    assert set(seen[:-4]) == {str(tmp_path)}
    assert sorted(examples) == list(range(12))
    assert all(e.label == (2, 0, 1)[i % 3] for i, e in examples.items())
    assert "caption" not in examples[0].more
    source = open_source(at(tmp_path), True)
    assert (source.classes, source.class_names) == (3, ("ant", "bee", "zebra"))


def test_the_split_follows_the_name_not_the_neighbours(tmp_path):
    for i in range(30):
        draw(tmp_path / f"{i}.png", i)
    forget()
    before = values(open_source(at(tmp_path), False))
    for i in range(30, 60):
        draw(tmp_path / f"{i}.png", i)
    forget()
    after = values(open_source(at(tmp_path), False))
    assert 0 < len(before) < 30
    assert sorted(v for v in after if v < 30) == sorted(before)


def test_captions_beside_the_images(tmp_path):
    for i in range(4):
        draw(tmp_path / f"{i}.png", i)
    # A name of two characters on a Mac, of one elsewhere.
    (tmp_path / "1.png").rename(tmp_path / "1u\u0308.png")
    caption = tmp_path / "1\u00fc.txt"
    caption.write_text(" ein grüner Käfer\n", encoding="utf-8")
    (tmp_path / "3.TXT").write_text("of a system of old")
    examples = everything(at(tmp_path))
    assert examples[1].more["caption"] == "ein grüner Käfer"
    assert examples[3].more["caption"] == "of a system of old"
    assert examples[2].more["caption"] == "" and examples[1].label == -1


def test_all_captions_are_told_without_decoding_or_read_by_threads(
    tmp_path, monkeypatch
):
    for i in range(40):
        draw(tmp_path / f"{i}.png", i)
        (tmp_path / f"{i}.txt").write_text(f"word {i}")
    forget()
    examples = open_examples(at(tmp_path, threads=2), True)
    source, reading = examples.source, set()
    take = source.take

    def watched(rows):
        reading.add(threading.current_thread())
        return take(rows)

    monkeypatch.setattr(source, "take", watched)
    told = examples.values("caption")
    assert not reading and len(told) == len(source) > 30
    monkeypatch.setattr(source, "told", lambda name: None)
    assert examples.values("caption") == told
    assert reading and threading.main_thread() not in reading
    assert examples.values("row") == [None] * len(told)


def test_a_caption_has_the_name_of_the_signal_without_its_suffix(tmp_path):
    """Of two suffixes, and of a folder of frames, which has none."""
    for i in range(3):
        for name in (f"a{i}.nii.gz", f"walk.v{i}/0.png"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        for name in (f"a{i}", f"walk.v{i}"):
            (tmp_path / f"{name}.txt").write_text(f"of {name}")
    for data in (Volumes("folder"), Video("folder")):
        entries = listing(tmp_path, data).entries
        assert entries and all(
            entry.caption == f"of {entry.file.removesuffix('.nii.gz')}"
            for entry in entries
        )


def test_a_manifest_gives_captions_and_labels(tmp_path):
    rows = [
        {"file": f"in/{i}.png", "caption": f"number {i}", "label": "ba"[i % 2]}
        for i in range(6)
    ]
    for i in range(6):
        draw(tmp_path / "in" / f"{i}.png", i)
    draw(tmp_path / "in" / "unlisted.png", 99)
    (tmp_path / "list.jsonl").write_text("\n\n".join(map(json.dumps, rows)) + "\n")
    examples = everything(at(tmp_path))
    assert sorted(examples) == list(range(6))
    assert examples[3].more["caption"] == "number 3" and examples[3].label == 0
    # The names other tools use, and labels that are indices.
    rows = [{"file_name": f"in/{i}.png", "text": "x", "label": i} for i in range(6)]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    forget()
    examples = everything(at(tmp_path))
    assert all(e.label == i and e.more["caption"] == "x" for i, e in examples.items())
    assert open_source(at(tmp_path), True).classes == 6


@pytest.mark.parametrize("name", ["captions.csv", "metadata.csv"])
def test_a_table_gives_captions_and_labels(tmp_path, name, caplog):
    for i in range(4):
        draw(tmp_path / f"{i}.png", i)
    draw(tmp_path / "more" / "unlisted.png", 99)
    rows = "".join(f'./{i}.png,"a, ""{i}""\nü",{12 - i}\n' for i in range(3))
    table = tmp_path / name
    table.write_text("\ufefffile_name,text,label\n" + rows, encoding="utf-8")
    source = open_source(at(tmp_path, holdout=0.0), True)
    assert values(source) == [0, 1, 2] and source.classes == 13
    assert [e.label for e in source] == [12, 11, 10]
    assert source[1].more["caption"] == 'a, "1"\nü'
    assert f"left out 2 .png that {name} does not list" in caplog.text
    table.write_text("file,label\n0.png,cat 10\n1.png,cat 9\n")
    forget()
    source = open_source(at(tmp_path, holdout=0.0), True)
    assert source.class_names == ("cat 9", "cat 10") and source[0].label == 1
    table.write_text('file, caption, label\n0.png, "a, b", cat\n1.png, c, dog\n')
    forget()
    source = open_source(at(tmp_path, holdout=0.0), True)
    assert [each.more["caption"] for each in source] == ["a, b", "c"]
    assert source.class_names == ("cat", "dog")
    table.write_text("file,label,\n0.png,a,row 1\n1.png,b,row 2\n")  # an index
    forget()
    source = open_source(at(tmp_path, holdout=0.0), True)
    assert "" not in source[0].more and len(source) == 2
    # As spreadsheets write it where a comma stands for the point.
    table.write_text("file;caption\n0.png;a, b\n1.png;c\n")
    forget()
    source = open_source(at(tmp_path, holdout=0.0), True)
    assert [each.more["caption"] for each in source] == ["a, b", "c"]
    table.write_text("picture,label\n0.png,a\n")
    forget()
    said = f"{name} line 2: write 'file' as text; it has picture, label$"
    with pytest.raises(BadInput, match=said):
        open_source(at(tmp_path), True)
    table.write_text("file,caption\n0.png,a boat,\n1.png,a red, wooden boat\n")
    forget()  # an entry that is empty is lost to nobody
    with pytest.raises(BadInput, match=f"{name} line 3: more entries than columns; "):
        open_source(at(tmp_path), True)


def test_a_table_among_tables_is_a_signal(tmp_path):
    for name in ("metadata.csv", "a.csv"):
        (tmp_path / name).write_text("x\n" + "1\n" * 20)
    data = Series("folder", str(tmp_path), length=10, channels=1, holdout=0.0)
    assert open_source(data, True).files == ["a.csv", "metadata.csv"]


@pytest.mark.parametrize(
    "lines,message",
    [
        (['{"file": "0.png"}', '{"file": '], "line 2: not JSON"),
        (['["0.png"]'], "line 1: write"),
        (['{"caption": "x"}'], "line 1: write 'file' as text; it has caption"),
        ([r'{"\ud800": 1}'], r"line 1: write 'file' as text; it has \\ud800"),
        (
            ['{"file": "0.png", "label": 1}', "", '{"file": "1.png"}'],
            "line 3: no label",
        ),
        (['{"file": "0.png", "label": -1}'], "label"),
        (['{"file": "0.png", "label": "a"}', '{"file": "1.png", "label": 1}'], "label"),
        ([], "holds nothing to read"),
    ],
)
def test_a_bad_manifest_line_is_named(tmp_path, lines, message):
    draw(tmp_path / "0.png", 0)
    draw(tmp_path / "1.png", 1)
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    with pytest.raises(BadInput, match=message) as caught:
        open_source(at(tmp_path), True)
    assert "\n" not in str(caught.value)


def test_named_sub_folders_are_the_parts_and_share_class_numbers(tmp_path):
    for i, name in enumerate(["train/a", "train/b", "train/c", "test/a", "test/c"]):
        draw(tmp_path / name / "x.png", i)
    train, test = (open_source(at(tmp_path), part) for part in (True, False))
    assert values(train) == [0, 1, 2] and values(test) == [3, 4]
    assert [test[i].label for i in range(2)] == [0, 2]
    assert test.classes == 3
    draw(tmp_path / "test/d/x.png", 9)
    forget()
    with pytest.raises(BadInput, match="label 'd' is outside .*; .*train.score"):
        open_source(at(tmp_path), False)


def test_damaged_files_are_named_skipped_and_counted_up_to_the_share(tmp_path, caplog):
    for i in range(20):
        draw(tmp_path / f"{i:02d}.png", i)
    whole = (tmp_path / "03.png").read_bytes()
    (tmp_path / "03.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "07.png").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        examples = everything(at(tmp_path, bad_share=0.1))
    assert sorted(examples) == [i for i in range(20) if i not in (3, 7)]
    assert "03.png" in caplog.text and "07.png" in caplog.text
    assert "skipped 2 of 20" in caplog.text
    parts = [open_source(at(tmp_path, bad_share=0.1), part) for part in (True, False)]
    refused = dict(sum((part.refused for part in parts), ()))
    assert refused.keys() == {"03.png", "07.png"} and all(refused.values())
    assert sum(part.found for part in parts) == 20
    with pytest.raises(BadInput, match="2 of 20 .*data.bad_share=0.05: 03.png: .*07"):
        open_source(at(tmp_path, bad_share=0.05), True)


def test_a_part_of_damaged_files_alone_is_said_to_be_one(tmp_path):
    """Few of the folder: "1 of 1, more than data.bad_share" told nobody which."""
    names = [f"{i}.png" for i in range(9)]
    for i, name in enumerate(names):
        draw(tmp_path / name, i)
    first = min(names, key=name_draw)
    (tmp_path / first).write_bytes(b"")
    images = at(tmp_path, holdout=name_draw(first) + 1e-9, bad_share=0.5)
    assert len(open_source(images, True)) == 8
    with pytest.raises(BadInput, match=f"no file of one part.*{first}.*data.holdout"):
        open_source(images, False)


def test_files_missing_from_a_manifest_count_as_unreadable(tmp_path):
    draw(tmp_path / "0.png", 0)
    (tmp_path / "list.jsonl").write_text('{"file": "0.png"}\n{"file": "gone.png"}')
    with pytest.raises(BadInput, match="1 of 2 .*gone.png: No such file"):
        open_source(at(tmp_path), True)


def test_damage_met_while_reading_is_replaced_by_the_next_then_refused(
    tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(sources, "KEPT_BYTES", 0)
    for i in range(10):
        draw(tmp_path / f"{i}.png", i)
    source = open_source(at(tmp_path, holdout=0, bad_share=0.2), True)
    for i in (4, 5, 9):
        (tmp_path / f"{i}.png").write_bytes(b"damaged since it was opened")
    assert int(source[4].values[0, 0, 0]) == 6  # two bad in a row
    assert int(source[4].values[0, 0, 0]) == 6  # counted once
    assert caplog.text.count("4.png") == 1
    with pytest.raises(BadInput, match="3 of 10"):
        source[9]


def test_after_the_last_file_the_first_stands_in(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "KEPT_BYTES", 0)
    for i in range(5):
        draw(tmp_path / f"{i}.png", i)
    source = open_source(at(tmp_path, holdout=0, bad_share=0.2), True)
    (tmp_path / "4.png").write_bytes(b"damaged since it was opened")
    assert values(source) == [0, 1, 2, 3, 0]


def test_what_stands_in_is_of_the_same_class(tmp_path, caplog, monkeypatch):
    """By its class others were chosen to go with it; and what may not be left out is
    refused however often it is asked for."""
    monkeypatch.setattr(sources, "KEPT_BYTES", 0)
    for i in range(6):
        draw(tmp_path / "ab"[i >= 3] / f"{i}.png", i)
    source = open_source(at(tmp_path, holdout=0, bad_share=0.9), True)
    strict = open_source(at(tmp_path, holdout=0, bad_share=0.0), True)
    for i in (2, 3):
        (tmp_path / "ab"[i >= 3] / f"{i}.png").write_bytes(b"damaged since then")
    assert values(source) == [0, 1, 0, 4, 4, 5]
    assert [source[row].label for row in range(6)] == [0, 0, 0, 1, 1, 1]
    for _ in range(2):
        with pytest.raises(BadInput, match="1 of 6 files unreadable"):
            strict[2]
    for i in (0, 1):
        (tmp_path / "a" / f"{i}.png").write_bytes(b"damaged since then")
    with pytest.raises(BadInput, match="nothing of class a can be read"):
        source[0]


def test_a_large_folder_is_judged_by_a_selection(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "CHECKED", 5)
    for i in range(10):
        draw(tmp_path / f"{i}.png", i)
    for i in (1, 2):  # one of the selection 0, 2, 4, 6, 8 and one beside it
        (tmp_path / f"{i}.png").write_bytes(b"")
    source = open_source(at(tmp_path, holdout=0, bad_share=0.3), True)
    assert values(source) == [0, 3, 3, 4, 5, 6, 7, 8, 9]


def test_folders_that_cannot_be_used_are_refused_in_one_line(tmp_path):
    with pytest.raises(BadInput, match="data.data_dir is empty"):
        open_source(Images(name="folder"), True)
    with pytest.raises(BadInput, match="no such folder"):
        open_source(at(tmp_path / "gone"), True)
    with pytest.raises(BadInput, match="holds nothing to read"):
        open_source(at(tmp_path), True)
    draw(tmp_path / "0.png", 0)
    forget()
    with pytest.raises(BadInput, match="cannot be divided"):
        open_source(at(tmp_path), True)
    draw(tmp_path / "cat" / "1.png", 0)
    forget()
    with pytest.raises(BadInput, match="0.png lies beside class folders"):
        open_source(at(tmp_path), True)
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text("{}")
    forget()
    with pytest.raises(BadInput, match="several manifests .a.jsonl, b.jsonl."):
        open_source(at(tmp_path), True)


def test_linked_folders_and_files_are_followed_each_once(tmp_path, caplog):
    for i in range(8):
        draw(tmp_path / "store" / "cat" / f"{i}.png", i)
        draw(tmp_path / "set" / "dog" / f"{i}.png", 10 + i)
    root = tmp_path / "set"
    (root / "cat").symlink_to(tmp_path / "store" / "cat")
    (root / "dog" / "again").symlink_to(root)
    (tmp_path / "store" / "cat" / "more").symlink_to(root / "dog")
    draw(tmp_path / "elsewhere.png", 20)
    (root / "dog" / "x.png").symlink_to(tmp_path / "elsewhere.png")
    (root / "dog" / "y.png").symlink_to(tmp_path / "gone.png")
    data = at(root, bad_share=0.1)
    examples = everything(data)
    assert sorted(examples) == [*range(8), *range(10, 18), 20]
    assert all(each.label == (value >= 10) for value, each in examples.items())
    assert "left out 2 links to a folder that is there" in caplog.text
    assert "y.png: No such file" in caplog.text


def test_other_files_are_counted_by_suffix(tmp_path, caplog):
    for i in range(6):
        draw(tmp_path / "cat" / f"{i}.png", i)
        (tmp_path / "cat" / f"{i}.HEIC").write_bytes(b"x")
        (tmp_path / "cat" / f"{i}.txt").write_text("a caption")
    Image.new("L", (4, 4), 77).save(tmp_path / "cat" / "a.jfif", "JPEG")
    Image.new("L", (4, 4), 99).save(tmp_path / "cat" / "a.avif")
    (tmp_path / "cat" / "LICENSE").write_text("free")
    examples = everything(at(tmp_path))
    assert len(examples) == 8
    assert "left out 6 .heic, 1 without a suffix" in caplog.text
    source = open_source(at(tmp_path), True)
    assert source.left_out == {".heic": 6, "without a suffix": 1}
    with pytest.raises(BadInput, match="nothing to read but 6 .heic, 6 .png"):
        open_source(Volumes("folder", str(tmp_path)), True)


def test_classes_are_in_the_order_of_their_numbers(tmp_path):
    for i in range(12):
        draw(tmp_path / "set" / str(i) / "x.png", i)
        draw(tmp_path / "set" / str(i) / "y.png", 20 + i)
    data = at(tmp_path / "set")
    assert open_source(data, True).class_names == tuple(map(str, range(12)))
    assert open_source(data, True).order == "0 1 2 3 4 5 6 7 8 9 10 11"
    assert all(e.label == value % 20 for value, e in everything(data).items())
    rows = [{"file": f"{i}/x.png", "label": f"c{i}"} for i in range(12)]
    (tmp_path / "set" / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    forget()
    source = open_source(data, True)
    assert source.class_names == tuple(f"c{i}" for i in range(12))
    assert source.order == " ".join(source.class_names)
    rows = [{"file": f"{i}/x.png", "label": i} for i in range(12)]
    (tmp_path / "set" / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    forget()
    assert open_source(data, True).order == ""  # as ever


def test_classes_whose_order_never_changed_have_none_to_compare(tmp_path):
    """A run whose checkpoints hold no order of classes goes on."""
    for name in ("cat", "dog"):
        for i in range(4):
            draw(tmp_path / name / f"{i}.png", i)
    source = open_source(at(tmp_path), True)
    assert source.class_names == ("cat", "dog") and source.order == ""


@pytest.mark.parametrize(
    "folders,said",
    [
        (["train/cat", "val/cat"], "write data.test_split=val"),
        (["Train", "Test"], "write data.train_split=Train data.test_split=Test"),
        (["train", "dev", "unlabelled"], "write data.test_split=dev"),
        (
            ["train2017", "val2017"],
            "train_split=train2017 data.test_split=val2017",
        ),
        (["train_images", "test_images"], "write data.train_split=train_images data."),
        (["Training Data", "Test Data"], "write data.train_split=Training Data data."),
        (["trainset", "holdout"], "data.train_split=trainset data.test_split=holdout"),
        (["trains", "tests"], None),  # things of which there are pictures
        (["train/cat", "train/dog"], "write data.data_dir=.*/train, of which"),
        (["cat", "train"], None),  # a class of vehicles
        (["bullet train", "freight train"], None),
        (["train", "test tube", "cat"], None),
        (["images_train", "images_val"], "images_train data.test_split=images_val"),
        (["train-clean-100", "dev-clean"], "=train-clean-100 data.test_split=dev-cl"),
        (["images/train", "images/val"], "/images data.test_split=val"),
        (
            ["a/train/x", "a/test/x", "b/train/x"],
            r"holdout='match:/\(test\)/', or .*/a$",
        ),
    ],
)
def test_parts_of_a_set_are_not_taken_for_classes(tmp_path, folders, said):
    for i, name in enumerate(folders * 4):
        draw(tmp_path / name / f"{i}.png", i)
    if said is None:
        assert open_source(at(tmp_path), True).classes == len(folders)
    else:
        with pytest.raises(BadInput, match=said):
            open_source(at(tmp_path), True)


def test_parts_that_a_rule_divides_are_told_as_the_classes_they_become(
    tmp_path, caplog
):
    for i in range(12):
        draw(tmp_path / ("train", "test")[i % 2] / "ab"[i % 3 == 0] / f"{i}.png", i)
    for part in (True, False):
        source = open_source(at(tmp_path, holdout="match:/[0-3]$"), part)
    assert source.class_names == ("test", "train")
    told = [x for x in caplog.messages if "train/ and test/, which are parts, are" in x]
    assert len(told) == 1


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"file": "a.png", "label": ' + 6000 * "9" + "}", "too long a number"),
        ("[" * 100_000, "too long a number, or nested too deep"),
        (r'{"file": "a\u0000.png"}', "file holds what is no character"),
        (
            r'{"file": "a.png", "caption": "\ud800"}',
            "caption holds what is no",
        ),
    ],
)
def test_a_line_that_no_reader_can_take_is_one_line(tmp_path, line, message):
    draw(tmp_path / "a.png", 0)
    (tmp_path / "metadata.jsonl").write_text(line)
    with pytest.raises(BadInput, match=f"metadata.jsonl line 1: {message}"):
        open_source(at(tmp_path), True)


def test_a_label_of_very_many_digits_is_a_name(tmp_path):
    for i in range(4):
        draw(tmp_path / f"{i}.png", i)
    rows = "".join(f"{i}.png,{i % 2}{5000 * '7'}\n" for i in range(4))
    (tmp_path / "captions.csv").write_text("file,label\n" + rows)
    assert open_source(at(tmp_path), True).classes == 2


def test_a_part_that_is_named_and_not_there(tmp_path):
    for name in ("train", "cat"):
        draw(tmp_path / name / "0.png", 0)
    with pytest.raises(BadInput, match="data.test_split=held: .* no held/"):
        open_source(at(tmp_path, test_split="held"), True)


def test_class_names_that_are_no_text_are_escaped(tmp_path):
    for i in range(4):
        draw(tmp_path / os.fsdecode(b"caf\xe9") / f"{i}.png", i)
    assert open_source(at(tmp_path), True).class_names == ("caf\\xe9",)
    assert sorted(everything(at(tmp_path))) == [0, 1, 2, 3]


def test_a_file_of_another_size_is_other_data(tmp_path):
    """By which statistics of before are told from those of what is there now, and what
    has moved from others. A link to nothing has none, and may be found only later."""
    data, found = at(tmp_path, holdout=0), []
    draw(tmp_path / "1.png", 1)
    for size in (4, 40, 4):
        draw(tmp_path / "0.png", 0, size)
        forget()
        part = open_source(data, True)
        found.append((part.identity, part.mark))
    assert found[0] == found[2]
    assert not {*found[0]} & {*found[1]}
    (tmp_path / "0.png").unlink()
    (tmp_path / "0.png").symlink_to("nothing")
    assert "0.png -1" in part.identity


def test_files_of_the_same_sizes_with_other_values_have_another_mark(tmp_path):
    """A run must not go on with a folder of recordings that were filtered, say."""
    marks = []
    for place, value in (("a", 0.5), ("b", 0.4999), ("c", 0.5)):
        (tmp_path / place).mkdir()
        for i in range(3):
            np.savez(tmp_path / place / f"{i}.npz", x=np.full((20, 1), value))
        place = str(tmp_path / place)
        data = Series("folder", place, length=10, channels=1, holdout=0.0)
        marks += [open_source(data, True).mark]
    assert marks[0] == marks[2] != marks[1]


@pytest.mark.parametrize("captions", [None, "captions.csv", "beside"])
def test_data_are_known_at_another_path_by_their_mark(tmp_path, captions):
    """Not where a caption, a class or a name is another."""
    marks = []
    for place, word in (("a", "x"), ("b/c", "x"), ("d", "y")):
        for i in range(2):
            name = word if captions is None else "x"
            draw(tmp_path / place / name / f"{i}.png", i)
            if captions == "beside":
                (tmp_path / place / name / f"{i}.txt").write_text(word)
        if captions == "captions.csv":
            text = f"file,caption\nx/0.png,{word}\nx/1.png,{word}\n"
            (tmp_path / place / captions).write_text(text)
        data = at(tmp_path / place, holdout=0)
        marks += [open_source(data, True).mark]
        half = dataclasses.replace(data, share=0.5)
        assert open_source(half, True).mark == marks[-1]
    assert marks[0] == marks[1] != marks[2]
