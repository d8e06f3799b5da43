"""Tiny runs from a config, as train.py makes them, and what they show.

The wires are real: `create_run`, the loop, its batches, the jitted step.
What costs time and is not looked at is replaced by a stand-in: the network's
steps where batches or the loop are, the pictures where what becomes of them is.
"""

import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import jax
import numpy as np
from ml_collections import ConfigDict

import train
from coatnet_jax import checkpoint, run
from coatnet_jax.data.image_source import ImageSource
from coatnet_jax.training import reporting
from configs import base
from tests.wiring import registry

# Variants that the conftest adds.
CONVOLUTIONS, ATTENTION = 'wired_convolutions', 'wired_attention'

NUM_CLASSES = 4
BATCH_SIZE = 8
# Nothing random, nothing mixed, nothing smoothed: a test adds what it is of.
_PLAIN = {
  'model.name': CONVOLUTIONS,
  'model.stochastic_depth_rate': 0.0,
  'model.batch_norm_momentum': 0.75,
  'data.source': 'synthetic',
  'data.synthetic_examples': 16,
  'data.synthetic_classes': NUM_CLASSES,
  'data.synthetic_image_size': (8, 8),
  'preprocessing.image_size': (8, 8),
  'preprocessing.mean': (0.0, 0.0, 0.0),
  'preprocessing.std': (1.0, 1.0, 1.0),
  'preprocessing.eval_crop_fraction': 1.0,
  'augmentation.crop_area': (1.0, 1.0),
  'augmentation.crop_aspect_ratio': (1.0, 1.0),
  'augmentation.horizontal_flip': False,
  'augmentation.randaugment_layers': 0,
  'mixup.mixup_alpha': 0.0,
  'loss.label_smoothing': 0.0,
  'schedule.peak_learning_rate': 0.01,
  'schedule.min_learning_rate': 0.0,
  'schedule.decay': 'constant',
  'optimizer.weight_decay': 0.0,
  'optimizer.clip_norm': 0.0,
  'training.num_steps': 4,
  'training.global_batch_size': BATCH_SIZE,
  'evaluation.every_epochs': 0.0,
  'evaluation.global_batch_size': 8,
  'checkpoint.every_seconds': 0.0,
}


def create_config(changes: Mapping[str, Any] | None = None) -> ConfigDict:
  """Returns the plain config with changes by dotted key."""
  config = base.get_config()
  config.update_from_flattened_dict({**_PLAIN, **(changes or {})})
  registry.record(config)
  return config


def create_run(
  changes: Mapping[str, Any] | None = None,
  *,
  source: ImageSource | None = None,
  **options: Any,
) -> run.Run:
  """Resolves the plain config with changes, on the data or on a source."""
  if source is not None:
    options['sources'] = (source, source)
  return run.create_run(create_config(changes), **options)


class Pictures(ImageSource):
  """Pictures that a test made.

  Number k is of class k modulo 4, unless labels say more.
  """

  description = 'pictures'

  def __init__(self, images, labels=None):
    self.class_names = tuple('abcd')
    self._images = images
    self._labels = labels or [k % NUM_CLASSES for k in range(len(images))]

  def __len__(self):
    return len(self._images)

  def __getitem__(self, index):
    return {'image': self._images[index], 'label': self._labels[index]}

  def describe(self, index):
    return f'picture {index}'


@dataclasses.dataclass
class Recorded:
  """What a loop did.

  Attributes:
    images: of each step, [B, H, W, 3] uint8.
    labels: of each step, [B].
    evaluated: the steps after which was evaluated.
    eval_batches: of the last evaluation.
    saved: the steps that were saved.
  """

  images: list[np.ndarray] = dataclasses.field(default_factory=list)
  labels: list[np.ndarray] = dataclasses.field(default_factory=list)
  evaluated: list[int] = dataclasses.field(default_factory=list)
  eval_batches: list[dict] = dataclasses.field(default_factory=list)
  saved: list[int] = dataclasses.field(default_factory=list)


def record_loop(a_run: run.Run) -> Recorded:
  """Runs the loop to its end, with a network that does nothing."""
  recorded = Recorded()
  loop = {'step': 0}

  def take_step(state, batch):
    recorded.images.append(jax.device_get(batch['image']))
    recorded.labels.append(jax.device_get(batch['label']))
    loop['step'] += 1
    return state, {'loss': np.float32(1)}

  def evaluate(variables, batches, **options):
    recorded.evaluated.append(loop['step'])
    recorded.eval_batches = list(batches)
    return {'loss': 1.0, 'top1': 0.5, 'top5': 0.5, 'count': 1}

  log = mock.create_autospec(reporting.TrainingLog, instance=True)
  log.progress = {'examples': 0, 'seconds': 0.0, 'seconds_in_steps': 0.0}
  log.is_due.return_value = False
  state = types.SimpleNamespace(step=0, eval_variables={})
  with mock.patch.object(train, 'evaluate', evaluate):
    train.train_loop(
      a_run,
      state,
      checkpoint.Progress(),
      take_step,
      log=log,
      should_save=lambda step: False,
      save=lambda state, *, step, **_: recorded.saved.append(step),
      profile=lambda step: None,
    )
  return recorded


def read_images(
  changes: Mapping[str, Any], source: ImageSource, num_steps: int = 1
) -> np.ndarray:
  """Returns the training pictures of the first steps, one after the other."""
  changes = {'training.num_steps': num_steps, **changes}
  return np.concatenate(record_loop(create_run(changes, source=source)).images)


def collect_rates(a_run: run.Run, num_steps: int | None = None) -> list[float]:
  """Returns the learning rate that the optimizer applies at each step.

  Adam moves a parameter whose gradient never changes by just that.
  """
  params = {'head_logits': {'bias': np.zeros(1, np.float32)}}
  grads = {'head_logits': {'bias': np.ones(1, np.float32)}}
  opt_state, rates = a_run.tx.init(params), []
  update = jax.jit(a_run.tx.update)
  for _ in range(num_steps or a_run.num_steps):
    updates, opt_state = update(grads, opt_state, params)
    rates.append(-float(updates['head_logits']['bias'][0]))
  return rates


def apply_updates(
  a_run: run.Run,
  params: Any,
  grads: list[Any],
) -> list[Any]:
  """Returns the optimizer's updates for gradients, one after the other."""
  opt_state, results = a_run.tx.init(params), []
  update: Callable[..., Any] = jax.jit(a_run.tx.update)
  for grad in grads:
    updates, opt_state = update(grad, opt_state, params)
    params = jax.tree.map(np.add, params, updates)
    results.append(jax.device_get(updates))
  return results
