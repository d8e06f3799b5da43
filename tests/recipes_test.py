"""The phases of the paper's Table 10: every number, and every learning rate.

The table stands here once more, as it is printed.
"""

import importlib
import pathlib
import re

import jax
import numpy as np
import pytest

from coatnet_jax.config_flag import load_config
from coatnet_jax.data.known_datasets import get_known_dataset
from coatnet_jax.errors import UserError
from coatnet_jax.initial_state import prepare_train_state
from coatnet_jax.run import create_run

ROOT = pathlib.Path(__file__).parents[1]
# Slashes follow the models in the header; "PT-RA" are CoAtNet-4's variants.
TABLE_10 = """
column               | 1K pretrain     | 1K finetune         | 21K pretrain | 21K finetune | JFT pretrain   | JFT finetune
CoAtNet              | 0/1/2/3         | 0/1/2/3             | 2/3/4        | 2/3/4        | 3/4/5          | 3/4/5
stochastic depth     | 0.2/0.3/0.5/0.7 | 0.2/0.3/0.5/0.7     | 0.3/0.5/0.7  | 0.3/0.5/0.7  | 0.0/0.1/0.0    | 0.1/0.3/0.2
center crop          | True            | False               | True         | False        | True           | False
RandAugment          | 2,15            | 2,15/2,15/2,15/2,20 | none         | none         | 2,5            | 2,5
RandAugment of PT-RA |                 |                     | 2,5          | 2,5          |                |
mixup alpha          | 0.8             | 0.8                 | none         | none         | none           | none
loss                 | softmax         | softmax             | sigmoid      | softmax      | sigmoid        | softmax
label smoothing      | 0.1             | 0.1                 | 0.0001       | 0.1          | 0.0001         | 0.1
epochs               | 300             | 30                  | 90           | 30           | 14             | 30
epochs of E150       |                 |                     | 150          | 30           |                |
batch                | 4096            | 512                 | 4096         | 1024         | 4096           | 512
optimizer            | adamw           | adamw               | adamw        | adamw        | adamw          | adamw
peak learning rate   | 1e-3            | 5e-5                | 1e-3         | 5e-5         | 1e-3/5e-4/5e-4 | 5e-5
min learning rate    | 1e-5            | 5e-5                | 1e-5         | 5e-5         | 1e-5           | 5e-5
warm-up              | 10000 steps     | none                | 5 epochs     | none         | 20000 steps    | none
decay                | cosine          | constant            | linear       | constant     | linear         | constant
weight decay         | 0.05            | 1e-8                | 0.01         | 1e-8         | 0.01           | 1e-8
gradient clip        | 1.0             | 1.0                 | 1.0          | 1.0          | 1.0            | 1.0
EMA                  | none            | 0.9999              | none         | 0.9999       | none           | 0.9999
"""  # noqa: E501

# Phase -> column of the table. A finetuning's resolution is in its name.
PHASES = {
  'imagenet1k': '1K pretrain',
  'imagenet1k_finetune': '1K finetune',
  'imagenet21k': '21K pretrain',
  'imagenet21k_finetune': '21K finetune',
  'imagenet21k_pt_ra': '21K pretrain',
  'imagenet21k_pt_ra_finetune': '21K finetune',
  'imagenet21k_pt_ra_e150': '21K pretrain',
  'imagenet21k_pt_ra_e150_finetune': '21K finetune',
  'jft300m': 'JFT pretrain',
  'jft300m_finetune': 'JFT finetune',
}

_PLAIN_SIZES = ('_224', '_384', '_512')
# What each model has, besides phases that are not of the table.
MODELS = {
  'coatnet_0': ['imagenet1k', 'imagenet1k_finetune'],
  'coatnet_1': ['imagenet1k', 'imagenet1k_finetune'],
  'coatnet_2': [
    p for p in PHASES if p.startswith('imagenet') and 'pt' not in p
  ],
  'coatnet_3': [p for p in PHASES if 'pt' not in p],
  'coatnet_4': [p for p in PHASES if not p.startswith('imagenet1k')],
  'coatnet_5': ['jft300m', 'jft300m_finetune'],
}
JFT_SIZES = {
  'coatnet_3': ('_384', '_512'),
  'coatnet_4': ('_512',),
  'coatnet_5': ('_512',),
}
# Model -> its phases that are not columns of the table.
OTHERS = {
  'coatnet_0': ['imagenet1k_one_gpu', 'timm', 'keras_cv'],
  'coatnet_1': ['timm'],
  'coatnet_2': ['imagenet21k_linear_probe', 'timm'],
  'coatnet_3': ['imagenet21k_linear_probe'],
  'coatnet_4': ['imagenet21k_linear_probe', 'imagenet1k'],
  'coatnet_5': ['imagenet1k'],
  'coatnet_6': ['jft3b', 'jft3b_finetune_512'],
  'coatnet_6_d3072': ['jft3b', 'jft3b_finetune_512'],
  'coatnet_7': ['jft3b', 'jft3b_finetune_512'],
}


