"""Mistakes in what other people's files are taken for, and in using them."""

from tests.mutation.mistake import in_file

MISTAKES = (
  *in_file(
    'coatnet_jax/weights/prefixes.py',
    (
      'averages_not_preferred',
      'if is_of_averages(prefix)',
      'if not is_of_averages(prefix)',
      'Of a model and its averages the model is taken.',
      'weights/prefixes_test.py',
    ),
    (
      'head_beside_prefix_left_out',
      'if short in head and short not in inside:',
      'if False:',
      'A trained head beside the backbone is thrown away.',
      'weights/prefixes_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/weights/torch_checkpoint.py',
    (
      'one_number_is_a_state_dict',
      'if 2 * candidate[2] >= largest',
      'if True',
      'A counter among the averages is taken for the weights.',
      'weights/prefixes_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/weights/loading.py',
    (
      'missing_head_is_any_head',
      '    if new_head is None:\n      raise UserError(',
      '    if False:\n      raise UserError(',
      'A file without a head classifies at random, unasked.',
      'weights/prefixes_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/data/published_crops.py',
    (
      'timm_rounds',
      'math.floor(side / fraction)',
      'round(side / fraction)',
      "timm's resized side is rounded to the nearest pixel, 236 for 235.",
      'data/published_crops_test.py',
    ),
    (
      'timm_long_side_rounds',
      'long = int(target[0] * long / short)',
      'long = math.ceil(target[0] * long / short)',
      "torchvision's long side is rounded up.",
      'data/published_crops_test.py',
    ),
    (
      'keras_cv_fraction_of_the_long_side',
      'int(fraction * min(image.shape[:2]))',
      'min(image.shape[:2])',
      "keras_cv's central crop is the whole short side.",
      'data/published_crops_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/init_from.py',
    (
      'what_is_set_is_followed',
      'if config[section][name] == value:',
      'if True:',
      'What a user sets is overwritten by what the weights were trained with.',
      'wiring/follow_init_from_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/config_flag.py',
    (
      'command_line_is_followed_over',
      'if key not in chosen\n',
      'if chosen is not None\n',
      'A value of the command line that is the default is overwritten.',
      'wiring/follow_init_from_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/evaluation/results.py',
    (
      'a_folder_is_imagenet',
      "(data.source == 'tfds' and data.name) or data.data_dir",
      'data.name or data.data_dir',
      'Results of a run on a folder say imagenet2012.',
      'evaluation/results_test.py',
    ),
  ),
)
