"""Mistakes in what other people's files are taken for, and in using them."""

from tests.mutation.mistake import in_file

MISTAKES = (
  *in_file(
    'coatnet_jax/weights/identification.py',
    (
      'other_variants_weights',
      'if found != name:',
      'if not found:',
      'Weights of another variant that has the same shapes are taken.',
      'weights/imported_test.py',
    ),
    (
      'fewer_blocks_are_as_good',
      'if _count_blocks(name) == most',
      'if _count_blocks(name) <= most',
      'Variants of fewer blocks are traced, a second each.',
      'weights/identification_test.py',
    ),
    (
      'the_first_that_fits',
      'if len(fitting) == 1:',
      'if fitting:',
      'Of variants that are alike, any is taken without a word.',
      'weights/identification_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/weights/imported.py',
    (
      'size_of_a_smaller_grid',
      '(side + 1) // 2 * stride',
      'side // 2 * stride',
      "A file's pictures get another size than that of its tables.",
      'weights/imported_test.py',
    ),
    (
      'published_of_another_size',
      'weights.image_size == image_size',
      'weights.image_size != image_size',
      'Weights for 384 px get the crop of those for 224.',
      'weights/imported_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/weights/hub.py',
    (
      'checksum_of_the_hub_ignored',
      'if found == expected:',
      'if found:',
      'A damaged download is used.',
      'weights/hub_test.py',
    ),
    (
      'damaged_download_kept',
      '    blob.unlink(missing_ok=True)\n',
      '',
      'A damaged download is refused for ever.',
      'weights/hub_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/imagenet_classes.py',
    (
      'set_of_classes_by_part_of_its_name',
      'if wanted in sets',
      "if wanted in ' '.join(sets)",
      "ImageNet-1k gets ImageNet-21k's classes.",
      'imagenet_classes_test.py',
    ),
  ),
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
      'int(fraction * min(shape))',
      'min(shape)',
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
    (
      'a_told_variant_is_found_anyway',
      "name = None if _NAME in keys else config['model']['name']",
      'name = None',
      "A variant that the user names is not what the file's is taken for.",
      'init_from_file_test.py',
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
