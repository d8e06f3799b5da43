"""A map laid over the whole picture, at the picture's full size.

The model sees a crop of a picture, and a map is of that crop: it is enlarged
onto the part of the picture that the crop shows (`data/crop_place.py`), which
gets a frame. A map is read by lightness, which grows with it, so that it is
right without colour too; a line surrounds what is above half of the largest.
"""

import cv2
import numpy as np

from coatnet_jax.data.crop_place import CropPlace

# Part of the picture in what is shown; the rest is the map's colour.
_PICTURE_SHARE = 0.45
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)


def scale_to_one(values: np.ndarray, quantile: float = 1.0) -> np.ndarray:
  """Divides a map by its largest value; one that is 0 everywhere stays so.

  >>> scale_to_one(np.array([[0.0, 1.0], [2.0, 4.0]])).tolist()
  [[0.0, 0.25], [0.5, 1.0]]

  Args:
    values: [h, w] float, at least 0.
    quantile: part of the values that are below the one that becomes 1, where a
      few are far larger than all others: 1 for the largest.

  Returns:
    [h, w] float32 in 0..1.
  """
  largest = np.quantile(values, quantile)
  if not largest > 0:
    largest = values.max()
  scaled = values / largest if largest > 0 else np.zeros_like(values)
  return np.clip(scaled, 0, 1).astype(np.float32)


def spread_over_picture(
  values: np.ndarray, shape: tuple[int, int], place: CropPlace
) -> np.ndarray:
  """Enlarges a map of a crop onto the whole picture.

  Args:
    values: map of the crop, [h, w] float32.
    shape: height and width of the picture.
    place: part of the picture that the crop shows.

  Returns:
    [H, W] float32, interpolated between the middles of the map's cells; NaN
    where the crop shows nothing.
  """
  top, left, height, width = place.find_box()
  # Middles of the pixels, in cells of the map.
  rows = (np.arange(shape[0]) + 0.5 - top) * values.shape[0] / height
  columns = (np.arange(shape[1]) + 0.5 - left) * values.shape[1] / width
  map_y, map_x = np.meshgrid(rows - 0.5, columns - 0.5, indexing='ij')
  spread = cv2.remap(
    values.astype(np.float32),
    map_x.astype(np.float32),
    map_y.astype(np.float32),
    cv2.INTER_LINEAR,
    borderMode=cv2.BORDER_REPLICATE,
  )
  spread[(rows < 0) | (rows >= values.shape[0])] = np.nan
  spread[:, (columns < 0) | (columns >= values.shape[1])] = np.nan
  return spread


def lay_over(
  picture: np.ndarray, spread: np.ndarray, *, with_line: bool = True
) -> np.ndarray:
  """Lays a map over a picture, which becomes grey beneath it.

  Args:
    picture: [H, W, 3] uint8.
    spread: map, [H, W] float32 in 0..1; NaN where the picture stays.
    with_line: whether a line surrounds what is above half of the largest.

  Returns:
    [H, W, 3] uint8.
  """
  inside = ~np.isnan(spread)
  if not inside.any():
    return picture.copy()
  levels = np.where(inside, spread, 0)
  grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None]
  mixed = _PICTURE_SHARE * grey + (1 - _PICTURE_SHARE) * color_levels(levels)
  shown = np.where(inside[..., None], np.rint(mixed), picture).astype(np.uint8)
  thickness = find_thickness(picture.shape)
  if with_line:
    high = (levels >= 0.5).astype(np.uint8)
    lines, _ = cv2.findContours(high, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(shown, lines, -1, _BLACK, 3 * thickness)
    cv2.drawContours(shown, lines, -1, _WHITE, thickness)
  if not inside.all():
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    draw_box(shown, rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
  return shown


def color_levels(levels: np.ndarray) -> np.ndarray:
  """Returns colours whose lightness grows with a level (cividis).

  Args:
    levels: [H, W] float in 0..1.

  Returns:
    [H, W, 3] uint8.
  """
  codes = np.rint(255 * levels).astype(np.uint8)
  colors = cv2.applyColorMap(codes, cv2.COLORMAP_CIVIDIS)
  return cv2.cvtColor(colors, cv2.COLOR_BGR2RGB)


def draw_box(
  picture: np.ndarray, top: float, left: float, bottom: float, right: float
) -> None:
  """Draws a white frame with a black edge, to be seen on any picture.

  Args:
    picture: [H, W, 3] uint8, which is drawn on.
    top: row of the frame's upper edge.
    left: column of its left edge.
    bottom: row below its lower edge.
    right: column behind its right edge.
  """
  thickness = find_thickness(picture.shape)
  corners = (round(left), round(top)), (round(right) - 1, round(bottom) - 1)
  cv2.rectangle(picture, *corners, _BLACK, 3 * thickness)
  cv2.rectangle(picture, *corners, _WHITE, thickness)


def find_thickness(shape: tuple[int, ...]) -> int:
  """Returns the width of a line, in pixels, on a picture [H, W, ...]."""
  return max(1, round(min(shape[:2]) / 300))
