"""Pictures of random blocks, in which one planted object decides the class.

And small models trained on them. A map means something where its mass lies on
the object: on the cells that the object reaches into, which is its box enlarged
by less than one cell of the map on each side.

The blocks are as large and as bright as those that objects are made of, so that
an object does not stand out to a model that is random. Pictures without an
object are a class of their own, so that blocks speak for no object: else a
model may add any number to the logits of all objects at every position, and
Grad-CAM shows it.
"""

import functools

import flax.linen as nn
import jax
import numpy as np
import optax

from coatnet_jax.models import variants
from coatnet_jax.models.architecture import HeadOptions
from coatnet_jax.models.factory import create_model
from coatnet_jax.models.mbconv import MBConvOptions
from tests.quick_models import apply_in_training

# Sides of pictures, objects and blocks, in pixels.
SIZE, SIDE, BLOCK = 48, 16, 2
NUM_OBJECTS = 4
NO_OBJECT = NUM_OBJECTS  # The class of pictures without one.

_SETTINGS = {
  'stem': variants.StemOptions(widths=(16,)),
  'kernel_init': 'lecun_normal',
  # Its gates would tell every position what is elsewhere.
  'mbconv': MBConvOptions(se_ratio=0.0),
  'head': HeadOptions(pre_logits=False),
  'image_size': (SIZE, SIZE),
}


def _create_variant(second_stage: variants.BlockGroup) -> variants.Variant:
  """Returns one of 12x12 positions in S1, and 6x6 in S2."""
  first_stage = variants.BlockGroup('mbconv', 1, 24)
  return variants.Variant(
    stages=(variants.Stage((first_stage,)), variants.Stage((second_stage,))),
    **_SETTINGS,
  )


VARIANTS = {
  'planted_attention': _create_variant(
    variants.BlockGroup('transformer', 2, 64)
  ),
  'planted_convolutions': _create_variant(variants.BlockGroup('mbconv', 2, 48)),
}


def draw_object(label: int) -> np.ndarray:
  """Returns an object, [SIDE, SIDE]: stripes, a checkerboard or a disc."""
  rows = np.broadcast_to(np.arange(SIDE)[:, None] // BLOCK % 2, (SIDE, SIDE))
  distance = np.hypot(*(np.indices((SIDE, SIDE)) - (SIDE - 1) / 2))
  objects = (rows, rows.T, (rows + rows.T) % 2, distance < SIDE / 2)
  return 4.0 * objects[label] - 2.0


def make_pictures(
  rng: np.random.Generator, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns pictures [B, SIZE, SIZE, 3], labels [B] and corners [B, 2].

  Args:
    rng: generator that draws them.
    count: number of pictures, B.
  """
  blocks = 4.0 * rng.integers(0, 2, (count, SIZE // BLOCK, SIZE // BLOCK)) - 2
  pictures = blocks.repeat(BLOCK, axis=1).repeat(BLOCK, axis=2)
  labels = rng.integers(0, NUM_OBJECTS + 1, count)
  corners = BLOCK * rng.integers(0, (SIZE - SIDE) // BLOCK + 1, (count, 2))
  for picture, label, (top, left) in zip(pictures, labels, corners):
    if label != NO_OBJECT:
      picture[top : top + SIDE, left : left + SIDE] = draw_object(label)
  colored = np.repeat(pictures[..., None], 3, axis=-1)
  return colored.astype(np.float32), labels, corners


def create_planted_model(name: str) -> nn.Module:
  """Returns the model of a variant, which must have been made known."""
  return create_model(
    name, num_classes=NUM_OBJECTS + 1, batch_norm_momentum=0.9
  )


def initialize(model: nn.Module, seed: int) -> dict:
  """Returns variables that are random."""
  init = jax.jit(model.init, static_argnames='train')
  pictures = np.zeros((1, SIZE, SIZE, 3), np.float32)
  return init(jax.random.key(seed), pictures, train=False)


def train(model: nn.Module, num_steps: int) -> dict:
  """Returns variables after some steps of 32 pictures."""
  variables = initialize(model, seed=0)
  tx = optax.adam(optax.schedules.cosine_decay_schedule(3e-3, num_steps))
  opt_state = tx.init(variables['params'])

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def step(variables, opt_state, pictures, labels):
    def compute_loss(params):
      logits, updates = apply_in_training(
        model,
        {**variables, 'params': params},
        pictures,
        jax.random.key(0),
      )
      losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
      return losses.mean(), updates

    gradients, updates = jax.grad(compute_loss, has_aux=True)(
      variables['params']
    )
    changes, opt_state = tx.update(gradients, opt_state)
    params = optax.apply_updates(variables['params'], changes)
    return {'params': params, **updates}, opt_state

  rng = np.random.default_rng(0)
  for _ in range(num_steps):
    pictures, labels, _ = make_pictures(rng, 32)
    variables, opt_state = step(variables, opt_state, pictures, labels)
  return variables


def measure_mass(maps: np.ndarray, corners: np.ndarray) -> float:
  """Returns the mean part of the maps' mass that lies on the objects.

  A map that is 0 everywhere has none there.

  Args:
    maps: [B, h, w], at least 0.
    corners: top and left of each object, [B, 2].
  """
  total = np.maximum(maps.sum((1, 2)), 1e-12)
  on_object = np.where(find_cells(maps.shape[1], corners), maps, 0)
  return float((on_object.sum((1, 2)) / total).mean())


def find_cells(cells: int, corners: np.ndarray) -> np.ndarray:
  """Returns which cells the objects reach into, [B, cells, cells] bool."""
  cell = SIZE / cells
  starts = cell * np.arange(cells)
  rows, columns = (
    (starts + cell > corner[:, None]) & (starts < corner[:, None] + SIDE)
    for corner in corners.T
  )
  return rows[:, :, None] & columns[:, None]
