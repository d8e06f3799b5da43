import dataclasses
import math

import pytest

from coatnet_jax.export.parity import Parity

GOOD = Parity(
  difference=1e-6,
  same_top1=100,
  count=100,
  top1=0.9,
  own_top1=0.9,
  runtime='runtime 1',
  seconds={1: 0.1},
  own_seconds={1: 0.1},
)


@pytest.mark.parametrize('precision', ['float32', 'float16', 'int8'])
def test_what_is_alike_has_no_fault(precision):
  assert GOOD.find_fault(precision) == ''


@pytest.mark.parametrize(
  ('precision', 'difference'),
  [('float32', 1.1e-5), ('float16', 1.1e-2), ('float32', math.nan)],
)
def test_logits_beyond_the_bar(precision, difference):
  other = dataclasses.replace(GOOD, difference=difference)
  assert 'its logits differ from the model by' in other.find_fault(precision)


def test_int8_may_lose_a_point():
  point = dataclasses.replace(GOOD, difference=0.3, top1=0.89)
  assert point.find_fault('int8') == ''
  more = dataclasses.replace(point, top1=0.88)
  assert more.find_fault('int8') == (
    'it names 2.0% fewer of 100 pictures rightly than the model, and int8 may'
    ' 1%'
  )
  # Better is no fault.
  assert dataclasses.replace(point, top1=0.95).find_fault('int8') == ''


def test_int8_without_labels_names_the_same_classes():
  unknown = dataclasses.replace(GOOD, top1=None, own_top1=None, same_top1=99)
  assert unknown.find_fault('int8') == ''
  assert dataclasses.replace(unknown, same_top1=98).find_fault('int8')
