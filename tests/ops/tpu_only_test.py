import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import pallas as pl

from coatnet_jax.ops.tpu_only import call_tpu_only

X = np.arange(2048.0, dtype=np.float32).reshape(2, 8, 128)
ON_ANOTHER = 'Not on this one.'


def _double(x):
  """A kernel that no CPU takes; of a pair, to see that trees are taken."""

  def kernel(x_ref, y_ref):
    y_ref[...] = 2 * x_ref[...]

  shape = jax.ShapeDtypeStruct(x['x'].shape, x['x'].dtype)
  return {'y': pl.pallas_call(kernel, out_shape=shape)(x['x'])}


def _double_everywhere(x):
  return lax.platform_dependent(
    x,
    tpu=lambda x: call_tpu_only(_double, {'x': x})['y'],
    default=lambda x: 2 * x,
  )


def _double_on_tpu(x):
  return call_tpu_only(_double, {'x': x}, otherwise=ON_ANOTHER)['y']


def test_one_program_for_several_platforms():
  exported = jax.export.export(
    jax.jit(_double_everywhere), platforms=['tpu', 'cpu']
  )(X)
  assert 'tpu_custom_call' in exported.mlir_module()
  np.testing.assert_array_equal(exported.call(X), 2 * X)


@pytest.mark.parametrize('transform', [lambda f: f, jax.jit, jax.vmap])
def test_on_another_platform_it_is_an_error(transform):
  with pytest.raises(ValueError, match=ON_ANOTHER):
    transform(_double_on_tpu)(X)


def test_it_lowers_for_a_tpu_alone():
  export = functools.partial(jax.export.export, jax.jit(_double_on_tpu))
  assert 'tpu_custom_call' in export(platforms=['tpu'])(X).mlir_module()
  with pytest.raises(ValueError, match=ON_ANOTHER):
    export(platforms=['tpu', 'cpu'])(X)


def test_vmap():
  function = jax.vmap(_double_everywhere)
  np.testing.assert_array_equal(function(jnp.asarray(X)), 2 * X)
  exported = jax.export.export(jax.jit(function), platforms=['tpu'])(X)
  assert 'tpu_custom_call' in exported.mlir_module()
