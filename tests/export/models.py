"""Models with random weights, and what they say."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from coatnet_jax import inference
from coatnet_jax.checkpoints.trained_model import TrainedModel
from coatnet_jax.data.augmentation import PreprocessingOptions
from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.models.factory import create_model
from coatnet_jax.models.variables import abstract_variables
from coatnet_jax.training.losses import LossOptions
from tests.quick_configs import create_quick_config

CLASSES = ('ant', 'bee\n', 'cat "é"')


def draw_variables(model, image_size):
  """Returns random variables, of which none is the neutral element."""
  rng = np.random.default_rng(0)

  def draw(path, leaf):
    name = path[-1].key
    if name in ('var', 'scale', 'gamma'):
      return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
    size = leaf.size // leaf.shape[-1] if name == 'kernel' else 4
    return rng.normal(0, max(size, 1) ** -0.5, leaf.shape).astype(np.float32)

  shapes = abstract_variables(model, image_size)
  return jax.tree_util.tree_map_with_path(draw, shapes)


def create_trained(name, image_size, **overrides):
  """Returns a model with random weights as one that was trained."""
  model = create_model(name, num_classes=len(CLASSES), **overrides)
  config = ConfigDict(create_quick_config({'model.name': name}))
  preprocessing = PreprocessingOptions(**config.preprocessing)
  return TrainedModel(
    model=model,
    variables=jax.tree.map(jnp.asarray, draw_variables(model, image_size)),
    preprocessing=dataclasses.replace(preprocessing, image_size=image_size),
    loss=LossOptions(kind='softmax', label_smoothing=0.0),
    class_names=CLASSES,
    config=config,
    step=3,
    path='/tmp/no/checkpoint',
    mesh=mesh_lib.create_mesh(replica=1, data=-1, fsdp=1, tensor=1),
    changes=(),
  )


def compute_logits(trained, images):
  """Returns what the model itself says, [N, K]."""
  return np.asarray(
    jax.jit(
      lambda x: inference.compute_logits(
        trained.variables,
        x,
        model=trained.model,
        preprocessing=trained.preprocessing,
      )
    )(images)
  )


def assert_close(logits, expected, part=1e-5):
  """Compares logits, by a part of their range."""
  span = np.ptp(expected)
  assert span > 0.1
  np.testing.assert_allclose(logits, expected, rtol=0, atol=part * span)
