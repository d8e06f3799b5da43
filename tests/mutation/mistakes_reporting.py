"""Mistakes in what a run reports, how it is asked to stop, and whose it is."""

from tests.mutation.mistake import in_file

MISTAKES = (
  *in_file(
    'coatnet_jax/training/log_file.py',
    (
      'second_run_in_the_first_log',
      '    root.removeHandler(handler)\n',
      '',
      'A second run in a notebook is logged in the file of the first.',
      'training/log_file_test.py',
    ),
    (
      'libraries_on_the_screen',
      'other.setLevel(max(other.level, python_logging.ERROR))',
      'other.setLevel(other.level)',
      'A notebook shows hundreds of lines that libraries have to say.',
      'notebook_test.py training/bucket_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/training/training_log.py',
    (
      'time_left_after_going_on',
      'elapsed / (step - self._first_step) *',
      'elapsed / step *',
      'A run that went on promises to be done much too soon.',
      'training/training_log_test.py',
    ),
    (
      'rate_of_one_step',
      'rate = len(rows) * self._global_batch_size',
      'rate = self._global_batch_size',
      'Images per second are those of one step of the row.',
      'training/training_log_test.py',
    ),
    (
      'loss_of_the_last_step',
      'float(np.mean([m[name] for m in taken]))',
      'taken[-1][name]',
      'The curve of the loss has one step of fifty.',
      'training/training_log_test.py',
    ),
    (
      'one_step_looked_at',
      'for step, metrics in rows if self._is_taken(step, metrics)]',
      'for step, metrics in rows[-1:] if self._is_taken(step, metrics)]',
      'Training that diverged and came back is not seen.',
      'training/training_log_test.py',
    ),
    (
      'only_parameters_looked_at',
      'names = find_not_finite(state)',
      'names = find_not_finite(state.params)',
      'Statistics, moments and averages that are not finite are saved.',
      'training/finite_test.py',
    ),
    (
      'skipped_before_forgotten',
      'return self._skipped_before + self._skipped',
      'return self._skipped',
      'A run that is resumed may skip as many steps again.',
      'training/skipping_test.py',
    ),
    (
      'pictures_cut_across',
      'grid = grid.swapaxes(1, 2)',
      'grid = grid * 1',
      'The pictures in TensorBoard are rows of different ones.',
      'training/training_log_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/training/curves.py',
    (
      'rows_of_steps_that_come_again',
      '.step <= step\n',
      '.step <= step + 1\n',
      'After a restart TensorBoard shows a step twice.',
      'training/curves_test.py',
    ),
    (
      'one_start_of_a_session',
      '    start,\n    start,\n',
      '    start,\n',
      'A TensorBoard that was looking shows steps twice after a restart.',
      'training/curves_test.py',
    ),
    (
      'a_damaged_row_is_passed_over',
      '      masked_crc32c(content[event:footer]),\n',
      '      _FOOTER.unpack_from(content, footer)[0],\n',
      'TensorBoard reads no further than a damaged row, and nobody is told.',
      'training/curves_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/training/csv_rows.py',
    (
      'csv_of_steps_that_come_again',
      ' and int(row[0]) > step',
      ' and False',
      'After a restart a CSV file has steps twice.',
      'training/csv_rows_test.py',
    ),
    (
      'csv_columns_by_place',
      "repr(scalars[name]) if name in scalars else '' for name in header",
      'repr(number) for number in (step, *scalars.values())',
      'A number is in the column of another name.',
      'training/csv_rows_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/training/metric_writers.py',
    (
      'another_run_of_wandb',
      '  return path.read_text().strip()',
      '  return uuid.uuid4().hex[:12]',
      'A workdir that is resumed is two runs of Weights & Biases.',
      'training/metric_writers_test.py',
    ),
    (
      'all_processes_write_csv',
      "if is_first and 'csv' in names:",
      "if 'csv' in names:",
      'Every process of a pod writes the same rows into one file.',
      'training/metric_writers_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/training/stop_signal.py',
    (
      'second_ctrl_c_ignored',
      'def _receive(self, *_):\n    self._restore()\n',
      'def _receive(self, *_):\n',
      'The second Ctrl-C only asks again, and a run that hangs cannot be'
      ' ended.',
      'training/stop_signal_test.py',
    ),
    (
      'preemption_not_heard',
      'in stopping.SIGNALS if',
      'in stopping.SIGNALS[:1] if',
      'A machine that is taken away ends the run without saving.',
      'training/stop_signal_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/training/workdir.py',
    (
      'another_optimizer_goes_on',
      "  'logging.',\n",
      "  'logging.',\n  'optimizer.',\n",
      'A run resumes with another optimizer unasked.',
      'training/workdir_test.py',
    ),
    (
      'moved_data_refused',
      "  'data.data_dir',\n",
      '',
      'A run whose data have moved cannot be resumed.',
      'training/workdir_test.py',
    ),
    (
      'another_run_taken_over',
      'check_same_run(before, config, workdir, is_longer=is_longer)',
      'pass',
      'A workdir with a run of another config is written over.',
      'training/workdir_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/training/steps_in_flight.py',
    (
      'computing_is_waiting',
      'max(since, self._last.result())',
      'since',
      'Devices that compute are said to wait for images.',
      'training/steps_in_flight_test.py::test_idle_is_from_the_end_of_the_last_step',
    ),
    (
      'steps_without_bound',
      'while len(self._pending) > self._limit:',
      'while False:',
      'Batches fill the memory of devices that are slower than the host.',
      'training/steps_in_flight_test.py::test_two_steps_are_in_flight',
    ),
  ),
)
