"""Numbers of the phases that the paper does not print: a table of ours."""

import importlib

import pytest

OURS = {
  'model': {
    'dtype': 'bfloat16',
    'batch_norm_momentum': 0.99,
    'batch_norm_group_size': 0,
  },
  'preprocessing': {
    'mean': (0.485, 0.456, 0.406),
    'std': (0.229, 0.224, 0.225),
    'interpolation': 'bicubic',
  },
  'augmentation': {
    'crop_area': (0.08, 1.0),
    'crop_aspect_ratio': (3 / 4, 4 / 3),
    'horizontal_flip': True,
    'randaugment_scale': 'tensorflow',
  },
  'mixup': {'cutmix_alpha': 0.0},
  'optimizer': {'b1': 0.9, 'b2': 0.999, 'eps': 1e-8},
}
# The centre of an image that is 32 pixels larger.
PRETRAINING = {'eval_resize': 'cover', 'eval_crop_fraction': 224 / 256}
FINETUNING = {'eval_resize': 'squash', 'eval_crop_fraction': 1.0}

MODELS = [*(f'coatnet_{number}' for number in range(8)), 'coatnet_6_d3072']
_NOT_OF_THE_PAPER = ('timm', 'keras_cv', 'linear_probe')


def _load(model, phase):
  module = importlib.import_module(f'configs.{model}')
  return module.get_config(phase).to_dict()


def _list_phases(model):
  name = 'coatnet_6' if model == 'coatnet_6_d3072' else model
  phases = importlib.import_module(f'configs.{name}').PHASES
  return [p for p in phases if not p.endswith(_NOT_OF_THE_PAPER)]


@pytest.mark.parametrize('model', MODELS)
def test_numbers_that_the_paper_does_not_print(model):
  for phase in _list_phases(model):
    config = _load(model, phase)
    evaluation = FINETUNING if '_finetune_' in phase else PRETRAINING
    for section, values in {**OURS, 'preprocessing': evaluation}.items():
      values = values | OURS[section]
      assert {name: config[section][name] for name in values} == values, phase


@pytest.mark.parametrize(
  ('model', 'epochs'),
  [('coatnet_6', 3.0), ('coatnet_6_d3072', 3.0), ('coatnet_7', 5.0)],
)
def test_jft_3b_is_jft_300m_at_half_the_rate(model, epochs):
  config = _load(model, 'jft3b')
  other = _load('coatnet_3', 'jft300m')
  assert config['schedule']['peak_learning_rate'] == 5e-4
  assert config['training'].pop('num_epochs') == epochs
  assert config['data']['name'] == 'jft3b'
  other['training'].pop('num_epochs')
  other['schedule']['peak_learning_rate'] = 5e-4
  for section in ('optimizer', 'schedule', 'loss', 'augmentation', 'training'):
    assert config[section] == other[section]
