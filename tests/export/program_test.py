import jax
import numpy as np
import pytest
import tensorflow as tf
from jax.extend import core

from coatnet_jax.errors import UserError
from coatnet_jax.export import program
from coatnet_jax.export.tensorflow_graph import TensorFlowBackend
from coatnet_jax.export.translation import translate
from tests.export.models import assert_close, compute_logits, create_trained

# Forms of the blocks that differ in their operations.
FORMS = {
  'exact_gelu_strided_depthwise': (
    'tiny',
    {
      'mbconv': {'stride_in': 'depthwise', 'activation': 'gelu'},
      'transformer': {'branch_pool': 'avg', 'activation': 'relu'},
    },
  ),
  'overlapping_pools': (
    'tiny',
    {
      'mbconv': {'stride_in': 'pool', 'branch_pool': 'max_3x3'},
      'transformer': {'relative_position': 'mlp', 'layer_scale': 0.1},
      'head': {'pre_logits': True},
    },
  ),
  'from_the_other_end': (
    'tiny',
    {
      'transformer': {'relative_position': 'table_key_minus_query'},
      'stem': {'activation': 'silu'},
    },
  ),
}


def trace(trained, **options):
  options = {'with_preprocessing': True, **options}
  function = program.create_function(trained, **options)
  images = program.describe_images(
    trained, with_preprocessing=options['with_preprocessing']
  )
  return program.trace_plainly(function, images)


def run(closed, images):
  """Returns what TensorFlow's operations make of images."""

  @tf.function(
    autograph=False,
    input_signature=[tf.TensorSpec((None, *images.shape[1:]), images.dtype)],
  )
  def compute(images):
    return translate(closed, TensorFlowBackend(images, {}), images)

  return compute(images).numpy()


def test_operations_are_plain_and_few(trained):
  closed = trace(trained)
  names = {equation.primitive.name for equation in closed.eqns}
  assert not names & {'jit', 'custom_vjp_call', 'cond', 'name', 'gather'}
  # What follows from the parameters alone is done: no operation of them.
  arrays = set(closed.jaxpr.constvars)
  for equation in closed.eqns:
    assert (
      not {*(v for v in equation.invars if not isinstance(v, core.Literal))}
      <= arrays
    ), equation


def test_operations_say_what_the_model_says(trained, images):
  closed = trace(trained)
  expected = compute_logits(trained, images)
  for size in (1, 5):
    assert_close(run(closed, images[:size]), expected[:size])


@pytest.mark.parametrize('form', FORMS)
def test_every_form_of_a_block(form, images, tiny_variant):
  name, overrides = FORMS[form]
  trained = create_trained(name, (16, 32), **overrides)
  assert_close(run(trace(trained), images), compute_logits(trained, images))


@pytest.mark.parametrize(
  'name', ['cnn_stem_vit', 'coatnext_nano_rw_224', 'test_coatnet']
)
@pytest.mark.slow
@pytest.mark.rotating
def test_other_models(name):
  trained = create_trained(name, (64, 64))
  shape = (2, 64, 64, 3)
  images = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
  assert_close(run(trace(trained), images), compute_logits(trained, images))


def test_bfloat16_becomes_float32(images, tiny_variant):
  trained = create_trained('tiny', (16, 32), dtype='bfloat16')
  exact = create_trained('tiny', (16, 32))
  assert_close(run(trace(trained), images), compute_logits(exact, images))


def test_an_operation_that_is_not_translated():
  shape = jax.ShapeDtypeStruct((2, 4), np.float32)
  closed = program.trace_plainly(lambda x: jax.lax.cumsum(x, axis=1), shape)
  images = tf.zeros((2, 4))
  with pytest.raises(UserError, match="has the operation 'cumsum', which only"):
    translate(closed, TensorFlowBackend(images, {}), images)


@pytest.mark.parametrize(
  'function',
  [
    # Products over any axes, and what has to be broadcast for others.
    lambda x: np.ones((3, 4), np.float32) @ x.T,
    lambda x: jax.numpy.einsum('bi,bj->bij', x, 2 * x),
    lambda x: jax.numpy.einsum('abi,cbi->ac', x[None], x[None] + 1),
    lambda x: jax.numpy.concatenate(
      [x, jax.numpy.broadcast_to(np.float32([[1, 2, 3, 4]]), x.shape)]
    ),
    lambda x: (x[:, None, :] + jax.numpy.zeros((1, 3, 1))).sum(1),
    lambda x: x**3 - 1 / (x * x + 1) ** 2,
    lambda x: jax.lax.pad(x, np.float32(7), [(1, 0, 0), (0, 2, 0)]),
    lambda x: jax.lax.erfc(x).max(1),
  ],
)
def test_an_operation(function):
  x = np.random.default_rng(2).normal(size=(5, 4)).astype(np.float32)
  (size,) = jax.export.symbolic_shape('batch')
  spec = jax.ShapeDtypeStruct((size, 4), np.float32)
  closed = program.trace_plainly(function, spec)
  np.testing.assert_allclose(run(closed, x), function(x), rtol=1e-5, atol=1e-6)
