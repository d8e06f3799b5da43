"""Pictures of the most confident mistakes on labels, too many or missed."""

import numpy as np

from coatnet_jax.data.image_source import ImageSource
from coatnet_jax.reports.multi_label.outcomes import LabelOutcomes
from coatnet_jax.reports.pictures import (
  NUM_MISTAKES,
  Gallery,
  Picture,
  show_example,
)
from coatnet_jax.texts import printable


def find_label_mistakes(
  outcomes: LabelOutcomes, number: int = NUM_MISTAKES
) -> list[tuple[int, int]]:
  """Returns the wrong decisions, the most confident first, one of an image.

  Confident is what has a probability close to 0 or 1; equal ones are in the
  order of the images. Of what is NaN there is none.

  Args:
    outcomes: what was said of the images.
    number: largest number of mistakes.

  Returns:
    The row of each image, and the class that is wrong.
  """
  # Probabilities close to 1 can round to the same number; logits do not.
  sureness = np.where(_find_wrong(outcomes), np.abs(outcomes.logits), -1)
  labels = sureness.argmax(axis=1)
  surest = sureness.max(axis=1)
  rows = np.argsort(-surest, kind='stable')
  rows = rows[surest[rows] >= 0][:number]
  return [(int(row), int(labels[row])) for row in rows]


def show_label_mistakes(
  outcomes: LabelOutcomes, source: ImageSource
) -> Gallery:
  """Returns the most confident mistakes as a section of a report.

  Args:
    outcomes: what was said of the images.
    source: images that the outcomes are of.
  """
  found = find_label_mistakes(outcomes)
  wrong = _find_wrong(outcomes)
  if found:
    note = (
      f'{len(found):,} of {int(wrong.any(axis=1).sum()):,} images of which a'
      ' label is missed or predicted wrongly, each with its most confident'
      ' mistake and the probability of that class. Some are mistakes of the'
      ' labels.'
    )
  elif outcomes.valid.all():
    note = 'No label is missed or predicted wrongly.'
  else:
    note = 'There is none, but for images of which the model computes NaN.'
  return Gallery(
    title='Most confident mistakes',
    note=note,
    pictures=tuple(_show_mistake(outcomes, *one, source) for one in found),
  )


def _find_wrong(outcomes: LabelOutcomes) -> np.ndarray:
  """Returns which decisions are wrong, [n, C] bool; none of what is NaN."""
  is_wrong = outcomes.decisions != outcomes.targets
  return is_wrong & outcomes.valid[:, None]


def _show_mistake(
  outcomes: LabelOutcomes, row: int, label: int, source: ImageSource
) -> Picture:
  name = printable(outcomes.class_names[label])
  labels = printable(outcomes.name_labels(row))
  what = 'missed' if outcomes.targets[row, label] else 'wrongly'
  return show_example(
    outcomes,
    row,
    source,
    said=f'{what} {name}, {outcomes.probabilities[row, label]:.1%}',
    alt=f'A picture with {labels}: {what} {name}',
  )
