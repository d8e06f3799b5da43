"""Mistakes in cropping, resizing, RandAugment and random erasing."""

from tests.mutation.mistake import in_file

MISTAKES = (
  *in_file(
    'coatnet_jax/data/augmentation.py',
    (
      'sides_of_crops_uniform',
      'area[0] + area_draw * (area[1] - area[0])',
      'area[0] + area_draw**2 * (area[1] - area[0])',
      'Of random crops the side is uniform, and most are small.',
      'data/augmentation_test.py data/augmentation_distributions_test.py',
    ),
    (
      'ratios_uniform',
      'math.exp(low + ratio_draw * (high - low))\n    crop_width',
      '(\n      aspect_ratio[0] + ratio_draw * (aspect_ratio[1] -'
      ' aspect_ratio[0])\n'
      '    )\n    crop_width',
      'Wide crops are more frequent than tall ones.',
      'data/augmentation_test.py data/augmentation_distributions_test.py',
    ),
    (
      'tall_for_wide',
      'crop_width = round(math.sqrt(target * ratio))\n'
      '    crop_height = round(math.sqrt(target / ratio))',
      'crop_width = round(math.sqrt(target / ratio))\n'
      '    crop_height = round(math.sqrt(target * ratio))',
      'The aspect ratio of crops is height / width.',
      'data/augmentation_test.py data/augmentation_distributions_test.py',
    ),
    (
      'last_row_never_seen',
      'top = int(top_draw * (height - crop_height + 1))',
      'top = int(top_draw * (height - crop_height))',
      'Crops never reach the lowest row.',
      'data/augmentation_test.py',
    ),
    (
      'upside_down',
      'image = cv2.flip(image, 1)',
      'image = cv2.flip(image, 0)',
      'Images are mirrored top to bottom.',
      'data/augmentation_test.py',
    ),
    (
      'always_mirrored',
      'if augmentation.horizontal_flip and rng.random() < 0.5:',
      'if rng.random() < 0.5:',
      'Images are mirrored, whatever the config says.',
      'data/augmentation_test.py',
    ),
    (
      'magnitude_ignored',
      'magnitude=augmentation.randaugment_magnitude,',
      'magnitude=10.0,',
      "RandAugment's magnitude is the same, whatever the config says.",
      'data/augmentation_test.py data/augmentation_distributions_test.py'
      ' data/batching_test.py wiring',
    ),
    (
      'two_layers_always',
      'num_layers=augmentation.randaugment_layers,',
      'num_layers=min(augmentation.randaugment_layers, 2),',
      'RandAugment has two layers at most, whatever the config says.',
      'data/augmentation_test.py data/augmentation_distributions_test.py'
      ' data/batching_test.py wiring',
    ),
    (
      'one_scale_for_all',
      'scale=augmentation.randaugment_scale,',
      "scale='timm',",
      "RandAugment is on timm's scale, whatever the config says.",
      'data/augmentation_test.py data/augmentation_distributions_test.py'
      ' data/batching_test.py wiring',
    ),
    (
      'reduction_aliases',
      'interpolation=cv2.INTER_AREA',
      'interpolation=cv2.INTER_LINEAR',
      'Large images are made small by every so manieth pixel.',
      'data/augmentation_test.py',
    ),
    (
      'bilinear_for_bicubic',
      "'bicubic': cv2.INTER_CUBIC",
      "'bicubic': cv2.INTER_LINEAR",
      'Bicubic is bilinear.',
      'data/augmentation_test.py',
    ),
    (
      'corner_evaluated',
      'top, left = (resized[0] - height) // 2, (resized[1] - width) // 2',
      'top, left = 0, 0',
      'Evaluation takes the upper left of an image, not its centre.',
      'data/augmentation_test.py',
    ),
    (
      'covered_by_the_long_side',
      'scales = (max(scales),) * 2',
      'scales = (min(scales),) * 2',
      'Evaluation fits the long side, and what is missing is stretched.',
      'data/augmentation_test.py',
    ),
    (
      'width_by_the_height',
      'width / preprocessing.eval_crop_fraction / image.shape[1],',
      'width / preprocessing.eval_crop_fraction / image.shape[0],',
      'What is squashed keeps its proportions.',
      'data/augmentation_test.py',
    ),
    (
      'erased_by_habit',
      'probability=augmentation.random_erasing_probability,',
      'probability=0.25,',
      'A quarter of the images has a hole, whatever the config says.',
      'data/random_erasing_test.py data/augmentation_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/data/randaugment.py',
    (
      'to_one_side',
      'draw = Draw(sign=1.0 if sign < 0.5 else -1.0,',
      'draw = Draw(sign=1.0,',
      'RandAugment rotates and moves to one side alone.',
      'data/randaugment_test.py',
    ),
    (
      'last_operation_left_out',
      'operation = operations[int(choice * len(operations))]',
      'operation = operations[int(choice * (len(operations) - 1))]',
      'One of the operations of RandAugment is never chosen.',
      'data/randaugment_test.py',
    ),
    (
      'probability_of_an_image',
      'if chance < probability:',
      'if chance <= 1.0:',
      'Each layer of RandAugment acts, whatever its probability.',
      'data/randaugment_test.py data/augmentation_distributions_test.py',
    ),
    (
      'dark_is_inverted',
      'np.where(threshold > _LEVELS, _LEVELS, 255 - _LEVELS)',
      'np.where(threshold > _LEVELS, 255 - _LEVELS, _LEVELS)',
      'Solarize inverts what is dark.',
      'data/randaugment_test.py',
    ),
    (
      'posterized_from_below',
      'dropped_bits = 8 - min(max(bits, 0), 8)',
      'dropped_bits = min(max(bits, 0), 8)',
      'Posterize drops the bits that it should keep.',
      'data/randaugment_test.py',
    ),
    (
      'sheared_about_the_corner',
      'middle = (image.shape[0] - 1) / 2',
      'middle = 0',
      'Shear moves the middle of the picture aside.',
      'data/randaugment_test.py',
    ),
    (
      'moved_by_the_height',
      'return translate_x(image, part * image.shape[1])',
      'return translate_x(image, part * image.shape[0])',
      'Pictures move sideways by a part of their height.',
      'data/randaugment_test.py',
    ),
    (
      'black_moves_in',
      '_GREY = 128',
      '_GREY = 0',
      'What moves in from outside is black.',
      'data/randaugment_test.py',
    ),
    (
      'factors_of_the_other_scale',
      "'Color': Operation(color, _growing_factor),",
      "'Color': Operation(color, _factor_of_either_way),",
      "Colours follow timm's scale where TensorFlow's is asked for.",
      'data/randaugment_test.py',
    ),
    (
      'cutout_of_the_whole_side',
      'int(magnitude / 10 * 40), draw.row, draw.column',
      'int(magnitude / 10 * 20), draw.row, draw.column',
      "Cutout's number is taken for the whole side of the square.",
      'data/randaugment_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/data/random_erasing.py',
    (
      'noise_of_other_deviation',
      'noise * (255 * np.array(std, np.float32))',
      'noise * 255',
      'Erased boxes are of noise that is not normal once normalised.',
      'data/random_erasing_test.py',
    ),
    (
      'noise_wraps_around',
      'np.clip(\n    np.rint(values), 0, 255\n  )',
      'np.rint(values).astype(np.int64) % 256',
      'Noise beyond 255 is dark.',
      'data/random_erasing_test.py',
    ),
  ),
)
