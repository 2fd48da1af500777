import dataclasses
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.train.fresh import fresh
from train.errors import BadInput, Unreadable
from train.modalities import Images
from train.modalities.files.pictures import opaque, read_picture
from train.modalities.image import fit_square


def decode_picture(encoded):
    return read_picture(encoded).pixels


def encoded(picture: Image.Image, form: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def ramp(height: int, width: int, channels: int) -> np.ndarray:
    n = height * width * channels
    return (np.arange(n) * 37 % 251).astype(np.uint8).reshape(height, width, channels)


@pytest.mark.parametrize(
    "channels,mode", [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")]
)
def test_eight_bit_pictures_decode_to_their_own_bytes(channels, mode):
    pixels = ramp(5, 7, channels)
    picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    assert picture.mode == mode
    np.testing.assert_array_equal(decode_picture(encoded(picture)), pixels)


def test_sixteen_bit_grey_is_scaled_and_not_clipped():
    wide = np.array([[0, 257, 128 * 257, 65535, 1000]], np.uint16)
    pixels = decode_picture(encoded(Image.fromarray(wide)))
    np.testing.assert_array_equal(pixels[..., 0], [[0, 1, 128, 255, 4]])


def test_palettes_are_looked_up_and_their_transparency_kept():
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putpixel((1, 0), 1)
    np.testing.assert_array_equal(
        decode_picture(encoded(picture)), [[[10, 20, 30], [40, 50, 60]]]
    )
    seen = decode_picture(encoded(picture, transparency=0))
    np.testing.assert_array_equal(seen, [[[10, 20, 30, 0], [40, 50, 60, 255]]])


def test_bilevel_and_cmyk_pictures_become_grey_and_rgb():
    bits = decode_picture(encoded(Image.fromarray(np.array([[True, False]]))))
    np.testing.assert_array_equal(bits[..., 0], [[255, 0]])
    ink = decode_picture(encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "TIFF"))
    np.testing.assert_array_equal(ink[0, 0], [0, 255, 255])


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_pictures_are_upright(form):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter to the right
    how = {"lossless": True} if form == "WEBP" else {}
    data = encoded(Image.fromarray(ramp(4, 9, 3)), form, exif=exif, **how)
    np.testing.assert_array_equal(decode_picture(data), np.rot90(ramp(4, 9, 3), -1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_that_of_pillow(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(ramp(4, 9, 3)), "PNG", exif=exif)
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(decode_picture(data), wanted)


def test_what_is_clear_in_part_is_rounded_to_the_nearest():
    colour, alpha = np.mgrid[:256, :256]
    exact = 255 + (colour - 255) * alpha / 255
    found = opaque(np.stack([colour, alpha], -1).astype(np.uint8))[..., 0]
    np.testing.assert_array_equal(found, np.rint(exact))


@pytest.mark.parametrize("mode, said", [("LA", True), ("RGBA", True), ("RGB", False)])
def test_alpha_that_is_laid_on_white_is_told(mode, said):
    picture = Image.new(mode, (3, 2), (200, 90, 9, 9)[: len(mode)])
    whole = picture.copy()
    if said:
        whole.putalpha(255)
    dropped = lambda x: read_picture(encoded(x, "PNG")).more.get("dropped", ())
    assert dropped(picture) == ("its alpha, laid on white",) * said
    assert dropped(whole) == ()


def png(depth: int, colour: int, row: bytes, clear: bytes) -> bytes:
    """One row of 4 pixels, with a colour that is transparent."""

    def chunk(name, data):
        check = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", 4, 1, depth, colour, 0, 0, 0)
    parts = ((b"IHDR", head), (b"tRNS", clear), (b"IDAT", zlib.compress(b"\0" + row)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*p) for p in (*parts, (b"IEND", b"")))


@pytest.mark.parametrize(
    "data",
    [
        png(16, 0, struct.pack(">4H", 9, 4660, 9, 9), b"\x12\x34"),
        png(8, 0, bytes([9, 18, 9, 9]), b"\0\x12"),
        png(2, 0, b"\x1b", b"\0\1"),  # 0, 1, 2, 3
        png(1, 0, b"\x40", b"\0\1"),  # 0, 1, 0, 0
        png(
            16, 2, struct.pack(">12H", *[9] * 3, 4660, 0, 9, *[9] * 6),
            b"\x12\x34\0\0\0\x09",
        ),
    ],
    ids=["16-grey", "8-grey", "2-grey", "1-grey", "16-rgb"],
)  # fmt: skip
def test_a_transparent_colour_is_transparent_at_every_depth(data):
    assert decode_picture(data)[0, :, -1].tolist() == [255, 0, 255, 255]


def test_wide_integers_of_8_bit_values_are_8_bits():
    data = encoded(Image.fromarray(np.array([[0, 200]], np.int32)), "TIFF")
    assert decode_picture(data)[0, :, 0].tolist() == [0, 200]
    wide = b"P5 2 1 1023\n" + struct.pack(">2H", 1, 1023)
    assert decode_picture(wide)[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_a_truncated_picture_is_unreadable(form):
    random = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encoded(Image.fromarray(random), form)
    decode_picture(data)
    for kept in (0, 10, len(data) // 2, int(len(data) * 0.9)):
        with pytest.raises(Unreadable):
            decode_picture(data[:kept])


def test_floating_point_pixels_are_refused():
    with pytest.raises(Unreadable, match="range"):
        decode_picture(encoded(Image.new("F", (2, 2)), "TIFF"))


def test_a_picture_of_the_right_size_passes_unchanged():
    for channels in (1, 3):
        image = ramp(6, 6, channels)
        np.testing.assert_array_equal(fit_square(image, 6, channels), image)


@pytest.mark.parametrize("shape", [(6, 10), (10, 6)])
def test_the_crop_slides_over_every_place_of_the_longer_side(shape):
    image = ramp(*shape, 1)
    axis = int(shape[1] > shape[0])
    for place in range(5):
        crop = np.take(image, range(place, place + 6), axis)
        np.testing.assert_array_equal(fit_square(image, 6, 1, (place + 0.5) / 5), crop)
    np.testing.assert_array_equal(
        fit_square(image, 6, 1), fit_square(image, 6, 1, 2.5 / 5)
    )
    np.testing.assert_array_equal(
        fit_square(image, 6, 1, 0.999999), np.take(image, range(4, 10), axis)
    )


def test_a_random_crop_is_evaluated_at_the_centre(tmp_path):
    image = ramp(4, 9, 1)
    Image.fromarray(image[..., 0]).save(tmp_path / "a.png")
    how = {"size": 4, "channels": 1, "holdout": 0.0, "threads": 0}
    data = Images("folder", str(tmp_path), crop="random", **how)
    found = fresh(data, True).take(np.arange(1))["x"]
    np.testing.assert_array_equal(found[0], fit_square(image, 4, 1))


def test_fit_is_resizing_the_whole_and_then_cropping():
    image = np.random.default_rng(1).integers(0, 256, (40, 80, 3), np.uint8)
    small = Image.fromarray(image).resize((20, 10), Image.Resampling.BICUBIC)
    # 41 places of the crop before resizing; place 20 of them is column 5 after it.
    np.testing.assert_array_equal(fit_square(image, 10, 3), np.asarray(small)[:, 5:15])


def test_reducing_is_antialiased_and_enlarging_keeps_a_flat_picture():
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))[..., None]
    reduced = fit_square(stripes, 8, 1).astype(int)
    assert abs(reduced - 127.5).max() < 16  # plain decimation would give 0 or 255
    flat = np.full((3, 5, 1), 93, np.uint8)
    np.testing.assert_array_equal(fit_square(flat, 8, 1), np.full((8, 8, 1), 93))
    assert fit_square(np.zeros((1, 1, 3), np.uint8), 4, 3).shape == (4, 4, 3)


def test_an_extreme_aspect_ratio_costs_no_more_than_the_crop():
    assert fit_square(np.zeros((1, 100_000, 1), np.uint8), 256, 1).shape == (
        256,
        256,
        1,
    )


def test_grey_and_rgb_become_each_other_and_alpha_lies_on_white():
    grey = ramp(4, 4, 1)
    rgb = fit_square(grey, 4, 3)
    np.testing.assert_array_equal(rgb, np.repeat(grey, 3, -1))
    np.testing.assert_array_equal(fit_square(rgb, 4, 1), grey)
    luma = fit_square(np.array([[[255, 0, 0]]], np.uint8), 1, 1)
    np.testing.assert_array_equal(luma, [[[76]]])  # 0.299 * 255
    rgba = np.array([[[200, 100, 0, 255], [200, 100, 0, 0]]], np.uint8)
    np.testing.assert_array_equal(fit_square(rgba, 1, 3, 0.0), [[[200, 100, 0]]])
    np.testing.assert_array_equal(fit_square(rgba, 1, 3, 0.9), [[[255, 255, 255]]])
    half = np.array([[[0, 51]]], np.uint8)  # black at alpha 0.2
    np.testing.assert_array_equal(fit_square(half, 1, 1), [[[204]]])


@pytest.mark.parametrize(
    "field,value",
    [
        ("name", ""),
        ("size", 0),
        ("channels", 2),
        ("crop", "centre"),
        ("holdout", 1.0),
        ("bad_share", -0.1),
        ("threads", -1),
    ],
)
def test_a_field_out_of_range_is_named(field, value):
    with pytest.raises(BadInput, match=rf"^data\.{field}.*write"):
        Images(**{field: value})


def twelve_bit_tiff(values) -> bytes:
    """One row of grey in packed 12-bit samples, an even number of them."""
    packed = "".join(f"{value:012b}" for value in values)
    data = int(packed, 2).to_bytes(len(packed) // 8, "big")
    tags = {256: len(values), 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1}
    tags[279] = len(data)
    entries = [struct.pack("<HHIHH", tag, 3, 1, n, 0) for tag, n in tags.items()]
    count = struct.pack("<H", len(entries))
    head = b"II*\0" + struct.pack("<I", 8 + len(data))
    return head + data + count + b"".join(entries) + bytes(4)


def test_a_tiff_of_12_bits_is_white_where_they_are_all_set():
    """A PNG's sBIT does not say this: by its standard, samples fill the 16 bits."""
    pixels = decode_picture(twelve_bit_tiff([0, 1, 2048, 4095]))
    assert pixels[0, :, 0].tolist() == [0, 0, 128, 255]


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_whose_zero_is_white_is_no_negative(bits):
    """Pillow turns 8 bits round, as all viewers do, and leaves 16 as they are."""
    white = 2**bits - 1
    wide = np.array([[0, white // 3, white]], f"<u{bits // 8}")
    content = grey_tiff(wide, zero_is_white=True)
    assert decode_picture(content)[0, :, 0].tolist() == [255, 170, 0]
    plain = grey_tiff(wide, zero_is_white=False)
    assert decode_picture(plain)[0, :, 0].tolist() == [0, 85, 255]


def grey_tiff(pixels, zero_is_white: bool) -> bytes:
    """By hand, since Pillow turns what it writes round by itself."""
    (height, width), data = pixels.shape, pixels.tobytes()
    tags = [(256, width), (257, height), (258, 8 * pixels.itemsize), (259, 1)]
    tags += [(262, 0 if zero_is_white else 1), (273, 8), (277, 1), (278, height)]
    tags += [(279, len(data))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    table = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + table


def test_what_is_no_picture_is_said_in_words():
    for content in (b"", b"hello", b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(Unreadable) as caught:
            decode_picture(content)
        assert " at 0x" not in str(caught.value)


def deep_folder(root, top: int, kind: str = "png"):
    for i in range(8):
        wide = np.linspace(0, top - i, 64).astype(np.uint16).reshape(8, 8)
        root.mkdir(exist_ok=True)
        form = {"tif": "TIFF"}.get(kind, "PNG")
        (root / f"{i}.{kind}").write_bytes(encoded(Image.fromarray(wide), form))
    return Images(name="folder", data_dir=str(root), size=8, holdout=0.25)


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_pictures_of_12_bits_in_16_are_told_and_made_visible(tmp_path, caplog, kind):
    data = deep_folder(tmp_path / "deep", 4095, kind)
    dark = fresh(data, True).take(np.arange(4))["x"]
    assert dark.max() <= 16  # as the file says, which is next to black
    (line,) = (r.getMessage() for r in caplog.records if "65535" in r.getMessage())
    assert "have values to 40" in line and "data.white=4095" in line
    caplog.clear()
    seen = fresh(dataclasses.replace(data, white=4095), True)
    assert seen.take(np.arange(4))["x"].max() >= 254
    assert not caplog.records
    with pytest.raises(BadInput, match="to 4095.*data.white=1023"):
        fresh(dataclasses.replace(data, white=1023), True)


def test_pictures_that_use_their_16_bits_are_told_of_nothing(tmp_path, caplog):
    fresh(deep_folder(tmp_path / "deep", 65535), True)
    assert not caplog.records


def test_white_goes_into_the_bundle_and_to_its_files():
    assert Images(white=4095).preparation == (("white", 4095),)
    assert Images().preparation == ()
    assert Images.of(1, white=4095).white == 4095


def test_colour_of_16_bits_is_read_to_its_upper_8_and_told(tmp_path, caplog):
    for i in range(8):
        row = struct.pack(">12H", *range(0, 4092, 341))
        (tmp_path / f"{i}.png").write_bytes(
            png(16, 2, row, struct.pack(">3H", 9, 9, 9))
        )
    data = Images(name="folder", data_dir=str(tmp_path), size=1, channels=3)
    fresh(data, True)
    (line,) = (r.getMessage() for r in caplog.records if "65535" in r.getMessage())
    assert "have values to 3839" in line and "8 bits" in line
    with pytest.raises(BadInput, match="colour of 16 bits"):
        fresh(dataclasses.replace(data, white=4095), True)


def test_white_is_nothing_to_colour_of_8_bits():
    file = io.BytesIO()
    Image.new("RGB", (1, 1), (9, 8, 7)).save(file, "PNG")
    found = read_picture(file.getvalue(), white=4095).pixels
    np.testing.assert_array_equal(found, [[[9, 8, 7]]])
