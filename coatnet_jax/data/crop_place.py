"""Which part of a picture a crop shows: what is cut, resized and cut again."""

from typing import NamedTuple


class CropPlace(NamedTuple):
  """Where evaluation takes its crop of a picture from.

  Attributes:
    cut: top, left, height and width of the part that is resized, in pixels of
      the picture.
    resized: height and width that it is resized to.
    window: top and left of the crop in what was resized.
    size: height and width of the crop.
  """

  cut: tuple[int, int, int, int]
  resized: tuple[int, int]
  window: tuple[int, int]
  size: tuple[int, int]

  def find_box(self) -> tuple[float, float, float, float]:
    """Returns what the crop shows, in pixels of the picture.

    >>> CropPlace((0, 0, 400, 600), (200, 300), (0, 50), (200, 200)).find_box()
    (0.0, 100.0, 400.0, 400.0)

    Returns:
      Top, left, height and width, which need not be whole.
    """
    top, left, *lengths = self.cut
    scales = [length / new for length, new in zip(lengths, self.resized)]
    return (
      top + self.window[0] * scales[0],
      left + self.window[1] * scales[1],
      self.size[0] * scales[0],
      self.size[1] * scales[1],
    )
