"""Mistakes in what a model is shown to look at, and in figures."""

from tests.mutation.mistake import in_file

MISTAKES = (
  *in_file(
    'coatnet_jax/explanation/attention_maps.py',
    (
      'rollout_without_shortcuts',
      '((weights + identity) / 2, attention.grid',
      '(weights, attention.grid',
      'Rollout forgets what shortcuts carry.',
      'explanation/attention_maps_test.py',
    ),
    (
      'pooled_tokens_counted_each',
      'x = arriving.reshape(-1, *grid) / (rows * columns)',
      'x = arriving.reshape(-1, *grid)',
      'Each token that was pooled gets what they get together.',
      'explanation/attention_maps_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/explanation/class_activation.py',
    (
      'channels_weighed_by_their_sums',
      'weights = gradients.mean((1, 2), keepdims=True)',
      'weights = gradients.max((1, 2), keepdims=True)',
      'A channel weighs its largest gradient.',
      'explanation/class_activation_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/explanation/integrated_gradients.py',
    (
      'gradients_of_the_picture_alone',
      'return total / num_steps * (image - baseline), difference',
      'return total / num_steps * image, difference',
      'The baseline is taken to be 0.',
      'explanation/integrated_gradients_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/explanation/overlay.py',
    (
      'map_moved_by_half_a_cell',
      'np.meshgrid(rows - 0.5, columns - 0.5',
      'np.meshgrid(rows, columns',
      'A map lies half a cell beside where it belongs.',
      'explanation/overlay_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/figures/canvas.py',
    (
      'others_figures_replaced',
      'if path.exists() and not _is_ours(path):',
      'if path.exists() and _is_ours(path):',
      'A file that is no figure of ours is written over.',
      'tools/explain_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/figures/evaluation_pictures.py',
    (
      'confusions_turned_round',
      '(labels[is_class], predicted[is_class])',
      '(predicted[is_class], labels[is_class])',
      'The rows of the confusion matrix are what was predicted.',
      'figures/evaluation_pictures_test.py',
    ),
    (
      'none_predicted_counts_as_the_last',
      'is_class = predicted >= 0',
      'is_class = predicted >= -1',
      'An image of which nothing is predicted counts for the last class.',
      'figures/evaluation_pictures_test.py',
    ),
  ),
)
