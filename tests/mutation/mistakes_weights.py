"""Mistakes in reading, resizing and writing weights."""

from tests.mutation.mistake import in_file

MISTAKES = (
  *in_file(
    'coatnet_jax/weights/adaptation.py',
    (
      'tables_by_nearest',
      "jnp.asarray(table, jnp.float32), shape, 'bilinear', antialias=False",
      "jnp.asarray(table, jnp.float32), shape, 'nearest', antialias=False",
      'Relative positions of another size are those of the nearest entry.',
      'weights/adaptation_test.py',
    ),
    (
      'tables_antialiased',
      "jnp.asarray(table, jnp.float32), shape, 'bilinear', antialias=False",
      "jnp.asarray(table, jnp.float32), shape, 'bilinear', antialias=True",
      'Relative positions are blurred where a table becomes smaller.',
      'weights/adaptation_test.py',
    ),
    (
      'head_replaced_unasked',
      'if new_head:\n        continue',
      'continue',
      'A head of another number of classes is passed over without a word.',
      'weights/adaptation_test.py',
    ),
    (
      'grid_without_the_middle',
      'return (shape[1] + 1) // 2, (shape[2] + 1) // 2',
      'return shape[1] // 2, shape[2] // 2',
      'The table of a 14x14 grid is taken for that of 13x13.',
      'weights/adaptation_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/weights/timm.py',
    (
      'heads_within_qkv',
      'theirs = theirs.reshape(heads, 3, head_dim, *inputs)\n'
      '  return np.moveaxis(theirs, (0, 1, 2), (-2, -3, -1))',
      'theirs = theirs.reshape(3, heads, head_dim, *inputs)\n'
      '  return np.moveaxis(theirs, (0, 1, 2), (-3, -2, -1))',
      "timm's queries, keys and values are mixed up between heads.",
      'weights/timm_test.py',
    ),
    (
      'kernels_not_turned',
      'return names.transposed(3, 2, 0, 1)  # [O, I, kh, kw]',
      'return names.transposed(3, 2, 1, 0)',
      'Convolution kernels are transposed in space.',
      'weights/timm_test.py',
    ),
    (
      'gates_swapped',
      "{'se/squeeze': 'fc1', 'se/excite': 'fc2'}[part]",
      "{'se/squeeze': 'fc2', 'se/excite': 'fc1'}[part]",
      'The two layers of squeeze-and-excitation have each other as name.',
      'weights/timm_test.py',
    ),
    (
      'norm_of_every_first_block',
      "return 'norm1.norm' if block.endswith('_block_0') else 'norm1'",
      "return 'norm1'",
      'The norm of a striding block has another name in timm.',
      'weights/timm_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/weights/keras_cv.py',
    (
      'variance_for_mean',
      "'mean': 'moving_mean',\n    'var': 'moving_variance',",
      "'mean': 'moving_variance',\n    'var': 'moving_mean',",
      "Keras's running means are read as variances.",
      'weights/keras_cv_test.py',
    ),
    (
      'shift_for_bias',
      "if module.endswith('norm') and leaf == 'bias':",
      "if module.endswith('attention_norm') and leaf == 'bias':",
      'Shifts of most norms are looked for under the name of biases.',
      'weights/keras_cv_test.py',
    ),
    (
      'stacks_by_stage',
      '(stack + 1, 1) if first else (stack, position + 1)',
      '(number, 1) if first else (stack, position + 1)',
      'S3 of two kinds of block is one stack of keras_cv.',
      'weights/keras_cv_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/weights/names.py',
    (
      'unused_tensors_unsaid',
      "problems += [f'  {name}: not in the model' for name in sorted(unused)]",
      'problems += []',
      'Weights that the model has no place for are left out without a word.',
      'weights/loading_test.py',
    ),
    (
      'table_of_heads_first',
      'theirs = theirs.T if heads_last else theirs',
      'theirs = theirs if heads_last else theirs.T',
      "timm's tables of relative positions are read by columns.",
      'weights/timm_test.py weights/keras_cv_test.py',
    ),
    (
      'views_written',
      'tensors[tensor.name] = np.ascontiguousarray(theirs)',
      'tensors[tensor.name] = theirs',
      'A file gets the numbers of a transposed kernel in memory order.',
      'weights/timm_test.py weights/loading_test.py tools/import_timm_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/weights/files.py',
    (
      'half_precision_stays',
      "array = array.astype(np.float32, order='C', copy=False)",
      "array = np.asarray(array, order='C')",
      'A model of a bfloat16 file computes with bfloat16 parameters.',
      'weights/files_test.py',
    ),
    (
      'web_page_is_damaged',
      "if text.startswith((b'<!doctype', b'<html', b'<?xml', b'<head')):",
      "if text.startswith((b'<?xml', b'<head')):",
      'A web page that was downloaded for weights is called damaged.',
      'weights/files_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/weights/keras_file.py',
    (
      'top_level_weights_lost',
      'if _TOP_LEVEL in root and _TOP_LEVEL not in layers:',
      'if _TOP_LEVEL in layers and _TOP_LEVEL not in root:',
      "A Keras model's own weights are left out.",
      'weights/keras_file_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/weights/loading.py',
    (
      'prefix_found_and_kept',
      'prefixes.strip_prefix(tensors, prefix, head.values())',
      "prefixes.strip_prefix(tensors, '', head.values())",
      "Names with a prefix ('module.') are none of the model's.",
      'weights/prefixes_test.py',
    ),
    (
      'any_grid_will_do',
      'if image_size is None:\n    _check_grids(',
      'if image_size is not None:\n    _check_grids(',
      'Weights for 384 px are resized to 224 without being asked.',
      'weights/loading_test.py weights/timm_test.py weights/keras_cv_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/weights/native.py',
    (
      'lists_for_tuples',
      'name: tuple(value) if isinstance(value, list) else value',
      'name: value',
      'Preprocessing that is read back is not what was written.',
      'weights/loading_test.py tools/import_timm_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/weights/published.py',
    (
      'nano_cropped_like_others',
      "_timm('coatnet_nano_rw_224.sw_in1k', 81.70, eval_crop_fraction=0.9),",
      "_timm('coatnet_nano_rw_224.sw_in1k', 81.70),",
      'Published weights are evaluated by another crop than their accuracy.',
      'weights/published_test.py',
    ),
    (
      'half_for_imagenet',
      '  mean=_HALF,\n  std=_HALF,',
      '  mean=_IMAGENET_MEAN,\n  std=_IMAGENET_STD,',
      "timm's weights see pictures that are normalised otherwise.",
      'weights/published_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/weights/prefixes.py',
    (
      'wrappers_at_the_start',
      "r'(?<![^./])(_orig_mod",
      "r'^(_orig_mod",
      "torch.compile's name within others is not taken out.",
      'weights/prefixes_test.py',
    ),
    (
      'first_of_two_models',
      'found = averages\n',
      'found = found[:1]\n',
      'Of parameters and their averages in a file the first are taken.',
      'weights/prefixes_test.py',
    ),
    (
      'head_beside_lost',
      'if short in head and short not in inside:',
      'if short in inside:',
      'A head that stands beside the prefix is left out.',
      'weights/prefixes_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/weights/torch_file.py',
    (
      'big_endian_as_little',
      "{b'little': '<', b'big': '>'}[order]",
      "{b'little': '<', b'big': '<'}[order]",
      'Weights of a machine of the other byte order are noise.',
      'weights/torch_file_test.py',
    ),
    (
      'views_from_the_start',
      'values[tensor.offset :],',
      'values,',
      'Tensors that share a storage all begin at its start.',
      'weights/torch_file_test.py',
    ),
    (
      'code_is_run',
      'if (module, name) not in _GLOBALS:',
      'if module not in {module for module, _ in _GLOBALS}:',
      'A file may name anything of the modules that it needs.',
      'weights/torch_file_test.py',
    ),
  ),
)
