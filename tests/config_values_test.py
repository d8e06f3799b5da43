"""Every key of a config has a type and a range, checked in the first second.

What is out of range stands here once more, by hand: a range that is too wide
would be noticed, and so is a key that has none.
"""

import math
import re
import time

import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

import train
from coatnet_jax import run as run_lib
from coatnet_jax.data import sources
from coatnet_jax.errors import UserError
from coatnet_jax.values import UnknownNameError
from configs import base, quickstart

HUGE, NAN, INFINITE = 10**400, math.nan, math.inf
NEGATIVE = (-1, HUGE)
NOT_POSITIVE = (0, -1, HUGE)
NO_PART = (-0.1, 1.0, 2.0)
ANY_TEXT = ()

# key -> values of the right type that cannot be.
OUT_OF_RANGE = {
  'seed': (-1, 2**32, HUGE),
  'init_from': ANY_TEXT,
  'compiled_train_step': ANY_TEXT,
  'follow_init_from': (('seed',), ('model',), ('preprocessing.size',)),
  'model.name': ('', 'coatnet_9', 'resnet50'),
  'model.stochastic_depth_rate': NO_PART,
  'model.dtype': ('', 'float16', 'bf16'),
  'model.attention': ('', 'flash', 'Pallas'),
  'model.batch_norm_momentum': (1.5, 1.0, -0.1),
  'model.batch_norm_group_size': NEGATIVE,
  'model.remat': ('', 'all'),
  'model.head_bias_init': (-1e6, 1e6),
  'data.source': ('', 'webdataset', 'TFDS'),
  'data.name': ANY_TEXT,
  'data.data_dir': ANY_TEXT,
  'data.train_split': ANY_TEXT,
  'data.eval_split': ('', ' '),
  'data.eval_fraction': (0.0, 1.1, -0.1),
  'data.num_folds': (*NEGATIVE, 1),
  'data.fold': (*NEGATIVE, 1),
  'data.group_pattern': ('(', '*'),
  'data.sampling': ('', 'equal'),
  'data.synthetic_examples': NOT_POSITIVE,
  'data.synthetic_classes': NOT_POSITIVE,
  'data.synthetic_image_size': ((0, 8), (8, -8), (8, HUGE)),
  'data.cache_mebibytes': (-1.0, 1e30),
  'data.max_damaged_fraction': (-0.1, 1.1),
  'data.max_image_pixels': NOT_POSITIVE,
  'data.changed': ('', 'yes'),
  'data.num_workers': NEGATIVE,
  'data.num_threads': NEGATIVE,
  'data.prefetch_batches': NOT_POSITIVE,
  'preprocessing.image_size': ((0, 8), (8, -8), (10**6, 8), (64.5, 64)),
  'preprocessing.mean': ((124, 116, 104), (-0.1, 0, 0), (0, 0, 1.1)),
  'preprocessing.std': ((58, 57, 57), (0.2, 0.2, 0.0), (-0.2, 0.2, 0.2)),
  'preprocessing.eval_crop_fraction': (0.0, 1.1, -1.0, 1e-30),
  'preprocessing.eval_resize': ('', 'stretch'),
  'preprocessing.interpolation': ('', 'cubic'),
  'augmentation.crop_area': ((0.0, 1.0), (0.5, 1.2), (0.5, 0.2), (-1, 1)),
  'augmentation.crop_aspect_ratio': ((0.0, 1.0), (2.0, 1.0), (1, 1e30)),
  'augmentation.randaugment_layers': NEGATIVE,
  'augmentation.randaugment_magnitude': (-1.0, 30.5),
  'augmentation.randaugment_probability': (-0.1, 1.1),
  'augmentation.randaugment_scale': ('', 'pytorch'),
  'augmentation.random_erasing_probability': (-0.1, 1.1),
  'augmentation.random_erasing_fill': ('', 'pixel'),
  'augmentation.repeats': NOT_POSITIVE,
  'mixup.mixup_alpha': (-0.1, 1e30),
  'mixup.cutmix_alpha': (-0.1, 1e30),
  'mixup.cutmix_probability': (-0.1, 1.1),
  'mixup.group_size': NEGATIVE,
  'loss.kind': ('', 'sofmax'),
  'loss.label_smoothing': NO_PART,
  'loss.class_weights': ('', 'balanced'),
  'schedule.peak_learning_rate': (0.0, -1e-3, 1e39),
  'schedule.min_learning_rate': (-1e-5, 1e39),
  'schedule.warmup_steps': NEGATIVE,
  'schedule.warmup_epochs': (-1.0, 1e30),
  'schedule.max_warmup_fraction': (-0.1, 1.1),
  'schedule.decay': ('', 'cosin'),
  'optimizer.name': ('', 'adam', 'AdamW'),
  'optimizer.b1': NO_PART,
  'optimizer.b2': NO_PART,
  'optimizer.eps': (0.0, -1e-8, 2.0),
  'optimizer.weight_decay': (-0.1, 1e30),
  'optimizer.clip_norm': (-1.0, 1e300),
  'optimizer.layer_decay': (0.0, 1.1, -0.5),
  'optimizer.frozen': (('',), ('(',), ('stem', '*')),
  'training.num_epochs': (-1.0, 1e30),
  'training.num_steps': (*NEGATIVE, 1.5),
  'training.global_batch_size': NOT_POSITIVE,
  'training.gradient_accumulation_steps': NOT_POSITIVE,
  'training.ema_decay': NO_PART,
  'training.skip_nonfinite_steps': NEGATIVE,
  'training.early_stopping_evaluations': NEGATIVE,
  'evaluation.every_epochs': (-1.0, 1e30),
  'evaluation.every_steps': NEGATIVE,
  'evaluation.global_batch_size': NOT_POSITIVE,
  'checkpoint.every_steps': NEGATIVE,
  'checkpoint.every_seconds': (-1.0, 1e30),
  'checkpoint.max_to_keep': NOT_POSITIVE,
  'checkpoint.best_metric': ('', 'top-1', 'accuracy'),
  'logging.every_steps': NOT_POSITIVE,
  'logging.image_grid_size': NEGATIVE,
  'logging.profile_at_step': NEGATIVE,
  'logging.profile_num_steps': NOT_POSITIVE,
  'logging.writers': (('tensorbord',), ('csv', 'Wandb')),
  'sharding.replica': (0, -2, HUGE),
  'sharding.data': (0, -2, HUGE),
  'sharding.fsdp': (0, -2, HUGE),
  'sharding.tensor': (0, -2, HUGE),
}
DEFAULTS = flatten_dict(base.get_config().to_dict(), sep='.')
# No data have to be read for the rest.
NOISE = (
  sources.SyntheticSource(
    'any', num_examples=9, num_classes=2, image_size=(8, 8), seed=0
  ),
) * 2
# Keys that are paths, whose own checks come first.
PATHS = ('init_from', 'compiled_train_step', 'data.data_dir')


