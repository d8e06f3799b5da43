"""Mistakes in what a report says, and in whom it obeys."""

from tests.mutation.mistake import in_file

MISTAKES = (
  *in_file(
    'coatnet_jax/reports/explained.py',
    (
      'report_maps_of_doubts',
      'right[np.argsort(-outcomes.confidences[right]',
      'right[np.argsort(outcomes.confidences[right]',
      'The right predictions with maps are the least sure.',
      'tools/report_maps_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/reports/measures.py',
    (
      'report_precision_of_the_label',
      'precision=divide(hits, predicted),',
      'precision=divide(hits, support),',
      "A precision is divided by the class's images.",
      'reports/measures_test.py',
    ),
    (
      'report_f1_without_predictions',
      'f1=divide(2 * hits, support + predicted),',
      'f1=divide(hits, support + predicted),',
      'F1 is half of what it is.',
      'reports/measures_test.py',
    ),
    (
      'report_absent_classes_in_the_mean',
      'measures.f1[measures.support > 0].mean()',
      'np.nan_to_num(measures.f1).mean()',
      'Classes without images count in the mean F1.',
      'reports/measures_test.py',
    ),
    (
      'report_interval_of_one_draw',
      'weights = _draw_weights(rng, number, num_examples)',
      'weights = _draw_weights(rng, 1, num_examples).repeat(number, axis=0)',
      'All resamples are the same one.',
      'reports/measures_test.py',
    ),
    (
      'report_one_sided_interval',
      'tail = (1 - CONFIDENCE) / 2',
      'tail = 1 - CONFIDENCE',
      'An interval of 95 % holds 90 %.',
      'reports/measures_test.py',
    ),
    (
      'report_ties_apart',
      'ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)',
      'ends = np.arange(len(scores))',
      'Equal probabilities are above a threshold one by one.',
      'reports/measures_test.py',
    ),
    (
      'report_deviation_of_a_population',
      'numbers.std(ddof=1) if',
      'numbers.std() if',
      'The spread of a few runs is too small.',
      'reports/comparison_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/reports/multi_label/measures.py',
    (
      'report_labels_ties_apart',
      'ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))',
      'ends = np.arange(len(scores))',
      'In intervals, images of the same score are found one by one.',
      'reports/multi_label/measures_test.py',
    ),
    (
      'report_labels_of_absent_classes',
      'num_classes += support > 0',
      'num_classes += 1',
      'Classes that a sample lacks count in its mean average precision.',
      'reports/multi_label/measures_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/reports/multi_label/mistakes.py',
    (
      'report_labels_least_confident',
      'rows = np.argsort(-surest',
      'rows = np.argsort(surest',
      'The mistakes on labels that are shown are the least confident ones.',
      'reports/multi_label/page_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/reports/outcomes.py',
    (
      'report_nan_predicts_a_class',
      'np.where(said.valid, said.classes[:, 0], NOTHING)',
      'said.classes[:, 0]',
      'What is NaN counts as a prediction of some class.',
      'reports/measures_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/page_templates.py',
    (
      'report_not_escaped',
      'autoescape=True,',
      'autoescape=False,',
      'The name of a class is HTML of the page.',
      'reports/page_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/reports/files.py',
    (
      'report_over_a_file_of_others',
      '    check_is_report(path)\n    write_whole',
      '    write_whole',
      'A file that is no report is written over.',
      'training/bucket_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/reports/pictures.py',
    (
      'report_least_confident_mistakes',
      'np.argsort(-outcomes.confidences[wrong]',
      'np.argsort(outcomes.confidences[wrong]',
      'The mistakes that are shown are those with the least confidence.',
      'reports/page_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/reports/end_of_run.py',
    (
      'report_fails_the_run',
      'except Exception as error:  # The run',
      'except ImportError as error:  # The run',
      'A report that cannot be made fails a finished run.',
      'reports/end_of_run_test.py',
    ),
    (
      'report_of_every_process',
      ' or jax.process_index() > 0:',
      ':',
      'Each of several processes writes a report or tells the command.',
      'reports/end_of_run_test.py',
    ),
  ),
)