def _sizes(model, phase):
  if not phase.endswith('_finetune'):
    return ('',)
  return JFT_SIZES[model] if phase.startswith('jft') else _PLAIN_SIZES


OF_THE_TABLE = [
  (model, phase, size)
  for model, phases in MODELS.items()
  for phase in phases
  for size in _sizes(model, phase)
]
ALL = [(model, phase + size) for model, phase, size in OF_THE_TABLE] + [
  (model, phase) for model, phases in OTHERS.items() for phase in phases
]


def _cells(model, phase):
  """Returns row -> text of the cell for a model in a phase."""
  lines = TABLE_10.strip().splitlines()
  rows = [[cell.strip() for cell in line.split('|')] for line in lines]
  column = rows[0].index(PHASES[phase])
  position = rows[1][column].split('/').index(model.removeprefix('coatnet_'))
  cells = {}
  for row in rows[2:]:
    parts = row[column].split('/')
    cells[row[0]] = parts[position] if len(parts) > 1 else parts[0]
  randaugment = cells.pop('RandAugment of PT-RA')
  epochs = cells.pop('epochs of E150')
  if 'pt_ra' in phase:
    cells['RandAugment'] = randaugment
  if 'e150' in phase:
    cells['epochs'] = epochs
  return cells


def _number(cell):
  return 0.0 if cell == 'none' else float(cell)


def _load(model, phase):
  return importlib.import_module(f'configs.{model}').get_config(phase)


def _resolve(config):
  """Resolves a config without its data, but as if they were there."""
  dataset = get_known_dataset(config.data.name)
  config.data.source = 'synthetic'
  config.data.synthetic_examples = dataset.num_train_examples
  config.data.synthetic_classes = dataset.num_classes
  # As for a pod, in whose memory it fits.
  return create_run(config, devices=jax.devices())


def test_every_phase_is_known_here():
  for model, others in OTHERS.items():
    module = importlib.import_module(f'configs.{model}')
    here = [phase for name, phase in ALL if name == model]
    assert sorted(module.PHASES) == sorted(here)
    (default,) = module.get_config.__defaults__
    assert default == next(iter(module.PHASES))
    assert (default in others) == (model not in MODELS)


@pytest.mark.parametrize(('model', 'phase', 'size'), OF_THE_TABLE)
def test_every_number_is_table_10s(model, phase, size):
  config = _load(model, phase + size)
  cells = _cells(model, phase)
  centered = {'cover': True, 'squash': False}[config.preprocessing.eval_resize]
  layers, _, magnitude = cells['RandAugment'].partition(',')
  warmup, _, unit = cells['warm-up'].partition(' ')
  assert config.model.stochastic_depth_rate == float(cells['stochastic depth'])
  assert str(centered) == cells['center crop']
  assert centered == (config.preprocessing.eval_crop_fraction < 1)
  assert config.augmentation.randaugment_layers == _number(layers)
  if magnitude:
    assert config.augmentation.randaugment_magnitude == float(magnitude)
  assert config.mixup.mixup_alpha == _number(cells['mixup alpha'])
  assert config.mixup.cutmix_alpha == 0
  assert config.loss.kind == cells['loss']
  assert config.loss.label_smoothing == float(cells['label smoothing'])
  assert config.training.num_epochs == float(cells['epochs'])
  assert config.training.num_steps == 0
  assert config.training.global_batch_size == int(cells['batch'])
  assert config.optimizer.name == cells['optimizer']
  assert config.optimizer.weight_decay == float(cells['weight decay'])
  assert config.optimizer.clip_norm == float(cells['gradient clip'])
  schedule = config.schedule
  assert schedule.peak_learning_rate == float(cells['peak learning rate'])
  assert schedule.min_learning_rate == float(cells['min learning rate'])
  assert schedule.decay == cells['decay']
  for key in ('steps', 'epochs'):
    expected = float(warmup) if key == unit else 0
    assert schedule[f'warmup_{key}'] == expected
  assert config.training.ema_decay == _number(cells['EMA'])
  pixels = int(size.removeprefix('_') or 224)
  assert config.preprocessing.image_size == (pixels, pixels)


