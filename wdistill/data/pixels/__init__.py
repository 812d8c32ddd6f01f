"""PIL images to square uint8 pixels, each decoded once for all that look at it."""

from wdistill.data.pixels.kept import file_bytes
from wdistill.data.pixels.scaling import Preprocessing, to_float, to_uint8
from wdistill.data.pixels.store import Decoding, PixelStore, check_room, decoding_for, remove_pixels

__all__ = [
    "Decoding",
    "PixelStore",
    "Preprocessing",
    "check_room",
    "decoding_for",
    "file_bytes",
    "remove_pixels",
    "to_float",
    "to_uint8",
]
