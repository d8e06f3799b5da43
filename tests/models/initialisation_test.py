"""How every parameter starts: its distribution and deviation, by its fan.

Against formulas, with bounds of five standard deviations of what is estimated.
"""

import math
from unittest import mock

import jax
import numpy as np
import pytest

from coatnet_jax.models import variants
from coatnet_jax.models.factory import create_model
from coatnet_jax.tree_names import flatten

# Of the normal distribution that is cut off at two of its deviations.
_CUT_OFF_DEVIATION = 0.87962566

# kind of distribution: its kurtosis, and the largest value in deviations.
_SHAPES = {
  'normal': (3.0, math.inf),
  'cut off': (2.37, 2 / _CUT_OFF_DEVIATION),
  'uniform': (1.8, math.sqrt(3)),
}


def _create_model(kernel_init):
  name = f'started_{kernel_init}'
  transformer = variants.TransformerOptions(
    layer_scale=1e-5,
    relative_position='mlp' if kernel_init == 'timm' else 'table',
  )
  variant = variants.Variant(
    stem=variants.StemOptions(widths=(16, 32)),
    stages=(
      variants.Stage((variants.BlockGroup('mbconv', 1, 64),), 1),
      variants.Stage((variants.BlockGroup('transformer', 1, 96),)),
    ),
    transformer=transformer,
    kernel_init=kernel_init,
  )
  with mock.patch.dict(variants.VARIANTS, {name: variant}):
    return create_model(name, num_classes=50, head_bias_init=-2.0)


def _expect(kernel_init, name, shape):
  """Returns the kind of distribution of a kernel, and its deviation."""
  if name.endswith('relative_position_bias_table'):
    return 'normal', 0.02
  # Of the kernel as one matrix; a window counts on both sides.
  window = math.prod(shape[:2]) if len(shape) == 4 else 1
  fan_in, fan_out = window * shape[-2], window * shape[-1]
  if 'qkv' in name:
    fan_in, fan_out = shape[0], math.prod(shape[1:])
  if kernel_init == 'normal_0.02':
    return 'normal', 0.02
  if kernel_init == 'lecun_normal':
    return 'cut off', fan_in**-0.5
  if name.startswith('head_'):
    return 'uniform', (3 * fan_in) ** -0.5
  if name.startswith('s2_'):
    return 'uniform', (2 / (fan_in + fan_out)) ** 0.5
  if 'depthwise' in name:
    return 'normal', (2 / 9) ** 0.5
  return 'normal', (2 / fan_out) ** 0.5


@pytest.mark.parametrize('kernel_init', ['normal_0.02', 'lecun_normal', 'timm'])
def test_every_parameter_starts_by_its_formula(kernel_init):
  model = _create_model(kernel_init)
  images = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
  initialise = jax.jit(lambda key: model.lazy_init(key, images, train=False))
  params = initialise(jax.random.key(1))['params']
  seen = set()
  for name, leaf in flatten(params).items():
    values, last = np.asarray(leaf, np.float64), name.rsplit('/', 1)[-1]
    constant = {'scale': 1.0, 'gamma': 1e-5, 'bias': 0.0}
    constant = -2.0 if name == 'head_logits/bias' else constant.get(last)
    if constant is not None:
      assert np.all(values == np.float32(constant)), name
      continue
    kind, deviation = _expect(kernel_init, name, values.shape)
    _check(values.ravel() / deviation, kind, name)
    seen.add(kind)
  assert (
    len(seen) == {'normal_0.02': 1, 'lecun_normal': 2, 'timm': 2}[kernel_init]
  )


def _check(values, kind, name):
  kurtosis, largest = _SHAPES[kind]
  count = values.size
  assert abs(values.mean()) < 5 * count**-0.5, name
  spread = ((kurtosis - 1) / count) ** 0.5
  assert abs((values**2).mean() - 1) < 5 * spread, name
  assert np.abs(values).max() <= largest * (1 + 1e-5), name
  if count > 1000:
    # The largest of so many are not those of a narrower distribution.
    assert np.abs(values).max() > 0.9 * min(largest, 3), name
    found = (values**4).mean() / (values**2).mean() ** 2
    assert abs(found - kurtosis) < 5 * (24 / count) ** 0.5, name
