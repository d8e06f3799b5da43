"""Against XLA's own gradient, and which form runs where."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from coatnet_jax.ops.max_pool import max_pool


def _pool_plainly(x, stride):
  return nn.max_pool(x, (stride, stride), (stride, stride))


def _value_and_gradient(pool, x, grad, stride):
  value, pullback = jax.vjp(lambda x: pool(x, stride), x)
  return value, *pullback(grad)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('stride', [2, 3])
def test_is_xlas_own_to_the_last_bit(stride, dtype):
  rng = np.random.default_rng(0)
  # Of few values, so that windows have several largest ones.
  x = jnp.asarray(rng.integers(-3, 3, (2, 2 * stride, 3 * stride, 5)), dtype)
  grad = jnp.asarray(rng.normal(size=(2, 2, 3, 5)), dtype)
  found, expected = (
    _value_and_gradient(pool, x, grad, stride)
    for pool in (max_pool, _pool_plainly)
  )
  for f, e in zip(found, expected, strict=True):
    assert f.dtype == e.dtype
    np.testing.assert_array_equal(f, e)


def test_the_platform_decides_when_lowering():
  """A GPU's compiler refuses a scatter where results are to be repeatable."""
  x = jax.ShapeDtypeStruct((2, 8, 8, 16), jnp.bfloat16)
  gradient = jax.jit(jax.grad(lambda x: max_pool(x, 2).sum()))
  for platform, scatters in (('cpu', 0), ('cuda', 0), ('rocm', 0), ('tpu', 1)):
    text = gradient.trace(x).lower(lowering_platforms=(platform,)).as_text()
    assert text.count('stablehlo.select_and_scatter') == scatters, platform
