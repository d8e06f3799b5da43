"""Mistakes in making data sets of archives and folders."""

from tests.mutation.mistake import in_file

MISTAKES = (
  *in_file(
    'coatnet_jax/data/preparation/imagenet.py',
    (
      'labels_by_the_archives_order',
      'list_members(validation_archive), key=lambda member: member.base_name',
      'list_members(validation_archive), key=lambda member: member.offset',
      'The validation labels are those of other images: they are by name.',
      'data/preparation/imagenet_test.py',
    ),
    (
      'short_reads_pass',
      'if len(data) < size:',
      'if len(data) < 0:',
      'An archive that was cut while it was read gives cut images.',
      'data/preparation/imagenet_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/data/preparation/archives.py',
    (
      'end_not_looked_for',
      'if part.read(_BLOCK_SIZE) != bytes(_BLOCK_SIZE):',
      'if part.read(_BLOCK_SIZE) is None:',
      'An archive that is cut between two members is taken for whole.',
      'data/preparation/archives_test.py',
    ),
    (
      'offset_within_the_inner',
      'within.offset + info.offset_data, info.size',
      'info.offset_data, info.size',
      'Images of an archive within an archive are read from elsewhere.',
      'data/preparation/archives_test.py',
    ),
    (
      'paths_lead_outside',
      "if info.name.startswith('/') or '..' in info.name.split('/'):",
      "if info.name.startswith('/'):",
      'A member may lead outside of the archive.',
      'data/preparation/archives_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/data/preparation/examples.py',
    (
      'shuffled_by_class',
      "np.argsort(hash_names(self.names), kind='stable')",
      "np.argsort(self.labels, kind='stable')",
      'Shards are sorted by class.',
      'data/preparation/imagenet_test.py data/preparation/preparation_test.py',
    ),
    (
      'all_of_a_small_class_held_out',
      'place < np.minimum(count, class_sizes // 2)[sorted_labels]',
      'place < np.minimum(count, class_sizes)[sorted_labels]',
      'Of small classes nothing is left to train on.',
      'data/preparation/imagenet_test.py',
    ),
    (
      'shuffled_as_held_out',
      'hash_names(examples.names, _SPLIT) < threshold',
      'hash_names(examples.names) < threshold',
      'What is held out is what would be shuffled to the front.',
      'data/preparation/examples_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/data/preparation/class_lists.py',
    (
      'small_classes_of_21k_p',
      'P_MIN_IMAGES = 500',
      'P_MIN_IMAGES = 50',
      'ImageNet-21K-P has classes with too few images.',
      'data/preparation/imagenet_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/data/preparation/shards.py',
    (
      'cut_shards_kept',
      'return written if whole else None',
      'return written',
      'A shard that was half written is taken for whole.',
      'data/preparation/preparation_test.py',
    ),
    (
      'dropped_without_a_word',
      'dropped.append([name, str(error)])',
      'dropped = dropped',
      'Images that were left out are in no report.',
      'data/preparation/imagenet_test.py',
    ),
    (
      'half_written_shards_stay',
      '    unfinished.unlink(missing_ok=True)\n    note.unlink',
      '    note.unlink',
      'A full disk is left with a half-written shard on it.',
      'data/preparation/preparation_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/data/preparation/preparation.py',
    (
      'two_at_a_time',
      'fcntl.LOCK_EX | fcntl.LOCK_NB',
      'fcntl.LOCK_SH | fcntl.LOCK_NB',
      'Two processes write the same data set.',
      'data/preparation/preparation_test.py',
    ),
    (
      'other_images_are_complete',
      "if not plan_path.is_file() or plan_path.read_text(encoding='utf-8')"
      ' != plan:',
      'if not plan_path.is_file():',
      'A data set of other images is called complete.',
      'data/preparation/preparation_test.py',
    ),
    (
      'goes_on_with_other_options',
      "elif plan_path.read_text(encoding='utf-8') != plan:",
      "elif plan_path.read_text(encoding='utf-8') == '':",
      'A data set is half of one class list and half of another.',
      'data/preparation/preparation_test.py',
    ),
    (
      'checksums_of_one_space',
      "f'{done.sha256}  {shard.file_name}\\n'",
      "f'{done.sha256} {shard.file_name}\\n'",
      'sha256sum cannot read the checksums.',
      'data/preparation/imagenet_test.py',
    ),
    (
      'room_not_looked_for',
      'if needed + _SPARE_BYTES > free:',
      'if needed < 0:',
      'A disk that is too small is seen after hours.',
      'data/preparation/preparation_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/data/preparation/verification.py',
    (
      'cmyk_stays',
      'if found in allowed and not header.is_cmyk:',
      'if found in allowed:',
      'CMYK JPEGs go into a data set that others read as RGB.',
      'data/preparation/verification_test.py data/preparation/imagenet_test.py',
    ),
    (
      'limit_of_one_side',
      'if header.width * header.height > max_pixels:',
      'if max(header.width, header.height) > max_pixels:',
      'An image of a million million pixels is decoded.',
      'data/preparation/verification_test.py',
    ),
    (
      'png_in_blue_and_red',
      'pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)',
      'pixels = pixels.copy()',
      'What is encoded anew has red and blue swapped.',
      'data/preparation/verification_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/data/preparation/emoji.py',
    (
      'variants_on_both_sides',
      "_remove_variant(emoji['unified'])))",
      "variant['image']))",
      'A picture is held out whose other skin tone is trained on.',
      'data/preparation/emoji_test.py',
    ),
    (
      'any_package_will_do',
      'if found != package.integrity:',
      'if not found:',
      'A package of another version is taken.',
      'data/preparation/emoji_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/data/preparation/files.py',
    (
      'labels_by_each_splits_folders',
      'labels += [numbers[printable(class_name)]] * len(file_names)',
      'labels += [list(listed.files).index(class_name)] * len(file_names)',
      'A split that lacks a class has the labels after it one too low.',
      'data/preparation/files_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/data/preparation/worker_pool.py',
    (
      'shards_in_the_wrong_place',
      'yield running.pop(future), future.result()',
      'yield [*running.values()][-1], running.pop(future) and future.result()',
      'What is noted of a shard is what another one has.',
      'data/preparation/imagenet_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/data/preparation/metadata.py',
    (
      'grey_as_colour',
      'shape=source.image_shape, encoding_format',
      'shape=(None, None, 3), encoding_format',
      'Grey images are said to be of three channels.',
      'data/preparation/files_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/data/preparation/report.py',
    (
      'reasons_not_counted',
      'collections.Counter(reason for _, reason in rows)',
      'collections.Counter({reason: 1 for _, reason in rows})',
      'The report says that each reason had one image.',
      'data/preparation/report_test.py',
    ),
  ),
)
