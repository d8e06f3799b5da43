"""What a model looked at, in some pictures, as a section of its report."""

from collections.abc import Iterator

import cv2
import numpy as np
from absl import logging

from coatnet_jax import terminal
from coatnet_jax.checkpoints.trained_model import TrainedModel
from coatnet_jax.data.augmentation import place_evaluation_crop
from coatnet_jax.data.decoding import decode_example
from coatnet_jax.data.image_source import CorruptImageError, ImageSource
from coatnet_jax.errors import find_reason
from coatnet_jax.explanation import overlay
from coatnet_jax.explanation.explaining import (
  Explainer,
  Explanation,
  Question,
)
from coatnet_jax.reports.outcomes import BaseOutcomes
from coatnet_jax.reports.pictures import (
  MAX_SIDE,
  Gallery,
  Picture,
  create_picture,
  find_mistakes,
)
from coatnet_jax.texts import printable

_TITLE = 'What the model looks at'
_NUM_MISTAKES, _NUM_RIGHT = 2, 2


def show_maps(
  trained: TrainedModel, outcomes: BaseOutcomes, source: ImageSource
) -> list[Gallery]:
  """Returns maps of the most confident mistakes, and of right predictions.

  Where they cannot be made, the section says why.

  Args:
    trained: trained model whose predictions they are.
    outcomes: what it said of the examples.
    source: images that the examples are of.
  """
  try:
    pictures = tuple(_draw_maps(trained, outcomes, source))
  except Exception as error:  # A report without maps is better than none.
    logging.info('There are no maps', exc_info=True)
    note = f'The maps cannot be made: {find_reason(error)}.'
    return [Gallery(title=_TITLE, note=note, pictures=())]
  note = (
    'The more of the map, the lighter; a line surrounds what is above half of'
    ' its largest value. Each map is for the class that was predicted.'
  )
  return [Gallery(title=_TITLE, note=note, pictures=pictures)]


def find_right(outcomes: BaseOutcomes, number: int = _NUM_RIGHT) -> np.ndarray:
  """Returns the rows of the most confident right predictions, one of a class.

  Args:
    outcomes: what was said of the examples.
    number: largest number of rows.
  """
  right = np.flatnonzero(outcomes.hits)
  order = right[np.argsort(-outcomes.confidences[right], kind='stable')]
  _, first = np.unique(outcomes.predicted[order], return_index=True)
  return order[np.sort(first)[:number]]


def _draw_maps(
  trained: TrainedModel, outcomes: BaseOutcomes, source: ImageSource
) -> Iterator[Picture]:
  """Yields each picture, followed by its maps."""
  explainer = Explainer(trained)
  methods = ('grad_cam', 'relevance') if explainer.blocks else ('grad_cam',)
  rows = [*find_mistakes(outcomes, _NUM_MISTAKES), *find_right(outcomes)]
  for number, row in enumerate(rows):
    terminal.begin(
      'drawing maps', f'{number} of {len(rows)} pictures', number / len(rows)
    )
    try:
      pixels, _ = decode_example(source, int(outcomes.indices[row]))
    except CorruptImageError:
      continue
    predicted = printable(outcomes.class_names[outcomes.predicted[row]])
    label = printable(outcomes.name_labels(row))
    said = (
      predicted
      if outcomes.hits[row]
      else f'{predicted}, {outcomes.verb} {label}'
    )
    yield create_picture(pixels, (said,), f'A picture of {label}')
    for method in methods:
      # Not the class of the evaluation, whose label space may be another.
      found = explainer.explain(pixels, Question(method=method))
      alt = f'{found.what} of a picture of {label}'
      shown = _enlarge(pixels, found, explainer)
      yield create_picture(shown, (found.what, said), alt)


def _enlarge(
  pixels: np.ndarray, found: Explanation, explainer: Explainer
) -> np.ndarray:
  """Returns a map over its picture, which is enlarged if it is tiny."""
  scale = MAX_SIDE // max(pixels.shape[:2])
  if scale < 2:
    return found.shown
  size = scale * pixels.shape[1], scale * pixels.shape[0]
  pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_NEAREST)
  place = place_evaluation_crop(pixels.shape[:2], explainer.preprocessing)
  values = overlay.scale_to_one(found.values)
  spread = overlay.spread_over_picture(values, pixels.shape[:2], place)
  return overlay.lay_over(pixels, spread)
