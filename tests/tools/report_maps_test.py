"""Maps in a report: of which pictures, of which classes, and what if not."""

import base64

import cv2
import numpy as np
import pytest

from coatnet_jax import terminal
from coatnet_jax.checkpoints.trained_model import load_trained_model
from coatnet_jax.data.decoding import decode_example
from coatnet_jax.reports import content, explained, pictures


@pytest.fixture(scope='module')
def activities():
  """Returns what the terminal was told while the report was made, in order."""
  return []


@pytest.fixture(scope='module')
def found(workdir, activities):
  """Returns what a report says of a run, with maps."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(terminal, 'begin', lambda name, *_: activities.append(name))
    return content.create_content(
      workdir, report=pytest.fail, galleries=explained.show_maps
    )


@pytest.mark.usefixtures('found')
def test_what_takes_long_is_said_under_its_own_name(activities):
  named = list(dict.fromkeys(activities))
  assert named[-3:] == [
    'reading images',
    'computing the measures',
    'drawing maps',
  ]


def _decode(picture):
  data = np.frombuffer(base64.b64decode(picture.uri.partition(',')[2]), 'uint8')
  return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


@pytest.mark.slow
@pytest.mark.rotating
def test_mistakes_and_right_ones_have_maps_of_what_was_predicted(
  found, eval_source
):
  gallery = found.galleries[-1]
  outcomes = found.outcomes
  rows = [*pictures.find_mistakes(outcomes, 2), *explained.find_right(outcomes)]
  # The picture itself, Grad-CAM and relevance.
  assert len(gallery.pictures) == 3 * len(rows)
  names = outcomes.class_names
  for row, start in zip(rows, range(0, len(gallery.pictures), 3)):
    plain, grad_cam, relevance = gallery.pictures[start : start + 3]
    predicted = names[outcomes.predicted[row]]
    assert plain.lines[0].startswith(predicted)
    assert grad_cam.lines[0].startswith('Grad-CAM of stage s4')
    assert relevance.lines[0].startswith("Attention's relevance")
    pixels, _ = decode_example(eval_source, int(outcomes.indices[row]))
    np.testing.assert_array_equal(_decode(plain), pixels)
    shown = _decode(grad_cam)
    assert shown.shape == (140, 140, 3)
    assert np.abs(shown.astype(int) - _decode(relevance)).max() > 60


def test_right_ones_are_the_surest_of_a_class_each(found):
  outcomes = found.outcomes
  rows = explained.find_right(outcomes, 100)
  assert outcomes.hits[rows].all()
  labels = outcomes.labels[rows].tolist()
  assert len(labels) == len(set(labels)) > 1
  assert (np.diff(outcomes.confidences[rows]) <= 0).all()
  for row in rows:
    same = outcomes.hits & (outcomes.labels == outcomes.labels[row])
    assert outcomes.confidences[row] == outcomes.confidences[same].max()


def test_a_report_without_maps_says_why(workdir, found, monkeypatch):
  def fail(trained):
    raise MemoryError

  monkeypatch.setattr(explained, 'Explainer', fail)
  trained = load_trained_model(workdir)
  (gallery,) = explained.show_maps(trained, found.outcomes, None)
  assert gallery.pictures == ()
  assert gallery.note.startswith('The maps cannot be made: ')
