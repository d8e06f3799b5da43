"""Mistakes in reading, decoding and batching images."""

from tests.mutation.mistake import in_file

MISTAKES = (
  *in_file(
    'coatnet_jax/data/batching.py',
    (
      'label_of_the_damaged',
      '      _check_label(label, self.source, position)\n',
      "      label = int(self.source[index]['label'])\n"
      '      _check_label(label, self.source, position)\n',
      "A damaged picture's replacement has the label of the damaged one.",
      'data/batching_test.py',
    ),
    (
      'not_shuffled',
      '.shuffle().repeat()',
      '.repeat()',
      'Images come in the order of the data set.',
      'data/batching_test.py',
    ),
    (
      'same_order_every_epoch',
      '.shuffle().repeat()',
      '.shuffle().repeat(reseed_each_epoch=False)',
      'Every epoch has the same order and the same crops.',
      'data/batching_test.py',
    ),
    (
      'seed_not_passed_on',
      '.seed(seed)',
      '.seed(0)',
      'Order and augmentation are those of seed 0.',
      'data/batching_test.py',
    ),
    (
      'one_batch_skipped',
      '[start_step:]',
      '[start_step + 1 :]',
      'A run that goes on skips a batch.',
      'data/batching_test.py',
    ),
    (
      'padding_is_counted',
      'mask=False, corrupt=corrupt',
      'mask=True, corrupt=corrupt',
      'Black pictures of class 0 count in evaluation.',
      'data/batching_test.py',
    ),
    (
      'last_batch_dropped',
      'num_batches = -(-len(source) // global_batch_size)',
      'num_batches = len(source) // global_batch_size',
      'The last images are not evaluated.',
      'data/batching_test.py',
    ),
    (
      'image_0_may_be_damaged',
      'corrupt[corrupt >= 0].tolist()',
      'corrupt[corrupt > 0].tolist()',
      'That the first image is damaged is not counted.',
      'data/batching_test.py',
    ),
    (
      'copies_side_by_side',
      'row % self._num_distinct',
      'row * self._num_distinct // self._batch_size',
      'Copies of an image lie beside each other, where MixUp mixes them.',
      'data/batching_test.py',
    ),
    (
      'nothing_after_the_last',
      '(index + attempt) % len(self.source)',
      'min(index + attempt, len(self.source) - 1)',
      'A damaged last image is tried again instead of replaced.',
      'data/batching_test.py',
    ),
    (
      'replacement_is_blamed',
      'corrupt=index if attempt else -1,',
      'corrupt=position if attempt else -1,',
      'The log names the good picture that replaces the damaged one.',
      'data/batching_test.py',
    ),
    (
      'fast_in_evaluation',
      'image, label = decode_example(self.source, index)',
      'image, label = decode_example(self.source, index, exact=False)',
      'Evaluation decodes JPEGs as fast as training does.',
      'data/exact_decoding_test.py data/batching_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/data/cache.py',
    (
      'cache_without_a_limit',
      '    if num_bytes > max_bytes:\n      return source',
      '    if num_bytes < 0:\n      return source',
      'A data set of a few small and many large images fills the memory.',
      'data/sources_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/data/decoding.py',
    (
      'blue_and_red_swapped',
      'return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)',
      'return image',
      'PNGs have red and blue swapped, and JPEGs have not.',
      'data/decoding_test.py',
    ),
    (
      'half_a_jpeg',
      'if _TRUNCATION_WARNING in str(error):',
      'if _TRUNCATION_WARNING == str(error):',
      'A truncated JPEG is grey below, and trained on.',
      'data/decoding_test.py',
    ),
    (
      'transparent_is_black',
      'white = 255 * (255 - alpha.astype(np.uint16))',
      'white = 0 * (255 - alpha.astype(np.uint16))',
      'Transparent pixels are black.',
      'data/decoding_test.py',
    ),
    (
      'sixteen_bits_cut',
      'alpha=1 / 257',
      'alpha=1 / 256',
      'White of 16 bits is 256, cut off.',
      'data/decoding_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/data/idx.py',
    (
      'tested_on_training',
      "'test': 't10k'",
      "'test': 'train'",
      'The test images of an MNIST-like set are the training images.',
      'data/idx_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/data/sources.py',
    (
      'noise_known_by_heart',
      "seed=0 if split == 'train' else 1,",
      'seed=0,',
      'Synthetic images are evaluated on what was trained on.',
      'data/sources_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/data/tfds_source.py',
    (
      'missing_shards_seen_late',
      "if '://' not in path and not os.path.exists(path):",
      "if '://' in path and not os.path.exists(path):",
      'A missing shard is noticed in the middle of an epoch.',
      'data/tfds_source_test.py',
    ),
    (
      'any_format_will_do',
      'if array_record not in formats:',
      'if not formats:',
      'A data set in TFRecord ends in a traceback.',
      'data/tfds_source_test.py',
    ),
    (
      'environment_ignored',
      "os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'",
      "'~/tensorflow_datasets'",
      '$TFDS_DATA_DIR is passed over.',
      'data/tfds_source_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/data/folder.py',
    (
      'held_out_is_trained_on',
      'by_hash[count:] if training else by_hash[:count]',
      'by_hash if training else by_hash[:count]',
      'The held-out images are trained on.',
      'data/folder_test.py',
    ),
    (
      'held_out_by_place',
      "f'{folder}/{name}'.encode()",
      "f'{folder}/{names.index(name):04d}'.encode()",
      'A file more and other images are held out.',
      'data/folder_test.py',
    ),
    (
      'other_classes_evaluated',
      '  _check_same_classes(root, train_split, train_files, eval_split,'
      ' eval_files)\n  return',
      '  return',
      'Folders of other classes are evaluated by number.',
      'data/folder_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/data/known_datasets.py',
    (
      'a_few_images_more',
      'num_train_examples=1_281_167,',
      'num_train_examples=1_281_176,',
      'ImageNet has nine images more, and a plan another number of steps.',
      'data/known_datasets_test.py',
    ),
  ),
)
