"""What all contestants of a comparison compute, and on what."""

import dataclasses
import json

import numpy as np

from coatnet_jax.strict_json import to_json

NUM_CLASSES = 1000
# Of pixels in 0..1.
MEAN, STD = 0.5, 0.5
# What both sides train with; nothing of it changes how long a step takes.
ADAMW = {
  'learning_rate': 1e-3,
  'b1': 0.9,
  'b2': 0.999,
  'eps': 1e-8,
  'weight_decay': 0.05,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
  """What is computed.

  Attributes:
    model: name of the model, timm's and this project's.
    image_size: (height, width) in pixels.
    batch_size: number of images of a step.
    mode: 'train', a whole step with AdamW, or 'inference'.
    dtype: compute dtype, 'float32' or 'bfloat16'; parameters are float32.
    device: kind of device that computes, 'cpu' or 'gpu'.
    attention: implementation of relative attention in this project's model.
  """

  model: str
  image_size: tuple[int, int]
  batch_size: int
  mode: str
  dtype: str
  device: str
  attention: str = 'auto'

  def to_json(self) -> str:
    """Returns it as `from_json` reads it."""
    return to_json(dataclasses.asdict(self))

  @classmethod
  def from_json(cls, text: str) -> 'Task':
    """Returns what `to_json` wrote."""
    values = json.loads(text)
    return cls(**{**values, 'image_size': tuple(values['image_size'])})

  def describe(self) -> str:
    """Returns it in a line."""
    height, width = self.image_size
    return (
      f'{self.model}, {self.mode}, {self.batch_size:,} images of'
      f' {height}x{width} px, {self.dtype}, on the {self.device.upper()}'
    )


def create_images(task: Task) -> dict[str, np.ndarray]:
  """Returns random images and labels, the same for every contestant.

  Args:
    task: task whose image size and batch size they have.

  Returns:
    'image' [B, H, W, 3] uint8 and 'label' [B] int32.
  """
  rng = np.random.default_rng(0)
  shape = (task.batch_size, *task.image_size, 3)
  return {
    'image': rng.integers(0, 256, shape, np.uint8),
    'label': rng.integers(0, NUM_CLASSES, task.batch_size).astype(np.int32),
  }
