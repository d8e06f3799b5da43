"""Mistakes in what is written for other frameworks."""

from tests.mutation.mistake import in_file

MISTAKES = (
  *in_file(
    'coatnet_jax/export/exporting.py',
    (
      'a_file_beyond_the_bar_is_kept',
      'if fault := parity.find_fault(request.precision):',
      'if fault := parity.find_fault(request.precision) and None:',
      'A file that says something else than the model is kept.',
      'export/exporting_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/export/parity.py',
    (
      'a_difference_that_is_no_number',
      'if not self.difference <= bar:',
      'if self.difference > bar:',
      'Logits that are NaN are within every bar.',
      'export/parity_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/export/translation.py',
    (
      'what_is_broadcast_stays_small',
      'if value.shape == tuple(shape):',
      'if len(value.shape) == len(shape):',
      'Operations that do not broadcast get arrays that were to be.',
      'export/program_test.py',
    ),
  ),
)
