"""Pictures of noise with one planted object that decides the class.

And small models trained on them. A map means something where its mass lies on
the object: on the cells that the object reaches into, which is its box enlarged
by less than one cell of the map on each side.
"""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax

from coatnet_jax.models import variants
from coatnet_jax.models.architecture import HeadOptions
from coatnet_jax.models.factory import create_model
from coatnet_jax.models.mbconv import MBConvOptions
from tests.quick_models import apply_in_training

SIZE, NUM_CLASSES = 48, 4


class Kind(NamedTuple):
  """Pictures of one kind.

  Attributes:
    side: side of the object in pixels.
    noise: standard deviation of the noise.
  """

  side: int
  noise: float


KINDS = {
  'planted_attention': Kind(side=12, noise=0.5),
}

_CONVOLUTIONS = variants.Stage((variants.BlockGroup('mbconv', 1, 24),))
_SETTINGS = {
  'stem': variants.StemOptions(widths=(16,)),
  'kernel_init': 'lecun_normal',
  # Its gates would tell every position what is elsewhere.
  'mbconv': MBConvOptions(se_ratio=0.0),
  'head': HeadOptions(pre_logits=False),
  'image_size': (SIZE, SIZE),
}
VARIANTS = {
  # 12x12 in S1, 6x6 in S2.
  'planted_attention': variants.Variant(
    stages=(
      _CONVOLUTIONS,
      variants.Stage((variants.BlockGroup('transformer', 2, 64),)),
    ),
    **_SETTINGS,
  ),
}


def draw_object(label: int, side: int) -> np.ndarray:
  """Returns an object, [side, side]: stripes, a checkerboard or a disc."""
  rows = np.broadcast_to(np.arange(side)[:, None] // 2 % 2, (side, side))
  distance = np.hypot(*(np.indices((side, side)) - (side - 1) / 2))
  objects = (rows, rows.T, (rows + rows.T) % 2, distance < side / 2)
  return 4.0 * objects[label] - 2.0


def make_pictures(
  rng: np.random.Generator, count: int, kind: Kind
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns pictures [B, SIZE, SIZE, 3], labels [B] and corners [B, 2]."""
  pictures = kind.noise * rng.normal(size=(count, SIZE, SIZE, 3))
  labels = rng.integers(0, NUM_CLASSES, count)
  corners = rng.integers(0, SIZE - kind.side + 1, (count, 2))
  for picture, label, (top, left) in zip(pictures, labels, corners):
    area = picture[top : top + kind.side, left : left + kind.side]
    area += draw_object(label, kind.side)[..., None]
  return pictures.astype(np.float32), labels, corners


def create_planted_model(name: str) -> nn.Module:
  """Returns the model of a variant, which must have been made known."""
  return create_model(name, num_classes=NUM_CLASSES, batch_norm_momentum=0.9)


def initialize(model: nn.Module, seed: int) -> dict:
  """Returns variables that are random."""
  init = jax.jit(model.init, static_argnames='train')
  pictures = np.zeros((1, SIZE, SIZE, 3), np.float32)
  return init(jax.random.key(seed), pictures, train=False)


def train(model: nn.Module, kind: Kind, num_steps: int) -> dict:
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
    pictures, labels, _ = make_pictures(rng, 32, kind)
    variables, opt_state = step(variables, opt_state, pictures, labels)
  return variables


def measure_mass(maps: np.ndarray, corners: np.ndarray, side: int) -> float:
  """Returns the mean part of the maps' mass that lies on the objects.

  A map that is 0 everywhere has none there.

  Args:
    maps: [B, h, w], at least 0.
    corners: top and left of each object, [B, 2].
    side: side of the objects, in pixels.
  """
  total = np.maximum(maps.sum((1, 2)), 1e-12)
  on_object = np.where(find_cells(maps.shape[1], corners, side), maps, 0)
  return float((on_object.sum((1, 2)) / total).mean())


def find_cells(cells: int, corners: np.ndarray, side: int) -> np.ndarray:
  """Returns which cells the objects reach into, [B, cells, cells] bool."""
  cell = SIZE / cells
  starts = cell * np.arange(cells)
  rows, columns = (
    (starts + cell > corner[:, None]) & (starts < corner[:, None] + side)
    for corner in corners.T
  )
  return rows[:, :, None] & columns[:, None]
