"""How every kind of parameter starts: its mean, deviation and distribution.

Each parameter of a model must match one line of a table, by its name, and its
values the distribution that stands there: how many lie within so many
deviations, within five deviations of such a count.
"""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from scipy import stats

from coatnet_jax.models.factory import create_model
from coatnet_jax.models.variants import BlockGroup, Stage

STAGES = (
  Stage((BlockGroup('mbconv', 2, 48),)),
  Stage((BlockGroup('mbconv', 1, 64),)),
  Stage((BlockGroup('transformer', 1, 64),)),
  Stage((BlockGroup('transformer', 1, 96),)),
)


def normal(deviation):
  return lambda *_: stats.norm(scale=deviation)


def lecun_normal(fan_in, _):
  """Cut off at two deviations, and sqrt(1 / fan-in) after that."""
  cut_off = stats.truncnorm(-2, 2)
  return stats.truncnorm(-2, 2, scale=fan_in**-0.5 / cut_off.std())


def he_normal_of_outputs(_, fan_out):
  return stats.norm(scale=math.sqrt(2 / fan_out))


def he_normal_of_a_depthwise_kernel(*_):
  return stats.norm(scale=math.sqrt(2 / 9))


def xavier_uniform(fan_in, fan_out):
  limit = math.sqrt(6 / (fan_in + fan_out))
  return stats.uniform(-limit, 2 * limit)


def pytorchs_linear(fan_in, _):
  return stats.uniform(-(fan_in**-0.5), 2 * fan_in**-0.5)


def constant(value):
  return lambda *_: value


CONSTANTS = {
  r'/scale$': constant(1),
  r'head_logits/bias$': constant(-7),
  r'(?<!head_logits)/bias$': constant(0),
  r'/gamma$': constant(1e-6),
  r'^class_token$': constant(0),
}
TABLES = {
  'coatnet_0': {r'kernel$|table$': normal(0.02)},
  'coatnet_mini': {r'kernel$': lecun_normal, r'table$': normal(0.02)},
  'coatnet_rmlp_2_rw_224': {
    r's[012].*depthwise/kernel$': he_normal_of_a_depthwise_kernel,
    r's[012].*(?<!depthwise)/kernel$': he_normal_of_outputs,
    r's[34].*kernel$': xavier_uniform,
    r'head.*kernel$': pytorchs_linear,
  },
  'cnn_stem_vit': {
    r's0_conv_\d/kernel$|head_logits/kernel$': lecun_normal,
    r'block_\d.*kernel$': xavier_uniform,
    r'position_embedding$': normal(0.02),
  },
}


def fans(name, shape):
  """Returns what a kernel adds up, and how often it is read, by its shape."""
  if len(shape) == 4 and 'qkv' not in name:
    inputs, outputs = shape[2:]
    area = shape[0] * shape[1]
    return area * inputs, area * outputs
  if re.search(r'attention/out/kernel', name) and len(shape) == 3:
    return shape[0] * shape[1], shape[2]
  # Queries, keys and values of all heads are one product.
  return shape[0], math.prod(shape[1:])


def initialise(name):
  if name == 'cnn_stem_vit':
    model = create_model(name, num_classes=50, head_bias_init=-7.0)
    size = (56, 56)
  else:
    model = create_model(
      name,
      num_classes=50,
      head_bias_init=-7.0,
      stages=STAGES,
      transformer={'head_dim': 16},
    )
    size = (96, 64)
  image = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
  init = jax.jit(lambda key: model.lazy_init(key, image, train=False))
  # Of numbers that compile quickly.
  variables = init(jax.random.key(0, impl='rbg'))
  return traverse_util.flatten_dict(variables['params'], sep='/')


@pytest.mark.parametrize('name', TABLES)
def test_parameters_start_as_the_table_says(name):
  table = CONSTANTS | TABLES[name]
  parameters = initialise(name)
  seen, starts = set(), []
  for path, values in parameters.items():
    (pattern,) = [pattern for pattern in table if re.search(pattern, path)]
    seen.add(pattern)
    assert values.dtype == jnp.float32
    expected = table[pattern](*fans(path, values.shape))
    if isinstance(expected, int | float):
      assert (values == np.float32(expected)).all(), path
    else:
      check_distribution(np.ravel(values).astype(float), expected, path)
      starts.append(np.ravel(values)[:9].tobytes())
  assert seen >= set(TABLES[name])
  # No two start from one key.
  assert len(set(starts)) == len(starts)


def check_distribution(values, expected, path):
  """Checks mean, deviation and how many values lie within which limits."""
  count, deviation = len(values), expected.std()
  assert abs(values.mean()) <= 5 * deviation / math.sqrt(count), path
  kurtosis = float(expected.stats('k'))
  error = math.sqrt(max(kurtosis + 2, 0.1) / (4 * count))
  assert abs(values.std() / deviation - 1) <= 5 * error, path
  # Uniform numbers end at 1.73 deviations, cut-off normal ones at 2.27.
  for limit in (0.5, 1, 1.5, 1.74, 2, 2.28, 3):
    within = expected.cdf(limit * deviation) - expected.cdf(-limit * deviation)
    found = (np.abs(values) <= limit * deviation).sum()
    spread = math.sqrt(count * within * (1 - within)) if within < 1 else 0
    assert abs(found - count * within) <= 5 * spread + 1e-9 * count, (
      path,
      limit,
    )
