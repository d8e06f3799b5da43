"""Trains our `test_coatnet` with this project's own step.

What PyTorch does with timm's model is in tests/parity/timm_models.py.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

import coatnet_jax
from coatnet_jax.run import Run, create_run
from coatnet_jax.training.train_state import TrainState
from coatnet_jax.training.train_step import train_step
from configs import base
from tests.golden import timm_cases


def create_training_run() -> Run:
  """Returns a run without augmentation that gives each step the same rate."""
  config = base.get_config()
  config.model.name = 'test_coatnet'
  config.model.stochastic_depth_rate = 0.0
  config.model.batch_norm_momentum = 0.9
  # For its number of classes; no batch is read.
  config.data.source = 'synthetic'
  config.preprocessing.image_size = (160, 160)
  config.preprocessing.mean = config.preprocessing.std = (0.5, 0.5, 0.5)
  config.mixup.mixup_alpha = 0.0
  config.loss.label_smoothing = 0.0
  config.schedule.peak_learning_rate = timm_cases.TRAINING['learning_rate']
  config.schedule.decay = 'constant'
  config.optimizer.weight_decay = timm_cases.TRAINING['weight_decay']
  config.optimizer.clip_norm = timm_cases.TRAINING['clip_norm']
  config.training.num_steps = 20
  config.training.global_batch_size = 4
  return create_run(config)


def train_test_coatnet(path: pathlib.Path) -> np.ndarray:
  """Returns the losses of `timm_cases.create_train_batches`, float32.

  Args:
    path: of a file of timm's `test_coatnet` to start from.
  """
  run = create_training_run()
  variables = coatnet_jax.load_weights(run.model, path)
  state = TrainState(
    step=jnp.int32(0),
    **variables,
    opt_state=run.tx.init(variables['params']),
    ema=None,
    key=jax.random.key(0),
  )
  take_step = jax.jit(functools.partial(train_step, run=run))
  losses = []
  for batch in timm_cases.create_train_batches():
    state, metrics = take_step(state, batch)
    losses.append(metrics['loss'])
  return np.array(losses, np.float32)
