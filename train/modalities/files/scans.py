"""NIfTI files, of scans."""

import dataclasses
import gzip
import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from train.errors import BadInput, Unreadable, reading
from train.modalities.files.limits import BLOCK, check_decoded
from train.modalities.files.stored import File, opened_file, size_of
from vqdit.shapes import Float

MILLIMETRES = {"meter": 1000.0, "micron": 0.001}  # of a file's units
HEADER = 352  # bytes of NIfTI-1's, and of what says that no extension follows
LONGEST = 2**15 - 1  # side, a number of 16 bits
FLOAT32, MM = 16, 2
PACKED = struct.Struct("<B12f")  # an affine's flags and matrix


@dataclasses.dataclass(frozen=True, eq=False)
class Affine:
    """Where the voxels of a scan are.

    matrix:   millimetres to the right, front and up of a step along x, y and z, and of
              the first voxel.
    oriented: whether a file states its orientation; else only the spacing counts.
    metric:   whether it says in which unit.
    """

    matrix: Float[np.ndarray, "3 4"]
    oriented: bool
    metric: bool

    @classmethod
    def along(cls, spacing: Sequence[float]) -> "Affine":
        """Of a scan along the patient's axes; spacing: (z, y, x), in millimetres."""
        return cls(np.eye(3, 4) * [*spacing[::-1], 1], True, True)

    @classmethod
    def of(cls, packed: bytes) -> "Affine":
        """The inverse of `packed`."""
        flags, *matrix = PACKED.unpack(packed)
        return cls(np.reshape(matrix, (3, 4)), bool(flags & 1), bool(flags & 2))

    def packed(self) -> bytes:
        return PACKED.pack(self.oriented | self.metric << 1, *self.matrix.ravel())


def read_nifti(path: File) -> tuple[Float[np.ndarray, "d h w *c"], dict[str, Any]]:
    """(values (z, y, x), and what other axes they have, in the header's units; their
    "spacing" (z, y, x) in millimetres, the "orientation" of the file, and the "affine"
    of what is returned).

    Turned, by whole quarters, to the right, to the front and up; a file that states
    no orientation stays as it is. Raises BadInput without nibabel, and Unreadable for
    what it cannot read.
    """
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise Unreadable("not a .nii.gz file")
    try:
        import nibabel  # an extra: few need it
    except ImportError as error:
        raise BadInput(
            "NIfTI files need nibabel; pip install nibabel, or write .npy files"
        ) from error
    with reading("not a whole NIfTI file"), opened_file(path) as stored:
        packed = path.name.lower().endswith(".gz")
        file = gzip.GzipFile(fileobj=stored) if packed else stored
        kinds = nibabel.Nifti1Image, nibabel.Nifti2Image
        begin = file.read(max(kind.header_class.sizeof_hdr for kind in kinds))
        fits = (k for k in kinds if k.header_class.may_contain_header(begin))
        kind = next(fits, kinds[0])
        header = kind.header_class(begin[: kind.header_class.sizeof_hdr])
        shape, kept = header.get_data_shape(), header.get_data_dtype()
        if kept.kind not in "iuf":  # of colours and complex numbers a part would do
            raise Unreadable(f"holds {kept}, not numbers")
        if len(shape) < 3:
            raise Unreadable(f"is {list(shape)}; write 3 axes, and channels last")
        count = math.prod(shape)
        size = int(header.get_data_offset()) + count * kept.itemsize
        check_decoded(max(size, 4 * count), size_of(path), advice="cut it into parts")
        encoded = begin + file.read(max(0, size - len(begin)))
        if packed:  # what follows, which is nothing: at the end sums are compared
            file.read(BLOCK)
        scan = kind.from_bytes(encoded)
        header, orientation = scan.header, "unknown"
        oriented = bool(header["sform_code"] or header["qform_code"])
        if oriented:
            orientation = "".join(map(str, nibabel.aff2axcodes(scan.affine)))
            scan = nibabel.as_closest_canonical(scan)
        unit = header.get_xyzt_units()[0]
        apart = MILLIMETRES.get(unit, 1.0)
        spacing = apart * np.array(scan.header.get_zooms()[:3], np.float64)[::-1]
        matrix = np.eye(3, 4) * [*spacing[::-1], 1]
        if oriented:  # which some write without the header's spacing beside it
            matrix = apart * scan.affine[:3]
            spacing = np.linalg.norm(matrix[:, :3], axis=0)[::-1]
        affine = Affine(matrix, oriented, unit != "unknown")
        # (x, y, z) as stored, with the header's slope and intercept applied.
        values = np.asarray(scan.get_fdata(dtype=np.float32)).swapaxes(0, 2)
        more = {"spacing": spacing, "orientation": orientation, "affine": affine}
        return values, more


def write_nifti(
    scan: Float[np.ndarray, "d h w *c"], affine: Affine, packed: bool
) -> bytes:
    """What `read_nifti` reads so; packed: a .nii.gz file."""
    stored = np.asarray(scan, "<f4").swapaxes(0, 2)
    if max(stored.shape) > LONGEST:
        raise BadInput(
            f"a scan of {list(scan.shape)} is no NIfTI file, whose sides are at most "
            f"{LONGEST:,}; cut it into parts"
        )
    apart = np.linalg.norm(affine.matrix[:, :3], axis=0)
    fill = (1,) * (7 - stored.ndim)
    header = bytearray(HEADER)
    for at, kind, values in (
        (0, "<i4", HEADER - 4),  # sizeof_hdr
        (40, "<i2", (stored.ndim, *stored.shape, *fill)),  # dim
        (70, "<i2", (FLOAT32, 32)),  # datatype, bitpix
        (76, "<f4", (1, *apart, 1, 1, 1, 1)),  # pixdim
        (108, "<f4", (HEADER, 1)),  # vox_offset, scl_slope
        (123, "u1", MM if affine.metric else 0),  # xyzt_units
        (254, "<i2", affine.oriented),  # sform_code
        (280, "<f4", affine.matrix),  # srow_x, srow_y, srow_z
        (344, "S3", b"n+1"),  # magic
    ):
        field = np.asarray(values, kind).tobytes()
        header[at : at + len(field)] = field
    content = bytes(header) + stored.tobytes(order="F")
    return gzip.compress(content, compresslevel=1, mtime=0) if packed else content
