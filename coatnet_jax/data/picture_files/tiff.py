"""What the first directory of a TIFF says, or that of a block of EXIF."""

import dataclasses
import struct

from coatnet_jax.data.picture_files.parts import count_part

# Of each of TIFF's types the bytes of a value, and how `struct` calls those
# that are whole numbers.
_TIFF_TYPES = {
  **{1: (1, 'B'), 2: (1, ''), 3: (2, 'H'), 4: (4, 'I'), 5: (8, '')},
  **{6: (1, ''), 7: (1, ''), 8: (2, ''), 9: (4, ''), 10: (8, '')},
  **{11: (4, ''), 12: (8, ''), 13: (4, 'I'), 16: (8, ''), 17: (8, '')},
  18: (8, ''),
}
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_COMPRESSION = 256, 257, 259
_TIFF_STRIPS, _TIFF_TILES = 273, 324
_TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT = 322, 323


@dataclasses.dataclass(frozen=True)
class Tiff:
  """What the first directory of a TIFF says, or that of a block of EXIF.

  Attributes:
    values: by tag its value, where that is one whole number.
    num_strips: number of strips, or of tiles.
    num_bytes: number of bytes of all values.
  """

  values: dict[int, int]
  num_strips: int
  num_bytes: int

  @property
  def height(self) -> int:
    """Height in pixels, or 0."""
    return self.values.get(_TIFF_HEIGHT, 0)

  @property
  def width(self) -> int:
    """Width in pixels, or 0."""
    return self.values.get(_TIFF_WIDTH, 0)

  @property
  def compression(self) -> int:
    """How strips are compressed: 1 for not at all."""
    return self.values.get(_TIFF_COMPRESSION, 1)

  @property
  def tile_size(self) -> tuple[int, int]:
    """Height and width of a tile in pixels; zeros where there are none."""
    return (
      self.values.get(_TIFF_TILE_HEIGHT, 0),
      self.values.get(_TIFF_TILE_WIDTH, 0),
    )


def read_tiff(data: bytes) -> Tiff:
  """Reads the first directory of a TIFF, to its end or to the file's.

  Args:
    data: content of the file, or of EXIF from its TIFF header on.

  Raises:
    UnusualFileError: it has too many tags.
  """
  order = '<' if data[:2] == b'II' else '>'
  is_big = data[2:4] in (b'+\0', b'\0+')
  entry_size, inline = (20, 8) if is_big else (12, 4)
  values, num_strips, num_bytes = {}, 0, 0
  try:
    if is_big:
      (place,) = struct.unpack_from(order + 'Q', data, 8)
      (number,) = struct.unpack_from(order + 'Q', data, place)
      place += 8
    else:
      (place,) = struct.unpack_from(order + 'I', data, 4)
      (number,) = struct.unpack_from(order + 'H', data, place)
      place += 2
    for index in range(number):
      count_part(index, 'TIFF')
      entry = place + index * entry_size
      tag, kind, count = struct.unpack_from(
        order + ('HHQ' if is_big else 'HHI'), data, entry
      )
      size, form = _TIFF_TYPES.get(kind, (0, ''))
      if tag in (_TIFF_STRIPS, _TIFF_TILES):
        num_strips = max(num_strips, count)
      num_bytes += count * size
      if form and count == 1:
        place_of_value = entry + entry_size - inline
        values[tag] = struct.unpack_from(order + form, data, place_of_value)[0]
  except (struct.error, OverflowError):
    pass  # Truncated: a decoder finds it out, with what it can read.
  return Tiff(values, num_strips, num_bytes)
