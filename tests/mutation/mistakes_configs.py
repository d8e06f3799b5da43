"""Mistakes in the recipes: numbers of the paper, and of others."""

from tests.mutation.mistake import in_file

MISTAKES = (
  *in_file(
    'coatnet_jax/config_flag.py',
    (
      'a_key_of_dots_alone',
      '    _check_key(word)\n',
      '',
      'A malformed key on the command line is a SyntaxError of Python.',
      'config_overrides_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/memory.py',
    (
      'memory_of_one_device',
      '{name: num_bytes * len(local), **others}',
      '{name: num_bytes * len(local)}',
      'A run begins that the system ends without a word.',
      'memory_test.py',
    ),
  ),
  *in_file(
    'configs/recipes.py',
    (
      'a_thousand_steps_of_warmup',
      "'schedule.warmup_steps': 10_000,",
      "'schedule.warmup_steps': 1_000,",
      'ImageNet-1k warms up for a tenth of the steps.',
      'recipes_test.py::test_every_number_is_table_10s',
    ),
    (
      'ninety_epochs_of_21k',
      "'training.num_epochs': 90.0,",
      "'training.num_epochs': 30.0,",
      'ImageNet-21k is trained for a third of its epochs.',
      'recipes_test.py::test_every_number_is_table_10s',
    ),
    (
      'smoothing_of_softmax_for_sigmoid',
      "'loss.label_smoothing': 0.0001,\n  'training.num_epochs': 14.0,",
      "'loss.label_smoothing': 0.1,\n  'training.num_epochs': 14.0,",
      'JFT has the label smoothing of ImageNet-1k.',
      'recipes_test.py::test_every_number_is_table_10s',
    ),
    (
      'jft3b_at_the_rate_of_300m',
      'JFT3B: Column = JFT300M_LARGE | {',
      'JFT3B: Column = JFT300M | {',
      'JFT-3B has twice its learning rate.',
      'recipe_numbers_test.py',
    ),
    (
      'crop_by_a_ratio',
      "'preprocessing.eval_crop_fraction': 224 / (224 + 32),",
      "'preprocessing.eval_crop_fraction': 0.95,",
      'Evaluation of pretraining crops less than 32 pixels.',
      'recipe_numbers_test.py',
    ),
    (
      'finetuning_is_cropped',
      "'preprocessing.eval_resize': 'squash',",
      "'preprocessing.eval_resize': 'cover',",
      'Finetuning is evaluated on the centre, not on the whole image.',
      'recipe_numbers_test.py',
    ),
    (
      'pods_in_float32',
      "'model.dtype': 'bfloat16',",
      "'model.dtype': 'float32',",
      'The recipes for TPUs compute in float32.',
      'recipe_numbers_test.py',
    ),
    (
      'timm_clipped_at_1',
      "'optimizer.clip_norm': 5.0,",
      "'optimizer.clip_norm': 1.0,",
      "timm's recipe clips gradients at the paper's norm.",
      'recipes_test.py::test_recipes_of_others',
    ),
    (
      'rate_of_another_batch',
      '8e-3 * 128 / 512',
      '8e-3',
      "keras_cv's recipe has the rate of a batch four times as large.",
      'recipes_test.py::test_recipes_of_others',
    ),
    (
      'probe_trains_the_norm',
      "'optimizer.frozen': ('^(?!head_logits/)',),",
      "'optimizer.frozen': ('^(?!head_)',),",
      'The linear probe trains the layers of the head before the logits.',
      'recipes_test.py::test_a_linear_probe_trains_the_logits_alone',
    ),
    (
      'finetuned_from_nothing',
      "'init_from': f'WORKDIR_OF_{pretraining}',\n    }",
      '}',
      'Finetuning starts from random parameters, without a word.',
      'recipes_test.py::test_model_data_and_what_it_starts_from',
    ),
  ),
  *in_file(
    'configs/coatnet_2.py',
    (
      'drop_of_imagenet_1k',
      'recipes.IMAGENET21K | drop(0.3)',
      'recipes.IMAGENET21K | drop(0.5)',
      'Pretraining on 21k drops as much as that on 1k.',
      'recipes_test.py::test_every_number_is_table_10s',
    ),
  ),
  *in_file(
    'configs/coatnet_3.py',
    (
      'randaugment_of_the_smaller',
      'drop(0.7) | set_randaugment(2, 20.0)',
      'drop(0.7) | set_randaugment(2, 15.0)',
      "CoAtNet-3 is finetuned with the smaller models' RandAugment.",
      'recipes_test.py::test_every_number_is_table_10s',
    ),
  ),
  *in_file(
    'configs/coatnet_4.py',
    (
      'e150_for_90_epochs',
      "_PT_RA | {'training.num_epochs': 150.0}",
      "_PT_RA | {'training.num_epochs': 90.0}",
      'The variant of 150 epochs has 90.',
      'recipes_test.py::test_every_number_is_table_10s',
    ),
  ),
  *in_file(
    'configs/base.py',
    (
      'statistics_forget_in_ten_steps',
      'config.model.batch_norm_momentum = 0.99',
      'config.model.batch_norm_momentum = 0.9',
      'Running statistics are those of the last ten steps.',
      'recipe_numbers_test.py',
    ),
    (
      'crops_of_a_quarter',
      'config.augmentation.crop_area = (0.08, 1.0)',
      'config.augmentation.crop_area = (0.25, 1.0)',
      'Random crops are of a quarter of the image and more.',
      'recipe_numbers_test.py',
    ),
    (
      'adam_of_transformers',
      'config.optimizer.b2 = 0.999',
      'config.optimizer.b2 = 0.95',
      "The second moment forgets as language models' does.",
      'recipe_numbers_test.py',
    ),
    (
      'cifar_normalisation',
      'config.preprocessing.mean = (0.485, 0.456, 0.406)',
      'config.preprocessing.mean = (0.507, 0.487, 0.441)',
      "Pictures are normalised by CIFAR's mean.",
      'recipe_numbers_test.py',
    ),
  ),
)