def wrong_types(value):
  """Returns values of other types than a key's default is of."""
  if isinstance(value, bool):
    return (1, 0.0, 'True', None, (True,))
  if isinstance(value, int):
    return (True, NAN, INFINITE, '1', None, (1,), 1j)
  if isinstance(value, float):
    return (
      True,
      NAN,
      INFINITE,
      -INFINITE,
      '0.1',
      None,
      (0.1,),
      np.float32(NAN),
    )
  if isinstance(value, str):
    return (3, 0.5, True, None, ('a',))
  if value and isinstance(value[0], float | int):
    wrong = [(), value[1:], (*value, value[0]), None, 3, 'abc', str(value)]
    for item in (NAN, None, 'x', True, (1,)):
      wrong += [(item, *value[1:]), (*value[:-1], item)]
    return wrong
  return ('stem', None, 3, (3,), (None,), b'stem')


def quick_config(changes):
  """The quick start's config, in which a value may be of any type."""
  values = quickstart.get_config().to_dict()
  for key, value in changes.items():
    *parents, last = key.split('.')
    tree = values
    for parent in parents:
      tree = tree[parent]
    tree[last] = value
  return ConfigDict(values, type_safe=False)


def test_there_are_values_out_of_range_of_every_key():
  switches = {key for key, value in DEFAULTS.items() if value in (True, False)}
  switches = {key for key in switches if isinstance(DEFAULTS[key], bool)}
  missing = sorted(DEFAULTS.keys() - OUT_OF_RANGE.keys() - switches)
  assert not missing, f'Say what is out of range of each of these: {missing}'
  assert OUT_OF_RANGE.keys() <= DEFAULTS.keys()


@pytest.mark.parametrize('key', DEFAULTS)
def test_what_cannot_be_is_refused_at_once(key, tmp_path, monkeypatch):
  """In a sentence that names the key; no data are read, nothing is written."""

  def read_nothing(*args):
    raise AssertionError(f'The data were read before the values: {args}')

  monkeypatch.setattr(run_lib, 'create_source', read_nothing)
  workdir = tmp_path / 'run'
  wrong = (*wrong_types(DEFAULTS[key]), *OUT_OF_RANGE.get(key, ()))
  for value in wrong:
    config = quick_config({key: value})
    start = time.monotonic()
    with pytest.raises(UserError) as error:
      train.train_and_evaluate(config, str(workdir))
    assert time.monotonic() - start < 1, value
    message = str(error.value)
    assert key in message, message
    assert message.endswith(('.', '?')), message
    assert len(message) < 2500, message
    if key not in PATHS:
      assert re.search('must be', message), message
    assert not workdir.exists()


