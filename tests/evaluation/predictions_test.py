import dataclasses

import jax
import numpy as np
import pytest

from coatnet_jax.errors import UserError
from coatnet_jax.evaluation.data_sets import EvaluationData
from coatnet_jax.evaluation.label_spaces import match_classes
from coatnet_jax.evaluation.predictions import predict_source
from coatnet_jax.training.losses import LossOptions
from tests.evaluation.painted_images import NAMES, SCALE, Painted


def _predict(trained, source, data, batch_size=4):
  evaluation = EvaluationData(
    source=source,
    data=data,
    space=match_classes(source.class_names, trained.class_names, report=print),
    preprocessing=trained.preprocessing,
    rules=(),
  )
  left_out = []
  batches = list(
    predict_source(
      trained,
      evaluation,
      batch_size=batch_size,
      report_undecodable=left_out.append,
    )
  )
  fields = zip(*batches, strict=True)
  return type(batches[0])(*map(np.concatenate, fields)), left_out


def _log_probabilities(shown, candidates):
  logits = -SCALE * np.abs(np.array(candidates) - shown - 0.1)
  return logits - np.log(np.exp(logits).sum())


@pytest.mark.parametrize('batch_size', [1, 4, 64])
def test_every_example_is_predicted_once(
  create_trained, data_options, batch_size
):
  shown = [0, 3, 6, 2, 2, 5]
  source = Painted([0, 3, 5, 2, 1, 6], shown)
  found, left_out = _predict(
    create_trained(NAMES), source, data_options(), batch_size=batch_size
  )
  assert left_out == []
  np.testing.assert_array_equal(found.indices, range(6))
  np.testing.assert_array_equal(found.labels, source.labels)
  assert found.valid.all()
  for row, (label, seen) in enumerate(zip(source.labels, shown)):
    expected = _log_probabilities(seen, range(7))
    order = np.argsort(-expected)[:5]
    np.testing.assert_array_equal(found.classes[row], order)
    assert found.confidences[row] == pytest.approx(
      np.exp(expected).max(), rel=1e-5
    )
    assert found.losses[row] == pytest.approx(-expected[label], rel=1e-5)


def test_only_candidates_compete(create_trained, data_options):
  source = Painted([0, 1], [2, 3], class_names=('b', 'f'))
  found, _ = _predict(create_trained(NAMES), source, data_options())
  # b and f are 1 and 5; 2 is nearer to 1, 3 (and a tenth) to 5.
  np.testing.assert_array_equal(found.classes, [[0, 1], [1, 0]])
  for row, seen in enumerate([2, 3]):
    expected = _log_probabilities(seen, [1, 5])
    assert found.confidences[row] == pytest.approx(
      np.exp(expected.max()), rel=1e-5
    )
    assert found.losses[row] == pytest.approx(-expected[row], rel=1e-5)


def test_sigmoid_has_probabilities_of_its_own(create_trained, data_options):
  trained = dataclasses.replace(
    create_trained(NAMES),
    loss=LossOptions(kind='sigmoid', label_smoothing=0.0),
  )
  found, _ = _predict(trained, Painted([4], [4]), data_options())
  expected = 1 / (1 + np.exp(SCALE * 0.1))
  assert found.confidences[0] == pytest.approx(expected, rel=1e-5)


def test_what_cannot_be_decoded_is_left_out(create_trained, data_options):
  shown = [index % 7 for index in range(120)]
  labels = list(shown)
  shown[77] = None
  source = Painted(labels, shown)
  found, left_out = _predict(
    create_trained(NAMES), source, data_options(), batch_size=50
  )
  assert left_out == [77]
  assert sorted({*range(120)} - {*found.indices.tolist()}) == [77]
  np.testing.assert_array_equal(found.classes[:, 0], found.labels)


def test_many_that_cannot_be_decoded_are_a_sentence(
  create_trained, data_options
):
  source = Painted([0, 1, 2], [0, None, None])
  with pytest.raises(UserError, match=r'2 of 3 images cannot.*\n  picture 1'):
    _predict(create_trained(NAMES), source, data_options())


def test_a_second_data_set_compiles_nothing(
  create_trained, data_options, caplog
):
  trained = create_trained(tuple('abcdefghij'))
  source = Painted([0, 1], [0, 1], class_names=trained.class_names)
  compiled = []
  for _ in range(2):
    caplog.clear()
    with jax.log_compiles():
      _predict(trained, source, data_options())
    compiled.append(
      [r for r in caplog.messages if 'Compiling jit(predict_step)' in r]
    )
  assert len(compiled[0]) == 1
  assert compiled[1] == []
