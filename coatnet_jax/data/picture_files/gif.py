"""What a GIF says to its first frame."""

import dataclasses
import struct

from coatnet_jax.data.picture_files.parts import UnusualFileError, count_part

_GIF_EXTENSION, _GIF_FRAME, _GIF_CONTROL = 0x21, 0x2C, 0xF9


@dataclasses.dataclass(frozen=True)
class Gif:
  """What a GIF says to its first frame.

  Attributes:
    height: height in pixels of what the frame is drawn on.
    width: width of that in pixels.
    pixels: the file, with nothing before the frame but how it is shown.
  """

  height: int
  width: int
  pixels: bytes


def read_gif(data: bytes) -> Gif:
  """Reads a GIF to its first frame.

  Args:
    data: content of the file.

  Raises:
    UnusualFileError: it is truncated, or has too many blocks.
  """
  flags = data[10] if len(data) > 10 else 0
  place = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
  kept, num_blocks = [data[:place]], 0
  while place < len(data):
    num_blocks = count_part(num_blocks, 'GIF')
    start, kind = place, data[place]
    if kind == _GIF_FRAME and place + 9 <= len(data):
      width, height = struct.unpack_from('<HH', data, 6)
      left, top, frame_width, frame_height = struct.unpack_from(
        '<4H', data, place + 1
      )
      return Gif(
        max(height, top + frame_height),
        max(width, left + frame_width),
        b''.join([*kept, memoryview(data)[place:]]),
      )
    place += 1
    if kind != _GIF_EXTENSION:  # Padding.
      continue
    is_control = data[place : place + 1] == bytes([_GIF_CONTROL])
    place += 1
    while place < len(data) and data[place]:
      num_blocks = count_part(num_blocks, 'GIF')
      place += 1 + data[place]
    place += 1
    if is_control and place - start == 8:
      kept.append(data[start:place])
  raise UnusualFileError('truncated GIF: it has no frame')
