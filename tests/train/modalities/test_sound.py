import io
import re
import struct

import av
import numpy as np
import pytest
import soundfile

from train.errors import BadInput, Unreadable
from train.modalities.files.ends import end_of_sound, tell_open
from train.modalities.files.sound import decode_audio
from train.modalities.transforms.sound import (
    AudioCleaning,
    one_channel,
    resampled,
    trimmed,
)

RATE = 8000


def tone(length=800, pitch=440.0, level=0.5):
    return level * np.sin(2 * np.pi * pitch * np.arange(length) / RATE)


def encoded(x, form="WAV", subtype=None, rate=RATE):
    file = io.BytesIO()
    soundfile.write(file, x, rate, format=form, subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize(
    "form,subtype,within",
    [("WAV", "PCM_16", 4e-5), ("WAV", "FLOAT", 1e-7), ("FLAC", None, 4e-5)],
)
def test_lossless_files_are_their_samples(form, subtype, within):
    x = np.stack([tone(), tone(pitch=600.0)], -1)
    found, rate, _ = decode_audio(encoded(x, form, subtype))
    assert rate == RATE and found.dtype == np.float32
    np.testing.assert_allclose(found, x, atol=within)


def test_a_chunk_of_odd_size_before_the_samples_is_passed_over():
    """A byte of padding follows it, which its size does not count."""
    whole = encoded(tone())
    more = whole[:12] + b"note" + struct.pack("<I", 3) + b"abc\0" + whole[12:]
    assert len(decode_audio(more)[0]) == 800
    with pytest.raises(Unreadable, match=f"cut short: 700 bytes of {len(more)}"):
        decode_audio(more[:700])


def test_ogg_is_heard():
    found, _, _ = decode_audio(encoded(tone(4000), "OGG"))
    assert np.corrcoef(found[:, 0], tone(4000))[0, 1] > 0.99


def test_files_that_are_no_sound_say_so():
    with pytest.raises(Unreadable, match="text file"):
        decode_audio(b"this is not a recording\n" * 9)
    whole = encoded(tone(), "WAV")
    with pytest.raises(Unreadable, match="cut short: 700 bytes of 1644"):
        decode_audio(whole[:700])
    with pytest.raises(Unreadable, match="not a whole"):
        decode_audio(encoded(tone(), "FLAC")[:60])
    with pytest.raises(Unreadable, match="not a whole"):
        decode_audio(b"")
    with pytest.raises(Unreadable, match="no samples"):
        decode_audio(encoded(np.zeros(0)))


def test_a_chunk_that_says_it_ends_beyond_all_files_ends_the_search():
    for kind, begins in ((b"riff", "<36x4s12xQ"), (b"caff", ">4x4sq")):
        size = 2**64 - 16 if kind == b"riff" else 2**63 - 2
        assert not end_of_sound(kind + struct.pack(begins, b"LIST", size) + bytes(99))


def test_a_stream_of_open_size_is_read():
    whole = encoded(tone())
    streamed = whole[:4] + struct.pack("<I", 2**32 - 1) + whole[8:]
    assert len(decode_audio(streamed)[0]) == 800


def test_a_size_that_sox_writes_into_a_pipe_is_none():
    whole = encoded(tone())
    at = whole.index(b"data") + 4
    piped = whole[:at] + struct.pack("<I", 0x7FFFF000) + whole[at + 4 :]
    np.testing.assert_array_equal(decode_audio(piped)[0], decode_audio(whole)[0])


def test_short_mp3_inside_a_wav_is_whole():
    """How many samples it has is a guess there, too, and above what is read."""
    x, file = np.sin(np.arange(44_100) / 20).astype(np.float32), io.BytesIO()
    with av.open(file, "w", format="wav") as out:
        stream = out.add_stream("libmp3lame", rate=44_100, layout="mono")
        frame = av.AudioFrame.from_ndarray(x[None], "fltp", "mono")
        frame.rate = 44_100
        for packet in (*stream.encode(frame), *stream.encode(None)):
            out.mux(packet)
    found, rate, _ = decode_audio(file.getvalue())
    assert rate == 44_100 and len(found) >= 44_100


def test_the_samples_decide_whether_a_file_is_whole():
    """Many recorders write a size of the whole that is off by their padding."""
    odd = encoded(tone(801), subtype="PCM_U8")
    for size in (len(odd) - 7, len(odd) + 100):
        said = odd[:4] + struct.pack("<I", size) + odd[8:]
        assert len(decode_audio(said)[0]) == 801
    assert len(decode_audio(odd[: 44 + 801])[0]) == 801  # without its padding
    with pytest.raises(Unreadable, match="cut short"):
        decode_audio(odd[: 44 + 800])


@pytest.mark.parametrize(
    "form,subtype,endian",
    [
        ("RF64", "PCM_16", None),
        ("WAV", "PCM_24", "BIG"),
        ("W64", "PCM_16", None),
        ("AIFF", "PCM_16", None),
        ("AIFF", "FLOAT", None),
        ("AU", "PCM_16", None),
        ("AU", "PCM_16", "LITTLE"),
        ("CAF", "PCM_16", None),
        ("FLAC", "PCM_16", None),
        ("OGG", "VORBIS", None),
        ("OGG", "OPUS", None),
        ("NIST", "PCM_16", None),
        ("NIST", "ULAW", None),
        ("MP3", "MPEG_LAYER_III", None),
    ],
)
def test_a_file_of_any_form_that_is_cut_short_is_refused(form, subtype, endian):
    file = io.BytesIO()
    x = tone(40_000) + np.random.default_rng(0).normal(0, 0.01, 40_000)
    soundfile.write(file, x, RATE, format=form, subtype=subtype, endian=endian)
    whole = file.getvalue()
    assert len(decode_audio(whole)[0]) == 40_000
    for share in (0.97, 0.6):
        with pytest.raises(Unreadable, match="cut short|not a whole"):
            decode_audio(whole[: int(share * len(whole))])


def pages(encoded):
    starts = [each.start() for each in re.finditer(b"OggS", encoded)]
    return [encoded[a:b] for a, b in zip(starts, [*starts[1:], None], strict=True)]


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_file_is_whole_pages_of_one_stream(subtype):
    """libsndfile passes over a damaged page, and ends where a second stream begins."""
    noise = np.random.default_rng(0).normal(0, 0.2, 8 * RATE)
    whole = encoded(noise, "OGG", subtype)
    head, *body = pages(whole)
    assert len(body) > 4 and len(decode_audio(whole)[0]) == len(noise)
    with pytest.raises(Unreadable, match="several streams, one behind the other"):
        decode_audio(whole + encoded(noise, "OGG", subtype))
    damaged = bytearray(whole)
    at = len(whole) - len(body[-1]) - len(body[-2])
    damaged[at + 100] ^= 1
    with pytest.raises(Unreadable, match=f"its page at byte {at} has another checksum"):
        decode_audio(bytes(damaged))
    for more in (b"", body[-2][:50]):
        lacking = head + b"".join(body[:-2]) + more + body[-1]
        said = (
            "another checksum|is cut short" if more else f"lacks pages before byte {at}"
        )
        with pytest.raises(Unreadable, match=said):
            decode_audio(lacking)
    with pytest.raises(Unreadable, match="no page is where one ought to be"):
        decode_audio(whole[:at] + b"x" + whole[at:])
    # A broadcast is joined anywhere; a note behind the last page is none of it.
    caught = head + b"".join(body[:1] + body[2:]) + b"TAG of a player"
    assert len(decode_audio(caught)[0])


def test_files_whose_end_nothing_says_are_told_once_a_form(caplog):
    tell_open.cache_clear()
    wave, ogg = encoded(tone()), encoded(tone(), "OGG")
    for form in ("FLAC", "NIST", "CAF", "MP3"):
        decode_audio(encoded(tone(), form))
    decode_audio(wave), decode_audio(ogg)
    assert not caplog.messages
    at = wave.index(b"data") + 4
    for _ in range(2):
        decode_audio(wave[:at] + bytes([255]) * 4 + wave[at + 4 :])
        decode_audio(encoded(tone(), "VOC"))
    (noise := encoded(np.random.default_rng(0).normal(0, 0.2, 8 * RATE), "OGG"))
    decode_audio(b"".join(pages(noise)[:-1]))
    assert [line.split()[0] for line in caplog.messages] == ["WAV", "VOC", "OGG"]
    assert all("do not say where they end" in line for line in caplog.messages)


def test_what_says_no_length_is_read_to_its_end():
    """FLAC from a pipe says 0, and an MP3 need not say anything."""
    x = np.concatenate([tone(40_000), np.random.default_rng(0).normal(0, 0.1, 40_000)])
    whole = encoded(x, "FLAC")
    piped = whole[:21] + bytes([whole[21] & 0xF0]) + bytes(4) + whole[26:]
    np.testing.assert_array_equal(decode_audio(piped)[0], decode_audio(whole)[0])
    whole = encoded(x, "MP3")
    bare = whole[whole.index(whole[:2], 40) :]  # without the frame that says how many
    for told in (bare, b"ID3\3\0\0\0\0\0\x0a" + bytes(10) + bare):
        found, rate, _ = decode_audio(told)
        assert rate == RATE and 80_000 <= len(found) < 82_000
        assert 0.05 < found[-3000:-2000].std() < 0.2


def test_mp3_is_heard():
    found, rate, _ = decode_audio(encoded(tone(8000), "MP3"))
    assert rate == RATE and abs(len(found) - 8000) < 2000


@pytest.mark.parametrize("rate", [1.0, 0.4, -8000.0, np.nan, np.inf, 1e12])
def test_a_rate_that_would_fill_the_memory_is_refused(rate):
    with pytest.raises(Unreadable, match="states a rate"):
        resampled(np.zeros(300_000), rate, 16_000)


def test_what_the_bits_cannot_hold_is_silence():
    dither = np.random.default_rng(0).integers(-1, 2, 4000) / 2**15
    for subtype, silent in (("PCM_16", True), ("PCM_24", False), ("FLOAT", False)):
        x, _, step = decode_audio(encoded(dither, subtype=subtype))
        found = AudioCleaning()(x[:, 0], RATE, step)
        assert found.any() != silent
        assert (AudioCleaning().gain(x, step) == 1) == silent
    quiet = dither * 100
    x, _, step = decode_audio(encoded(quiet))
    assert np.abs(AudioCleaning()(x[:, 0], RATE, step)).max() == pytest.approx(0.9)


@pytest.mark.parametrize(
    "form, subtype",
    [
        *(("WAV", f"PCM_{bits}") for bits in ("U8", "16", "24", "32")),
        *(("WAV", "ULAW"), ("WAV", "ALAW"), ("AIFF", "PCM_S8"), ("FLAC", "PCM_16")),
    ],
)
def test_a_step_is_the_least_that_a_file_of_its_kind_holds(form, subtype):
    halves = 2.0 ** -np.arange(1, 40)
    x, _, step = decode_audio(encoded(halves, form, subtype))
    assert step == x[x > 0].min()


def test_integers_of_more_than_16_bits_are_refused():
    with pytest.raises(Unreadable, match="more than 16 bits"):
        one_channel(np.array([0, 2**20], np.int32))
    assert one_channel(np.array([-(2**15)], np.int64)) == -1


def test_channels_are_averaged_and_numbers_checked():
    x = np.stack([np.ones(5), np.zeros(5)], -1)
    np.testing.assert_array_equal(one_channel(x), 0.5)
    assert one_channel(x.astype(np.float32)).dtype == np.float64
    with pytest.raises(Unreadable, match="2 samples that are no finite"):
        one_channel(np.array([0, np.nan, np.inf]))
    with pytest.raises(Unreadable, match="no sound"):
        one_channel(np.zeros((0, 2)))


@pytest.mark.parametrize("rate,to", [(8000, 16_000), (44_100, 8000), (22_050, 8000)])
def test_resampling_keeps_a_tone_and_its_time(rate, to):
    t = np.arange(rate // 2) / rate
    found = resampled(np.sin(2 * np.pi * 440 * t), rate, to)
    assert len(found) == -(-len(t) * to // rate)
    expected = np.sin(2 * np.pi * 440 * np.arange(len(found)) / to)
    middle = slice(to // 10, -to // 10)
    np.testing.assert_allclose(found[middle], expected[middle], atol=5e-3)


def test_resampling_down_leaves_no_alias():
    t = np.arange(16_000) / 16_000
    found = resampled(np.sin(2 * np.pi * 6000 * t), 16_000, 8000)
    assert np.abs(found[400:-400]).max() < 0.01


def test_trimming_cuts_the_ends_and_not_the_middle():
    quiet = np.zeros(400)
    x = np.concatenate([quiet, tone(), quiet, tone(), quiet])
    found = trimmed(x, RATE, 40.0)
    np.testing.assert_array_equal(found, x[400:2400])
    faint = np.concatenate([tone(400, level=0.02), tone()])
    assert len(trimmed(faint, RATE, 20.0)) == 800  # 28 dB below
    assert len(trimmed(faint, RATE, 40.0)) == 1200
    np.testing.assert_array_equal(trimmed(quiet, RATE, 40.0), quiet)


def test_the_mean_is_taken_off_before_the_level_is_set():
    found = AudioCleaning(peak=0.9)(tone() + 3.0, RATE)
    assert found.dtype == np.float32
    assert abs(found.mean()) < 1e-6 and np.abs(found).max() == pytest.approx(0.9)
    left = AudioCleaning(dc=False, peak=None)(tone() + 0.25, RATE)
    np.testing.assert_allclose(left, tone() + 0.25, atol=1e-6)


def test_loudness_is_the_rms_and_never_clips():
    level = lambda x: 20 * np.log10(np.sqrt(np.square(x.astype(np.float64)).mean()))
    clean = AudioCleaning(peak=None, loudness=-23.0)
    for x in (tone(level=0.01), tone(level=0.9)):
        assert level(clean(x, RATE)) == pytest.approx(-23, abs=1e-3)
    click = np.zeros(800)
    click[5] = 0.3
    loud = AudioCleaning(peak=None, loudness=-1.0, dc=False)(click, RATE)
    assert np.abs(loud).max() == pytest.approx(1.0)


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_silence_stays_silence(value):
    for clean in (AudioCleaning(trim=40.0), AudioCleaning(peak=None, loudness=-20.0)):
        np.testing.assert_array_equal(clean(np.full(300, value), RATE), 0)


def test_levels_that_cannot_be_are_refused():
    for fields, word in (
        ({"peak": 1.5}, "clean.peak"),
        ({"trim": -3.0}, "clean.trim"),
        ({"peak": None, "loudness": 3.0}, "clean.loudness"),
        ({"loudness": -20.0}, "loudness sets the level too"),
    ):
        with pytest.raises(BadInput, match=word):
            AudioCleaning(**fields)
