"""Mistakes in how models are judged."""

from tests.mutation.mistake import in_file

MISTAKES = (
  *in_file(
    'coatnet_jax/evaluation/dispatch.py',
    (
      'all_batches_in_flight',
      'if len(pending) > _BATCHES_IN_FLIGHT:',
      'if len(pending) > 1000 * _BATCHES_IN_FLIGHT:',
      'The images of all batches wait on the devices.',
      'evaluation/dispatch_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/inference.py',
    (
      'evaluated_smoothed',
      'options=dataclasses.replace(loss, label_smoothing=0.0),',
      'options=loss,',
      'The loss of evaluation is that of smoothed labels.',
      'whole_train_step_test.py::test_every_number_agrees',
    ),
    (
      'evaluated_with_the_batch',
      'model.apply(variables, images, train=False)',
      'model.apply(\n    variables, images, train=True,'
      " mutable=['batch_stats']\n"
      '  )[0]',
      'Evaluation normalises by its own batch.',
      'whole_train_step_test.py::test_every_number_agrees',
    ),
    (
      'softmax_of_sigmoid',
      'probabilities = compute_probabilities(logits, loss)',
      'probabilities = jax.nn.softmax(logits)',
      'A model that was trained with sigmoids predicts softmax.',
      'inference_test.py::test_probabilities_are_those_of_the_loss',
    ),
    (
      'ranked_by_probability',
      'classes = rank_classes(logits, top)',
      'classes = rank_classes(compute_probabilities(logits, loss), top)',
      'Classes whose probabilities round to 1 rank by their number.',
      'inference_test.py::test_classes_rank_by_logit_where_probabilities_round_to_one',
    ),
    (
      'softmax_of_every_loss',
      'compute_probabilities(logits, loss).max(axis=-1)',
      'jax.nn.softmax(logits.astype(jnp.float32)).max(axis=-1)',
      'The confidence of a sigmoid model is that of a softmax.',
      'evaluation/predictions_test.py',
    ),
    (
      'ranked_by_four',
      "'classes': rank_classes(logits, 5)",
      "'classes': rank_classes(logits, 4)",
      'Top-5 of a checkpoint is of the first four classes.',
      'evaluation/predictions_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/evaluation/label_decisions.py',
    (
      'labels_macro_f1_of_absent_classes',
      'float(f1[occurs].mean()) if',
      'float(np.nan_to_num(f1).mean()) if',
      'Classes that no image has count in the mean F1 of several labels.',
      'evaluation/multi_label_test.py',
    ),
    (
      'labels_precision_of_the_label',
      'precision=divide(hits, predicted),',
      'precision=divide(hits, support),',
      'The precision of one of several labels is divided by its images.',
      'evaluation/multi_label_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/evaluation/multi_label.py',
    (
      'labels_count_the_blank_batch',
      '  sums.clear()  # Of the batch that it was compiled with.\n',
      '',
      'The black images that a program is compiled with count as evaluated.',
      'evaluation/multi_label_test.py',
    ),
    (
      'labels_of_all_candidates',
      'candidates=space.candidates',
      'candidates=None',
      'Classes of the model that other data do not have are evaluated too.',
      'evaluation/multi_label_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/evaluation/predictions.py',
    (
      'labels_not_placed',
      'placed[:, positions] = labels',
      'placed[:] = labels',
      'Of several labels the classes are in the order of the data.',
      'evaluation/multi_label_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/evaluation/classification.py',
    (
      'real_counts_images_without_labels',
      'predictions = predictions.take(np.array([bool(s) for s in sets],'
      ' bool))\n'
      '  return predictions, find_multi_label_hits(predictions, [s for s in'
      ' sets if s])',
      'return predictions, find_multi_label_hits(predictions, sets)',
      'ReaL counts images that nobody could label as wrong.',
      'evaluation/data_sets_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/evaluation/measures.py',
    (
      'real_takes_the_first_label',
      'np.isin(classes, list(labels))',
      'np.isin(classes, list(labels)[:1])',
      'ReaL takes the first label of an image for the only right one.',
      'evaluation/measures_test.py',
    ),
    (
      'ten_bins',
      'NUM_BINS = 15',
      'NUM_BINS = 10',
      'The calibration error has ten bins, and others publish fifteen.',
      'evaluation/measures_test.py',
    ),
    (
      'bins_have_their_lower_end',
      'np.ceil(np.nan_to_num(confidences) * NUM_BINS).astype(int) - 1',
      'np.floor(np.nan_to_num(confidences) * NUM_BINS).astype(int)',
      'A confidence of exactly 2/15 is in the third bin.',
      'evaluation/measures_test.py',
    ),
    (
      'errors_of_bins_cancel',
      'np.abs(hits - confidences).sum() / counts.sum()',
      'abs((hits - confidences).sum()) / counts.sum()',
      'A model that is too sure here and too unsure there is calibrated.',
      'evaluation/measures_test.py',
    ),
    (
      'mean_of_all_errors',
      'float(np.mean(errors[name])) / reference[name] for name in reference',
      'float(np.mean(errors[name])) / np.mean(list(reference.values()))\n'
      '    for name in reference',
      'mCE divides all corruptions by one number of AlexNet.',
      'evaluation/measures_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/evaluation/label_spaces.py',
    (
      'all_classes_compete',
      'candidates=None if all_compete else tuple(candidates),',
      'candidates=None,',
      'Of ImageNet-A only 200 classes occur, and 1,000 compete.',
      'evaluation/label_spaces_test.py',
    ),
    (
      'order_of_the_data',
      'labels = {label: number[found[label]] for label in occurring}',
      'labels = {label: label for label in occurring}',
      'Classes are matched by number where the names say otherwise.',
      'evaluation/label_spaces_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/evaluation/data_sets.py',
    (
      'corrupted_cropped_again',
      'preprocessing = dataclasses.replace(preprocessing,'
      ' eval_crop_fraction=1.0)',
      'preprocessing = dataclasses.replace(preprocessing)',
      'Pictures of ImageNet-C are cropped a second time.',
      'evaluation/data_sets_test.py',
    ),
    (
      'rule_of_the_part',
      "split = re.sub(r'\\[[^]]*\\]', '', data.eval_split)",
      'split = data.eval_split',
      'The classes that compete are those of the part of the split.',
      'evaluation/data_sets_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/evaluation/corruptions.py',
    (
      'glass_for_motion',
      "'motion_blur': 0.785948,",
      "'motion_blur': 0.826268,",
      "AlexNet's error of one corruption is that of another.",
      'evaluation/data_sets_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/evaluation/predictions.py',
    (
      'logits_of_the_first',
      'logits = logits[:, np.array(candidates)]',
      'logits = logits[:, : len(candidates)]',
      'The first 200 classes compete instead of those that occur.',
      'evaluation/predictions_test.py',
    ),
    (
      'rows_of_the_batch_before',
      'indices = number * batch_size + np.flatnonzero(mask)',
      'indices = number * len(mask) + np.flatnonzero(mask) - number',
      'Predictions belong to other images from the second batch on.',
      'evaluation/predictions_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/evaluation/features.py',
    (
      'subset_of_the_first',
      'return self._source[self._indices[index]]',
      'return self._source[index]',
      'The chosen images of few shots are the first of the data set.',
      'evaluation/few_shot_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/evaluation/few_shot.py',
    (
      'one_shot_more',
      'some = ranks < number',
      'some = ranks <= number',
      'Five shots are six.',
      'evaluation/few_shot_test.py',
    ),
    (
      'deviation_of_all',
      'np.std(top1, ddof=1)',
      'np.std(top1)',
      'The spread over three seeds is said to be smaller than it is.',
      'evaluation/few_shot_test.py',
    ),
    (
      'no_bias_feature',
      'BIAS_FEATURE = 100.0',
      'BIAS_FEATURE = 1.0',
      'The bias of least squares is penalised as weights are.',
      'evaluation/few_shot_test.py',
    ),
    (
      'same_shots_for_all_seeds',
      'np.random.default_rng(seed).permutation(len(source))',
      'np.random.default_rng(0).permutation(len(source))',
      'Three choices of examples are one.',
      'evaluation/few_shot_test.py',
    ),
    (
      'damaged_not_replaced',
      'if len(rows) == len(chosen):',
      'if len(rows) <= len(chosen):',
      'A class whose chosen picture is damaged has one shot less.',
      'evaluation/few_shot_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/evaluation/linear_probe.py',
    (
      'worst_penalty',
      'best = max(fitted, key=',
      'best = min(fitted, key=',
      'The probe takes the penalty that is worst on what was held out.',
      'evaluation/linear_probe_test.py',
    ),
    (
      'held_out_trains',
      'part = _place((~held_out).astype(np.float32), mesh)',
      'part = _place(np.ones(count, np.float32), mesh)',
      'The penalty is chosen on images that were fitted.',
      'evaluation/linear_probe_test.py',
    ),
    (
      'penalty_of_the_bias',
      'jnp.square(weights.kernel).sum()',
      '(\n      jnp.square(weights.kernel).sum() +'
      ' jnp.square(weights.bias).sum()\n'
      '    )',
      'The probe penalises its bias.',
      'evaluation/linear_probe_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/evaluation/real_source.py',
    (
      'real_without_its_labels',
      "return tuple(int(label) for label in example['real_label'])",
      "return tuple(int(label) for label in example['real_label'][:1])",
      'ReaL has one label per image.',
      'evaluation/data_sets_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/evaluation/results.py',
    (
      'bar_in_a_table',
      "printable(cell).replace('|', '\\\\|')",
      'printable(cell)',
      'A class with a bar in its name breaks the table.',
      'evaluation/results_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/evaluation/descriptions.py',
    (
      'undecodable_unsaid',
      "if result.get('undecodable'):",
      "if result.get('undecodable', 0) > 1:",
      'One image that could not be decoded is left out without a word.',
      'evaluation/tasks_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/evaluation/tasks.py',
    (
      'probe_of_its_own_test',
      "train_source = create_source(data, 'train')",
      "train_source = create_source(data, 'eval')",
      'The linear probe is fitted to the images that judge it.',
      'evaluation/tasks_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/strict_json.py',
    (
      'nan_in_json',
      'if isinstance(tree, float) and not math.isfinite(tree):',
      'if isinstance(tree, float) and math.isinf(tree):',
      'Results with a NaN are no JSON.',
      'strict_json_test.py evaluation/results_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/training/metrics.py',
    (
      'classes_that_do_not_occur',
      'occurs = class_counts > 0',
      'occurs, class_counts = slice(None), np.maximum(class_counts, 1)',
      'Classes without images pull the mean over classes down.',
      'evaluation/measures_test.py',
    ),
  ),
)
