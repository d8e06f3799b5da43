"""What the code chooses where the paper prints no number: it stands here too.

tests/recipes_test.py has the numbers that are printed.
"""

import pytest

from tests.recipes_test import ALL, _load

# Of every phase of the paper's models.
SHARED = {
  'model.dtype': 'bfloat16',
  'model.batch_norm_momentum': 0.99,
  'model.batch_norm_group_size': 0,
  'model.head_bias_init': 0.0,
  'preprocessing.mean': (0.485, 0.456, 0.406),
  'preprocessing.std': (0.229, 0.224, 0.225),
  'preprocessing.interpolation': 'bicubic',
  'augmentation.crop_area': (0.08, 1.0),
  'augmentation.crop_aspect_ratio': (3 / 4, 4 / 3),
  'augmentation.horizontal_flip': True,
  'augmentation.randaugment_scale': 'tensorflow',
  'augmentation.randaugment_probability': 1.0,
  'augmentation.random_erasing_probability': 0.0,
  'augmentation.repeats': 1,
  'mixup.cutmix_alpha': 0.0,
  'optimizer.b1': 0.9,
  'optimizer.b2': 0.999,
  'optimizer.eps': 1e-8,
  'optimizer.layer_decay': 1.0,
  'training.ema_warmup': True,
  'training.gradient_accumulation_steps': 1,
  'checkpoint.best_metric': 'top1',
}
# The row "center crop" of Table 10, as we read it: in pretraining the centre,
# in finetuning the whole image.
PRETRAINING = {
  'preprocessing.eval_resize': 'cover',
  'preprocessing.eval_crop_fraction': 0.875,
}
FINETUNING = {
  'preprocessing.eval_resize': 'squash',
  'preprocessing.eval_crop_fraction': 1.0,
}
# What differs in the recipes of others.
OTHERS = {
  'imagenet1k_one_gpu': {'training.gradient_accumulation_steps': 64},
  'timm': {
    'model.batch_norm_momentum': 0.9,
    'preprocessing.mean': (0.5, 0.5, 0.5),
    'preprocessing.std': (0.5, 0.5, 0.5),
    'preprocessing.eval_resize': 'timm',
    'preprocessing.eval_crop_fraction': 0.95,
    'augmentation.randaugment_magnitude': 9.0,
    'augmentation.randaugment_scale': 'timm',
    'augmentation.randaugment_probability': 0.5,
    'augmentation.random_erasing_probability': 0.25,
    'mixup.cutmix_alpha': 1.0,
  },
  'keras_cv': {
    'model.batch_norm_momentum': 0.9,
    'preprocessing.eval_resize': 'keras_cv',
    'preprocessing.eval_crop_fraction': 0.95,
    'augmentation.randaugment_magnitude': 10.0,
    'augmentation.randaugment_scale': 'timm',
    'augmentation.randaugment_probability': 0.5,
    'mixup.cutmix_alpha': 1.0,
    'optimizer.eps': 1e-6,
  },
}


@pytest.mark.parametrize(('model', 'phase'), ALL)
def test_every_number_is_the_one_that_stands_here(model, phase):
  by_phase = FINETUNING if '_finetune' in phase else PRETRAINING
  expected = SHARED | by_phase | OTHERS.get(phase, {})
  config = _load(model, phase)
  found = {
    key: config[key.split('.')[0]][key.split('.')[1]] for key in expected
  }
  assert found == expected
