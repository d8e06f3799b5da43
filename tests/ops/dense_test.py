"""Against JAX's own derivative, and which form runs where."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from coatnet_jax.ops.dense import multiply_channels

SHAPES = ((5, 6), (2, 7, 6), (3, 4, 5, 6), (2, 1, 1, 6))


def _differentiate(dot_general, x, kernel, grad):
  dimensions = (((x.ndim - 1,), (0,)), ((), ()))
  out, pullback = jax.vjp(lambda *a: dot_general(*a, dimensions), x, kernel)
  return out, *pullback(grad)


def _inputs(shape, width=4, dtype=jnp.float32):
  keys = jax.random.split(jax.random.key(0), 3)
  shapes = (shape, (shape[-1], width), (*shape[:-1], width))
  return [jax.random.normal(*args, dtype) for args in zip(keys, shapes)]


@pytest.mark.parametrize('form', ['cpu', 'default'])
@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize('shape', SHAPES)
def test_gradients_are_those_of_jax(monkeypatch, shape, dtype, form):
  monkeypatch.setattr(
    lax, 'platform_dependent', lambda *arrays, **forms: forms[form](*arrays)
  )
  inputs = _inputs(shape, dtype=dtype)
  found = _differentiate(multiply_channels, *inputs)
  expected = _differentiate(lax.dot_general, *inputs)
  tolerance = 1e-5 if dtype == jnp.float32 else 2e-2
  for x, y in zip(found, expected, strict=True):
    assert (x.dtype, x.shape) == (y.dtype, y.shape)
    x, y = (np.asarray(a, np.float32) for a in (x, y))
    np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
  ('dot_general', 'is_transposed'),
  [(multiply_channels, False), (lax.dot_general, True)],
)
def test_no_map_is_transposed_on_a_cpu(dot_general, is_transposed):
  """With the plain product one is: what this is for."""
  x, kernel, grad = _inputs((2, 16, 16, 8), 32)

  def compute(x, kernel, grad):
    return _differentiate(dot_general, x, kernel, jnp.tanh(grad))

  text = jax.jit(compute).lower(x, kernel, grad).compile().as_text()
  assert ('f32[32,512]' in text) == is_transposed


@pytest.mark.parametrize(
  ('platform', 'contracting'),
  [
    ('cpu', '[0] x [0]'),
    ('tpu', '[0, 1, 2] x [0, 1, 2]'),
    ('cuda', '[0, 1, 2] x [0, 1, 2]'),
  ],
)
def test_elsewhere_the_product_is_over_the_map(platform, contracting):
  def compute(*inputs):
    multiply = functools.partial(multiply_channels, precision='highest')
    return _differentiate(multiply, *inputs)

  traced = jax.jit(compute).trace(*_inputs((2, 16, 16, 8), 32))
  text = traced.lower(lowering_platforms=(platform,)).as_text()
  products = re.findall(r'stablehlo\.dot_general.*', text)
  assert len(products) == 3
  assert any(f'contracting_dims = {contracting}' in line for line in products)
  assert all('[HIGHEST, HIGHEST]' in line for line in products)


def test_it_is_what_a_dense_layer_asks_for():
  x = jax.random.normal(jax.random.key(0), (2, 3, 4))
  ours, plain = (
    nn.Dense(5, dot_general=dot_general)
    for dot_general in (multiply_channels, None)
  )
  variables = plain.init(jax.random.key(1), x)

  def compute(layer):
    return jax.grad(lambda v: jnp.sin(layer.apply(v, x)).sum())(variables)

  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
    compute(ours),
    compute(plain),
  )
