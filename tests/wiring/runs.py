"""Tiny runs from a config, as train.py makes them, and what they show.

The wires are real: `create_run`, the loop, its batches, the jitted step.
What costs time and is not looked at is replaced by a stand-in: the network's
steps where batches or the loop are, the pictures where what becomes of them is.
"""

import dataclasses
import functools
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from unittest import mock

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

import train
from coatnet_jax import run
from coatnet_jax.checkpoints.metadata import Progress
from coatnet_jax.data.image_source import ImageSource
from coatnet_jax.initial_state import abstract_train_state
from coatnet_jax.step_compilation import jit_train_step
from coatnet_jax.training import training_log
from coatnet_jax.training.train_state import TrainState
from configs import base
from tests.wiring import registry
from tests.wiring.pictures import NUM_CLASSES

# Variants that the conftest adds.
CONVOLUTIONS, ATTENTION = 'wired_convolutions', 'wired_attention'
# Has equal blocks, to scan.
MORE_CONVOLUTIONS = 'wired_more_convolutions'

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
  # The loop reads for itself, and nothing ahead.
  'data.num_threads': 0,
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
  'logging.report': False,
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


@dataclasses.dataclass
class Recorded:
  """What a loop did.

  Attributes:
    images: pictures of each step, [B, H, W, 3] uint8.
    labels: classes of each step, [B].
    evaluated: steps after which the run was evaluated.
    eval_batches: batches of the last evaluation.
    saved: steps after which a checkpoint was saved.
  """

  images: list[np.ndarray] = dataclasses.field(default_factory=list)
  labels: list[np.ndarray] = dataclasses.field(default_factory=list)
  evaluated: list[int] = dataclasses.field(default_factory=list)
  eval_batches: list[dict] = dataclasses.field(default_factory=list)
  saved: list[int] = dataclasses.field(default_factory=list)


def record_loop(
  a_run: run.Run, profile: Callable[[int], None] = lambda step: None
) -> Recorded:
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

  log = mock.create_autospec(training_log.TrainingLog, instance=True)
  log.progress = {'examples': 0, 'seconds': 0.0, 'seconds_in_steps': 0.0}
  log.is_due.return_value = False
  state = types.SimpleNamespace(step=0, eval_variables={})
  with mock.patch.object(train, 'evaluate', evaluate):
    train.train_loop(
      a_run,
      state,
      Progress(),
      take_step,
      log=log,
      checkpoints=mock.Mock(
        saved_step=0,
        stops_early=False,
        **{
          'should_save.return_value': False,
          'lacks_evaluation.return_value': False,
          'save.side_effect': lambda _, step, __: recorded.saved.append(step),
        },
      ),
      profile=profile,
      check_lease=lambda: None,
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
  for _ in range(num_steps or a_run.training.num_steps):
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


# Logits of every picture, where the head's kernel is 0.
LOGITS = np.array([0.5, -1.0, 2.0, 0.0], np.float32)


def create_probe(
  a_run: run.Run,
  abstract: TrainState | None = None,
  *,
  step: int = 0,
  head: float = 0.0,
) -> TrainState:
  """Returns a state that shows what a step's pictures and targets are.

  The stem's channels are the red, the step from a pixel to the next, the green
  and the blue of every other pixel, so that its BatchNorm has statistics of
  pixels. The logits are `LOGITS`, so that their gradient has the targets; with
  a `head` above 0 they depend on the picture, by so much. All else is random.

  Args:
    a_run: a run.
    abstract: shapes and dtypes of the run's state, where they are known.
    step: number of steps that were taken before.
    head: scale of the head's kernel.
  """
  if abstract is None:
    _, abstract = abstract_train_state(a_run)
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32),
    abstract.params,
  )
  stem = np.zeros((3, 3, 3, 4), np.float32)
  stem[1, 1] = [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
  stem[1, 2, 0, 1] = -1
  params['s0_conv_0'] = {'kernel': stem}
  shape = params['head_logits']['kernel'].shape
  kernel = head * np.linspace(-1, 1, np.prod(shape), dtype=np.float32)
  params['head_logits'] = {'kernel': kernel.reshape(shape), 'bias': LOGITS}
  batch_stats = jax.tree_util.tree_map_with_path(
    lambda path, leaf: np.full(
      leaf.shape, 'var' in jax.tree_util.keystr(path), np.float32
    ),
    abstract.batch_stats,
  )
  variables = {'params': params, 'batch_stats': batch_stats}
  return abstract.replace(
    step=np.int32(step),
    **variables,
    opt_state=a_run.tx.init(params),
    ema=variables if a_run.training.ema_decay else None,
    key=jax.random.key(a_run.seed),
  )


@dataclasses.dataclass(frozen=True)
class Seen:
  """What one step from a probe shows.

  Attributes:
    before: state before the step, the probe.
    after: state after the step.
    metrics: metrics of the step.
    pixel_mean: mean of the stem's channels, [4], without the running average.
    pixel_var: variance of the stem's channels, [4], likewise.
    targets: mean of the targets, [K].
    features: gradient of the head's kernel, which depends on all blocks.
  """

  before: TrainState
  after: TrainState
  metrics: dict[str, float]
  pixel_mean: np.ndarray
  pixel_var: np.ndarray
  targets: np.ndarray
  features: np.ndarray


class _CompiledRun(NamedTuple):
  run: run.Run
  abstract_state: TrainState
  take_step: Callable[..., Any]


@functools.cache
def _compile_run(changes: tuple[tuple[str, Any], ...]) -> _CompiledRun:
  a_run = create_run(dict(changes))
  _, abstract = abstract_train_state(a_run)
  lowered = jit_train_step(a_run, abstract).lower(
    abstract, a_run.abstract_batch
  )
  return _CompiledRun(a_run, abstract, lowered.compile())


def take_step(
  changes: Mapping[str, Any],
  images: np.ndarray,
  labels: np.ndarray,
  *,
  step: int = 0,
  head: float = 0.0,
) -> Seen:
  """Takes one step of a config's run, compiled once for all tests.

  Args:
    changes: changes of the plain config by dotted key.
    images: pictures, [8, 8, 8, 3] uint8.
    labels: classes, [8] int32.
    step: number of steps that were taken before.
    head: see `create_probe`.
  """
  create_config(changes)  # Recorded for every test, also if compiled before.
  a_run, abstract, compiled = _compile_run(tuple(sorted(changes.items())))
  before = create_probe(a_run, abstract, step=step, head=head)
  batch = {'image': images, 'label': labels}
  after, metrics = compiled(jax.device_put(before), jax.device_put(batch))
  before = before.replace(key=None)  # Was donated.
  after, metrics = jax.device_get((after.replace(key=None), metrics))
  kept = a_run.model.batch_norm_momentum
  stats = after.batch_stats['s0_norm']
  gradient = jax.tree.map(
    lambda mean: mean / (1 - 0.9),
    optax.tree_utils.tree_get(after.opt_state, 'mu'),
  )['head_logits']
  probabilities = (
    np.exp(LOGITS) / np.exp(LOGITS).sum()
    if a_run.loss.kind == 'softmax'
    else 1 / (1 + np.exp(-LOGITS))
  )
  return Seen(
    before=before,
    after=after,
    metrics={name: float(value) for name, value in metrics.items()},
    pixel_mean=stats['mean'] / (1 - kept),
    pixel_var=(stats['var'] - kept) / (1 - kept),
    targets=probabilities - gradient['bias'],
    features=gradient['kernel'],
  )
