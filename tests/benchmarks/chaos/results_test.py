"""Comparing runs bit for bit."""

import numpy as np
import pytest

from benchmarks.chaos import results


def test_what_differs_is_named():
  expected = {'final': {'top1': 0.5}, "['params']": ('float32', (2,), 'a')}
  assert results.describe_difference(expected, dict(expected)) == ''
  actual = {**expected, "['params']": ('float32', (2,), 'b')}
  said = results.describe_difference(expected, actual)
  assert said == "1 of 2 parts differ, such as ['params']"
  assert results.describe_difference(expected, {'final': {'top1': 0.5}}) == said


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_an_array_that_is_not_finite_is_named(monkeypatch, value):
  arrays = [('good', np.ones(3)), ('bad', np.array([0.0, value]))]
  monkeypatch.setattr(results, 'read_arrays', lambda *_: iter(arrays))
  assert results.find_nonfinite(None, 1) == ['bad']
