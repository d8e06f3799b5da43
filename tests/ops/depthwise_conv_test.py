"""Against XLA's own grouped convolution, and which form runs where."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from coatnet_jax.models.factory import create_model
from coatnet_jax.ops.depthwise_conv import depthwise_conv
from tests.quick_models import apply_in_training


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


def _value_and_gradients(conv, x, kernel, grad, stride):
  @jax.jit  # Anew, since what it is traced to depends on `platform`.
  def compute(x, kernel, grad):
    value, pullback = jax.vjp(lambda *a: conv(*a, stride), x, kernel)
    return value, *pullback(grad)

  return compute(x, kernel, grad)


@pytest.fixture(params=['cpu', 'cuda'])
def platform(request, monkeypatch):
  """Computes in the form of a platform, on a CPU."""

  def choose(*arrays, **forms):
    return forms.get(request.param, forms['default'])(*arrays)

  monkeypatch.setattr(lax, 'platform_dependent', choose)
  return request.param


@functools.cache
def _expected(shape, kernel_size, stride):
  inputs = _inputs(shape, kernel_size, stride)
  return _value_and_gradients(_reference, *inputs, stride)


@pytest.mark.parametrize(
  ('shape', 'kernel_size', 'stride'),
  [
    ((2, 8, 7, 8), (3, 3), 1),
    ((2, 8, 7, 8), (3, 3), 2),
    ((3, 5, 8, 4), (5, 3), 2),
    ((2, 9, 8, 4), (7, 7), 1),
    ((2, 9, 8, 4), (7, 7), 2),
    ((2, 7, 4, 3), (1, 5), 2),
    ((2, 8, 7, 3), (5, 5), 3),
    ((1, 1, 2, 3), (3, 3), 1),
    ((1, 1, 2, 3), (3, 3), 2),
  ],
)
@pytest.mark.usefixtures('platform')
def test_equals_xlas_own(shape, kernel_size, stride):
  inputs = _inputs(shape, kernel_size, stride)
  found = _value_and_gradients(depthwise_conv, *inputs, stride)
  expected = _expected(shape, kernel_size, stride)
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


@pytest.mark.usefixtures('platform')
def test_the_gradient_of_a_kernel_is_summed_in_float32():
  x, kernel, grad = _inputs((2, 14, 14, 8), (3, 3), 2, jnp.bfloat16)
  *_, found = _value_and_gradients(depthwise_conv, x, kernel, grad, 2)
  float32 = x.astype(jnp.float32), kernel, grad.astype(jnp.float32)
  *_, expected = _value_and_gradients(_reference, *float32, 2)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


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


GROUPS = re.compile(
  r'stablehlo\.convolution.*[{ ]batch_group_count = (\d+) : i64, '
  r'feature_group_count = (\d+) : i64.* -> tensor<(\d+)x(\d+)x(\d+)x\d+x'
)


def _find_kernel_gradients(text):
  """Returns the convolutions that cuDNN may take a launch a channel for."""
  found = [tuple(map(int, groups)) for groups in GROUPS.findall(text)]
  assert len(found) == text.count('stablehlo.convolution') > 0
  return [
    (batch_groups, feature_groups, shape)
    for batch_groups, feature_groups, *shape in found
    # A gradient of the input or an output has the batch where a kernel's
    # gradient has its rows.
    if batch_groups > 1 or (feature_groups > 1 and shape[0] <= 7)
  ]


@pytest.mark.parametrize('kernel_size', [3, 7])
@pytest.mark.parametrize('stride', [1, 2])
def test_on_a_gpu_no_kernel_gradient_is_a_grouped_convolution(
  kernel_size, stride
):
  conv = functools.partial(depthwise_conv, stride=stride)
  gradient = jax.jit(jax.grad(lambda *a: conv(*a).sum(), (0, 1)))
  for batch, size, channels in ((16, 32, 8), (1024, 512, 2048)):
    x = jax.ShapeDtypeStruct((batch, size, size, channels), jnp.bfloat16)
    kernel = jax.ShapeDtypeStruct(
      (kernel_size, kernel_size, 1, channels), jnp.float32
    )
    lowered = gradient.trace(x, kernel).lower(lowering_platforms=('cuda',))
    assert _find_kernel_gradients(lowered.as_text()) == []


@pytest.mark.slow
@pytest.mark.parametrize('name', ['coatnet_0', 'coatnet_0_224'])
def test_a_models_gradients_on_a_gpu(name):
  model = create_model(name, dtype='bfloat16')
  images = jax.ShapeDtypeStruct((256, 224, 224, 3), jnp.float32)
  key = jax.random.key(0)
  init = functools.partial(model.init, train=False)
  variables = jax.eval_shape(init, key, images)

  @jax.jit
  def differentiate(variables, images):
    def compute_loss(variables):
      logits, _ = apply_in_training(model, variables, images, key)
      return logits.sum()

    return jax.grad(compute_loss)(variables)

  traced = differentiate.trace(variables, images)
  text = traced.lower(lowering_platforms=('cuda',)).as_text()
  assert _find_kernel_gradients(text) == []
  # A GPU's compiler refuses one where results are to be repeatable.
  assert 'scatter' not in text