@pytest.mark.parametrize(('model', 'phase', 'size'), OF_THE_TABLE)
def test_model_data_and_what_it_starts_from(model, phase, size):
  config = _load(model, phase + size)
  strided = model == 'coatnet_3' and phase.startswith('jft')
  assert config.model.name == model + '_strided_depthwise' * strided
  pretraining, finetune, _ = phase.partition('_finetune')
  assert config.init_from == (f'WORKDIR_OF_{pretraining}' if finetune else '')
  if finetune or phase == 'imagenet1k':
    assert config.data.name == 'imagenet2012'
  else:
    names = {'imagenet21k': 'imagenet21k_fall11', 'jft300m': 'jft300m'}
    assert config.data.name == names[pretraining.split('_')[0]]


def _learning_rates(steps, peak, minimum, warmup, decay, num_steps):
  """The formula: linear from 0, then a decay to the minimum."""
  part = np.clip((steps - warmup) / (num_steps - warmup), 0, 1)
  after = {
    'cosine': minimum + (peak - minimum) * (1 + np.cos(np.pi * part)) / 2,
    'linear': peak + (minimum - peak) * part,
    'constant': np.full(len(steps), peak),
  }[decay]
  return np.where(steps < warmup, peak * steps / max(warmup, 1), after)


@pytest.mark.parametrize(
  ('model', 'phase'),
  [
    ('coatnet_0', 'imagenet1k'),
    ('coatnet_3', 'imagenet1k_finetune'),
    ('coatnet_2', 'imagenet21k'),
    ('coatnet_4', 'imagenet21k_pt_ra_e150'),
    ('coatnet_4', 'imagenet21k_finetune'),
    ('coatnet_3', 'jft300m'),
    ('coatnet_5', 'jft300m'),
    ('coatnet_5', 'jft300m_finetune'),
  ],
)
def test_the_learning_rate_at_twelve_steps(model, phase):
  cells = _cells(model, phase)
  run = _resolve(_load(model, phase + _sizes(model, phase)[-1]))
  # The paper's own counts of images where it gives them (section 4.1) are
  # within 12 % of these.
  num_examples = {'imagenet21k': 14_197_122, 'jft300m': 300_000_000}.get(
    phase.split('_')[0] * ('finetune' not in phase), 1_281_167
  )
  steps_per_epoch = num_examples / int(cells['batch'])
  num_steps = round(float(cells['epochs']) * steps_per_epoch)
  assert run.training.num_steps == num_steps
  amount, _, unit = cells['warm-up'].partition(' ')
  warmup = round(_number(amount) * {'epochs': steps_per_epoch}.get(unit, 1))
  steps = np.array(
    [0, 1, warmup // 2, max(warmup - 1, 0), warmup, warmup + 1]
    + [num_steps * part // 100 for part in (35, 50, 75, 99)]
    + [num_steps - 1, num_steps]
  )
  assert len(steps) == 12
  rates = [float(run.schedule(int(step))) for step in steps]
  expected = _learning_rates(
    steps,
    float(cells['peak learning rate']),
    float(cells['min learning rate']),
    warmup,
    cells['decay'],
    num_steps,
  )
  np.testing.assert_allclose(rates, expected, rtol=2e-5, atol=1e-10)


def test_steps_of_imagenet_1k():
  assert _resolve(_load('coatnet_0', 'imagenet1k')).training.num_steps == 93_835


@pytest.mark.parametrize(('model', 'phase'), ALL)
def test_every_phase_resolves(model, phase):
  config = _load(model, phase)
  with pytest.raises(AttributeError, match='weight_decay'):
    config.optimizer.wieght_decay = 1
  run = _resolve(config)
  assert (
    run.model.num_classes == get_known_dataset(config.data.name).num_classes
  )
  assert all(size % 32 == 0 for size in run.preprocessing.image_size)


@pytest.mark.parametrize(
  ('model', 'phase'), [(m, p) for m, p in ALL if '_finetune' in p]
)
def test_an_ema_of_0_9999_is_never_in_force_in_finetuning(model, phase):
  """As configs/base.py and docs/recipes.md say."""
  run = _resolve(_load(model, phase))
  assert run.training.ema_decay == 0.9999
  assert run.training.ema_warmup
  steps = run.training.num_steps
  assert (1 + steps) / (10 + steps) < 0.9999 == (1 + 89_990) / (10 + 89_990)


def test_one_gpu_trains_as_the_paper_does():
  """In smaller parts of the same batch, so that the learning rate stands."""
  expected = _load('coatnet_0', 'imagenet1k')
  with expected.unlocked():
    expected.training.gradient_accumulation_steps = 64
    expected.evaluation.global_batch_size = 512
  found = _load('coatnet_0', 'imagenet1k_one_gpu')
  assert found.to_dict() == expected.to_dict()
  assert found.training.global_batch_size == 4096 == 64 * 64


def test_recipes_of_others():
  timm = _load('coatnet_1', 'timm')
  assert timm.model.name == 'coatnet_1_rw_224'
  assert timm.optimizer.clip_norm == 5
  assert timm.schedule.warmup_epochs == 20
  assert timm.mixup.to_dict() == {
    'mixup_alpha': 0.8,
    'cutmix_alpha': 1.0,
    'cutmix_probability': 0.5,
    'group_size': 0,
  }
  assert timm.augmentation.random_erasing_probability == 0.25
  assert timm.augmentation.random_erasing_fill == 'noise'
  assert timm.augmentation.repeats == 1
  keras_cv = _load('coatnet_0', 'keras_cv')
  assert keras_cv.model.name == 'coatnet_0_keras_cv'
  assert keras_cv.training.num_epochs == 305
  assert keras_cv.training.global_batch_size == 128
  assert (keras_cv.loss.kind, keras_cv.loss.label_smoothing) == ('sigmoid', 0)
  assert keras_cv.schedule.peak_learning_rate == pytest.approx(2e-3)
  assert keras_cv.optimizer.to_dict() == {
    'name': 'lamb',
    'b1': 0.9,
    'b2': 0.999,
    'eps': 1e-6,
    'weight_decay': 0.02,
    'clip_norm': 1.0,
    'layer_decay': 1.0,
    'frozen': (),
  }


@pytest.mark.parametrize('model', ['coatnet_2', 'coatnet_3', 'coatnet_4'])
def test_a_linear_probe_trains_the_logits_alone(model):
  config = _load(model, 'imagenet21k_linear_probe')
  assert config.init_from == 'WORKDIR_OF_imagenet21k'
  assert config.model.name == model
  assert config.optimizer.weight_decay == config.loss.label_smoothing == 0
  assert config.augmentation.randaugment_layers == config.mixup.mixup_alpha == 0
  names = (
    's0_conv_0/kernel',
    's4_block_1/ffn_shrink/bias',
    'head_norm/scale',
    'head_pre_logits/kernel',
    'head_logits/bias',
    'head_logits/kernel',
  )
  (pattern,) = config.optimizer.frozen
  assert [name for name in names if not re.search(pattern, name)] == [
    'head_logits/bias',
    'head_logits/kernel',
  ]


def test_the_papers_recipes_freeze_and_repeat_nothing():
  for model, phase, size in OF_THE_TABLE:
    config = _load(model, phase + size)
    assert config.optimizer.layer_decay == config.augmentation.repeats == 1
    assert config.optimizer.frozen == ()
    assert config.augmentation.random_erasing_probability == 0
    assert config.model.head_bias_init == 0


def test_an_unknown_phase_lists_those_there_are():
  with pytest.raises(UserError) as error:
    load_config(f'{ROOT}/configs/coatnet_1.py:imagenet21k')
  assert str(error.value).endswith(
    "the phase of coatnet_1 is 'imagenet21k'; it must be one of imagenet1k,"
    ' imagenet1k_finetune_224, imagenet1k_finetune_384,'
    ' imagenet1k_finetune_512, timm; did you mean imagenet1k?'
  )


@pytest.mark.usefixtures('tiny_variant')
def test_finetuning_nothing_is_refused(tmp_path):
  config = _load('coatnet_2', 'imagenet21k_finetune_384')
  config.model.name = 'tiny'
  with pytest.raises(UserError, match='WORKDIR_OF_imagenet21k does not exist'):
    prepare_train_state(_resolve(config), str(tmp_path))
