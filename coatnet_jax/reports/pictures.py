"""Pictures in a page: small ones, encoded in the page itself."""

import base64
import dataclasses

import cv2
import numpy as np

from coatnet_jax.data.decoding import decode_example
from coatnet_jax.data.image_source import CorruptImageError, ImageSource
from coatnet_jax.reports.outcomes import NOTHING, BaseOutcomes, Outcomes
from coatnet_jax.texts import printable

# Pixels of the longer side; of what is at most half as large, JPEG would spoil
# more than it saves.
MAX_SIDE = 160
_JPEG_QUALITY = 80
NUM_MISTAKES = 24


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
  """A picture with what is said of it.

  Attributes:
    uri: data URI of the picture; empty where it cannot be read.
    lines: texts below it, the first the most important.
    alt: text in its place, for who cannot see it.
    is_tiny: whether its pixels are to be seen as squares.
  """

  uri: str
  lines: tuple[str, ...]
  alt: str
  is_tiny: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gallery:
  """A section of a report that shows pictures.

  Attributes:
    title: title of the section.
    note: sentence below it, which says what the pictures are.
    pictures: pictures in the order that they are shown in.
  """

  title: str
  note: str
  pictures: tuple[Picture, ...]


def create_picture(
  pixels: np.ndarray, lines: tuple[str, ...], alt: str
) -> Picture:
  """Makes a picture of pixels, no larger than a page needs it.

  Args:
    pixels: picture to be shown, [H, W, 3] uint8 RGB.
    lines: texts below the picture.
    alt: text in the place of the picture.
  """
  height, width = pixels.shape[:2]
  scale = MAX_SIDE / max(height, width)
  if scale < 1:
    size = max(1, round(width * scale)), max(1, round(height * scale))
    pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
  is_tiny = scale >= 2
  kind, suffix, options = (
    ('png', '.png', [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if is_tiny
    else ('jpeg', '.jpg', [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
  )
  # OpenCV's order of colours.
  _, encoded = cv2.imencode(suffix, pixels[..., ::-1], options)
  text = base64.b64encode(encoded.tobytes()).decode('ascii')
  return Picture(
    uri=f'data:image/{kind};base64,{text}',
    lines=lines,
    alt=alt,
    is_tiny=is_tiny,
  )


def find_mistakes(
  outcomes: BaseOutcomes, number: int = NUM_MISTAKES
) -> np.ndarray:
  """Returns the rows of the wrong predictions, the most confident first.

  Equal ones are in the order of the examples; of what is NaN there is none.

  Args:
    outcomes: what was said of the examples.
    number: largest number of mistakes.
  """
  wrong = np.flatnonzero(~outcomes.hits & (outcomes.predicted != NOTHING))
  order = np.argsort(-outcomes.confidences[wrong], kind='stable')
  return wrong[order[:number]]


def show_mistakes(outcomes: Outcomes, source: ImageSource) -> Gallery:
  """Returns the most confident mistakes as a section of a report.

  Args:
    outcomes: what was said of the examples.
    source: images that the examples are of.
  """
  rows = find_mistakes(outcomes)
  number = int((~outcomes.hits).sum())
  if len(rows):
    note = (
      f'{len(rows):,} of {number:,} wrong predictions, those with the largest'
      ' probability first. Some are mistakes of the labels.'
    )
  elif number:
    note = 'No wrong prediction has a class, as the model computes NaN.'
  else:
    note = 'No prediction is wrong.'
  return Gallery(
    title='Most confident mistakes',
    note=note,
    pictures=tuple(_show_mistake(outcomes, row, source) for row in rows),
  )


def _show_mistake(outcomes: Outcomes, row: int, source: ImageSource) -> Picture:
  label = printable(outcomes.name_labels(row))
  predicted = printable(outcomes.class_names[outcomes.predicted[row]])
  return show_example(
    outcomes,
    row,
    source,
    said=f'{predicted}, {outcomes.confidences[row]:.1%}',
    alt=f'A picture of {label}, taken for {predicted}',
  )


def show_example(
  outcomes: BaseOutcomes, row: int, source: ImageSource, *, said: str, alt: str
) -> Picture:
  """Returns an example's picture; one without pixels if it cannot be read.

  Args:
    outcomes: what was said of the examples.
    row: place of the example among them.
    source: images that the examples are of.
    said: text below the picture, above its labels and its name.
    alt: text in the place of the picture.
  """
  index = int(outcomes.indices[row])
  lines = (
    said,
    f'{outcomes.verb} {printable(outcomes.name_labels(row))}',
    printable(source.describe(index)),
  )
  try:
    pixels, _ = decode_example(source, index)
  except CorruptImageError:
    return Picture(uri='', lines=lines, alt=alt)
  return create_picture(pixels, lines, alt)
