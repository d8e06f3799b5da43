"""Against XLA's own grouped convolution, and which form runs where."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from coatnet_jax.ops.depthwise_conv import depthwise_conv


def _reference(x, kernel, stride):
  kh, kw = kernel.shape[:2]
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    [(kh // 2, kh // 2), (kw // 2, kw // 2)],
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=x.shape[-1],
    precision='highest',
  )


def _inputs(shape, kernel_size, stride=1, dtype=jnp.float32):
  keys = jax.random.split(jax.random.key(0), 3)
  x = jax.random.normal(keys[0], shape, dtype)
  kernel = jax.random.normal(keys[1], (*kernel_size, 1, shape[-1]))
  b, h, w, c = shape
  out = (b, -(-h // stride), -(-w // stride), c)
  return x, kernel, jax.random.normal(keys[2], out, dtype)


@functools.partial(jax.jit, static_argnums=(0, 4))
def _value_and_gradients(conv, x, kernel, grad, stride):
  value, pullback = jax.vjp(lambda *a: conv(*a, stride), x, kernel)
  return value, *pullback(grad)


@pytest.mark.parametrize(
  ('shape', 'kernel_size', 'stride'),
  [
    ((2, 8, 7, 8), (3, 3), 1),
    ((2, 8, 7, 8), (3, 3), 2),
    ((3, 5, 8, 4), (5, 3), 2),
    ((2, 9, 8, 4), (7, 7), 1),
    ((2, 9, 8, 4), (7, 7), 2),
    ((1, 1, 2, 3), (3, 3), 1),
    ((1, 1, 2, 3), (3, 3), 2),
  ],
)
def test_equals_xlas_own(shape, kernel_size, stride):
  inputs = _inputs(shape, kernel_size, stride)
  found = _value_and_gradients(depthwise_conv, *inputs, stride)
  expected = _value_and_gradients(_reference, *inputs, stride)
  for f, e in zip(found, expected, strict=True):
    np.testing.assert_allclose(f, e, atol=2e-5 * float(jnp.abs(e).max()))


def test_an_even_size_is_padded_before_and_after():
  """XLA's 'SAME' pads only after, and puts the windows on other pixels."""
  x = jnp.arange(1.0, 5.0).reshape(1, 1, 4, 1)
  kernel = jnp.asarray([0.0, 0, 0, 1, 10, 100, 0, 0, 0]).reshape(3, 3, 1, 1)
  found = depthwise_conv(x, kernel, stride=2)
  assert found.ravel().tolist() == [210.0, 432.0]


@pytest.mark.parametrize('stride', [1, 2])
def test_bfloat16_sums_in_float32(stride):
  x, kernel, grad = _inputs((2, 14, 14, 8), (3, 3), stride, jnp.bfloat16)
  value, grad_x, grad_kernel = _value_and_gradients(
    depthwise_conv, x, kernel, grad, stride
  )
  float32 = x.astype(jnp.float32), kernel, grad.astype(jnp.float32)
  expected = _value_and_gradients(_reference, *float32, stride)
  assert (value.dtype, grad_x.dtype) == (jnp.bfloat16, jnp.bfloat16)
  assert grad_kernel.dtype == jnp.float32
  for found, e in zip((value, grad_x), expected[:2]):
    np.testing.assert_allclose(
      found.astype(np.float32), e, rtol=8e-3, atol=1e-2
    )
  np.testing.assert_allclose(grad_kernel, expected[2], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize('stride', [1, 2])
def test_the_platform_decides_when_lowering(stride):
  """One trace becomes shifts on a CPU and a grouped convolution on a TPU."""
  x, kernel, _ = _inputs((2, 8, 8, 16), (3, 3))
  conv = functools.partial(depthwise_conv, stride=stride)
  traced = jax.jit(jax.grad(lambda *a: conv(*a).sum(), (0, 1))).trace(x, kernel)
  cpu = traced.lower(lowering_platforms=('cpu',)).as_text()
  tpu = traced.lower(lowering_platforms=('tpu',)).as_text()
  assert 'stablehlo.convolution' not in cpu
  assert 'stablehlo.convolution' in tpu
