import importlib.util

import pytest

from coatnet_jax.errors import UserError
from coatnet_jax.export import formats


@pytest.mark.parametrize('name', ['stablehlo', 'savedmodel'])
def test_what_needs_no_more_packages(name):
  assert formats.check_format(name, 'float32').packages == ()


def test_an_unknown_format_or_precision():
  with pytest.raises(UserError, match='did you mean onnx'):
    formats.check_format('onx', 'float32')
  with pytest.raises(UserError, match='did you mean float16'):
    formats.check_format('onnx', 'float6')


def test_a_precision_that_a_format_does_not_have():
  with pytest.raises(
    UserError, match='take one of the formats onnx and tflite'
  ):
    formats.check_format('stablehlo', 'int8')


@pytest.mark.parametrize(
  ('name', 'package'), [('onnx', 'onnx'), ('tflite', 'ai-edge-litert')]
)
def test_a_missing_package(name, package, monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda _: None)
  with pytest.raises(UserError) as info:
    formats.check_format(name, 'float32')
  assert f'needs the package {package}, which' in str(info.value)
  assert 'pip install -r requirements-export.txt' in str(info.value)