@pytest.mark.parametrize(
  ('key', 'value', 'expected'),
  [
    ('preprocessing.image_size', (28.0, 28.0), (28, 28)),
    ('preprocessing.image_size', [28, 28], (28, 28)),
    ('preprocessing.mean', [0, 1, np.float32(0.5)], (0.0, 1.0, 0.5)),
    ('training.global_batch_size', 64.0, 64),
    ('training.global_batch_size', np.int64(64), 64),
    ('training.ema_decay', 0, 0.0),
    ('augmentation.horizontal_flip', np.bool_(False), False),
  ],
)
def test_what_means_the_same_is_taken(key, value, expected):
  section, name = key.split('.')
  run = run_lib.create_run(quick_config({key: value}), sources=NOISE)
  taken = getattr(getattr(run, section), name)
  assert taken == expected
  assert type(taken) is type(expected)
  if isinstance(expected, tuple):
    assert [type(n) for n in taken] == [type(n) for n in expected]


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'training.num_epochs': 3.0}, 'num_steps is 1000 .*num_epochs is 3.0'),
    ({'training.num_steps': 0}, 'set config.training.num_steps or'),
    ({'evaluation.every_epochs': 1.0}, 'every_steps is 200 .*every_epochs is'),
    ({'schedule.warmup_steps': 5}, 'warmup_steps is 5 .*warmup_epochs is 1'),
    (
      {
        'schedule.warmup_epochs': 0.0,
        'schedule.warmup_steps': 1001,
        'schedule.max_warmup_fraction': 0.0,
      },
      r'Warm-up takes 1,001 steps.* config\.schedule\.warmup_steps',
    ),
    ({'schedule.peak_learning_rate': 1e-6}, 'min_learning_rate is .* at most'),
    (
      {'training.gradient_accumulation_steps': 3},
      'multiple of 3, .* parts of config.training.gradient_acc',
    ),
    ({'model.batch_norm_group_size': 100}, 'group_size is 100; it must divide'),
    (
      {
        'model.batch_norm_group_size': 64,
        'training.global_batch_size': 64,
        'training.gradient_accumulation_steps': 2,
      },
      'group_size is 64; it must divide the 32 images',
    ),
    ({'mixup.group_size': 100}, 'mixup.group_size is 100; it must divide'),
    ({'augmentation.repeats': 3}, 'repeats is 3; it must divide'),
    (
      {'sharding.data': 3, 'sharding.replica': 1},
      "'data': 3.*; the product must be",
    ),
    ({'sharding.data': -1, 'sharding.fsdp': -1}, 'or one of them -1'),
    ({'loss.kind': 'sigmoid', 'loss.label_smoothing': 0.5}, 'below 0.5 where'),
    ({'model.attention': 'pallas'}, "'pallas', which is for TPUs"),
    ({'data.train_split': ''}, "train_split is ''"),
    ({'model.transformer': {'head_dim': -32}}, 'transformer.head_dim is -32'),
    ({'model.transformer': {'norm': None}}, 'transformer.norm is None'),
    ({'model.stages': 5}, 'stages is 5; it must be a tuple'),
    ({'model.transformer': {'head_dims': 3}}, 'did you mean head_dim'),
    (
      {'model.atention': 'auto'},
      r'no config.model.atention; .*; did you mean attention',
    ),
    ({'training.nmu_steps': 3}, r'nmu_steps; .*; did you mean num_steps'),
    ({'sede': 3}, r'There is no config.sede; .*; did you mean seed'),
    ({'training': 3}, 'config.training'),
  ],
  ids=lambda value: ','.join(value) if isinstance(value, dict) else '',
)
def test_keys_that_contradict_each_other(changes, message, monkeypatch):
  def read_nothing(*args):
    raise AssertionError(f'The data were read before the values: {args}')

  monkeypatch.setattr(run_lib, 'create_source', read_nothing)
  with pytest.raises(UserError, match=message):
    run_lib.create_run(quick_config(changes))


def test_a_profile_is_of_a_step_that_is_taken():
  """Which is known once the data are."""
  config = quick_config({'logging.profile_at_step': 1001})
  with pytest.raises(UserError, match=r'profile_at_step is 1001; .* 1,000 st'):
    run_lib.create_run(config, sources=NOISE)


@pytest.mark.parametrize(
  'key', ['seed', 'model.name', 'training.num_steps', 'sharding.fsdp', 'loss']
)
def test_a_key_that_is_missing_is_named(key):
  values = quickstart.get_config().to_dict()
  section, _, name = key.rpartition('.')
  del (values[section] if section else values)[name]
  with pytest.raises(UserError, match=f'config.{key}'):
    run_lib.create_run(ConfigDict(values))
  assert issubclass(UnknownNameError, TypeError)


def test_each_kind_of_source_can_be_opened():
  assert set(sources.SOURCES) == set(sources._CREATE_BY_SOURCE)
