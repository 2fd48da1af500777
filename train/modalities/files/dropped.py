"""What files hold, and those that come back of them do not, in words."""

from collections import Counter
from collections.abc import Iterator

from train.errors import reading
from train.modalities.files.clips import is_gif, open_video, stills
from train.modalities.files.pictures import read_picture
from train.modalities.files.sound import open_sound
from train.modalities.files.stored import File, stored

# What streams of a video file are called, by FFmpeg's types; others are of data.
STREAMS = {"video": "picture track", "audio": "sound track", "subtitle": "subtitle"}


def of_sound(path: File, floats: bool) -> Iterator[str]:
    """floats: the file that comes back holds floats; otherwise integers of 16 bits."""
    with reading("not a whole sound file"), open_sound(stored(path)) as file:
        kind, tags = file.subtype, {*file.copy_metadata()} - {"software"}
    if kind in ("PCM_24", "PCM_32", "FLOAT", "DOUBLE") and not floats:
        yield f"what 16 bits do not hold of its {kind}"
    if tags:
        yield f"its tags ({', '.join(sorted(tags))})"


def of_clip(path: File) -> Iterator[str]:
    """Of a video file the other streams, and what 8 bits of colour do not hold; of a
    folder what its pictures lose, and in how many."""
    if path.is_dir():
        found = Counter(
            line
            for still in stills(path)
            for line in read_picture(stored(still)).more.get("dropped", ())
        )
        yield from (f"{line} (frames: {n})" for line, n in found.items())
    elif not is_gif(path):
        with open_video(path) as (file, stream):
            others = Counter(
                STREAMS.get(each.type, "track of data")
                for each in file.streams
                if each.index != stream.index
            )
            form = stream.codec_context.format
        for name, n in others.items():
            yield f"{n} {name}{'s' if n > 1 else ''}"
        if form is None:
            return
        bits = max((each.bits for each in form.components), default=8)
        if bits > 8:
            yield f"all but 8 of its {bits} bits"
        if any(each.is_alpha for each in form.components):
            yield "its alpha"
