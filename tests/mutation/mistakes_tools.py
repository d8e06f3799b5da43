"""Mistakes in the command lines."""

from tests.mutation.mistake import in_file

MISTAKES = (
  *in_file(
    'coatnet_jax/stopping.py',
    (
      'stopped_is_an_error',
      'STATUS = 75',
      'STATUS = 1',
      'Schedulers do not start a run again that was asked to stop.',
      'launch_test.py',
    ),
    (
      'second_signal_waits',
      'elif heard and now - first > _SAME_SECONDS:',
      'elif heard and now - first > PATIENCE_SECONDS:',
      'Whoever asks a second time waits like the first.',
      'stopping_test.py',
    ),
    (
      'killed_at_the_end',
      '  atexit.register(_ignore)\n',
      '',
      'A finished run that is asked to stop while Python ends has status -15.',
      'stopping_test.py',
    ),
    (
      'stopped_without_a_word',
      '  _try_within(_SAYING_SECONDS, lambda: terminal.note(said))\n'
      '  (_pass_on or ask)()\n',
      '  (_pass_on or ask)()\n'
      '  time.sleep(0.1)\n'
      '  _try_within(_SAYING_SECONDS, lambda: terminal.note(said))\n',
      'A loop that ends at once ends before anybody said why.',
      'stopping_test.py',
    ),
    (
      'half_a_checkpoint',
      'if now - first < SAVING_SECONDS and _is_saving():',
      'if now - first < SAVING_SECONDS and not _is_saving:',
      'A checkpoint that takes long to write is left in its middle.',
      'stopping_test.py',
    ),
  ),
  *in_file(
    'main.py',
    (
      'tracebacks_for_users',
      "  except UserError as error:\n    sys.exit(escape(f'Error: {error}'))\n",
      '  except UserError:\n    raise\n',
      'What the user got wrong is a traceback.',
      'main_test.py::test_an_error_of_the_run_is_one_sentence',
    ),
    (
      'tracebacks_for_disks',
      '    if not (message := explain_disk_failure(error)):\n',
      '    if message := explain_disk_failure(error):\n',
      'A disk that fails is a traceback.',
      'main_test.py::test_a_disk_that_fails_anywhere_is_one_sentence',
    ),
    (
      'programs_kept_elsewhere',
      'keep_compiled(options.compilation_cache)',
      'keep_compiled()',
      '--compilation_cache is read, and does nothing.',
      'compilation_cache_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/compilation_cache.py',
    (
      'half_a_program_stays',
      '        path.unlink(missing_ok=True)\n',
      '        pass\n',
      'Once a process was killed while it kept a program, all compile anew.',
      'compilation_cache_test.py',
    ),
    (
      'whole_programs_removed',
      'if not _is_whole(path.read_bytes()):',
      'if path.read_bytes() is not None:',
      'A disk that is full once costs every program of that name.',
      'compilation_cache_test.py',
    ),
    (
      'programs_of_others_run',
      'if not is_ours or',
      'if False and',
      'Whoever can write to the directory runs code as another user.',
      'compilation_cache_test.py',
    ),
    (
      'programs_of_other_processors',
      "  text = platform.machine() + '",
      "  text = '",
      'A processor is given a program with instructions that it has not.',
      'compilation_cache_test.py::test_where_it_is',
    ),
  ),
  *in_file(
    'coatnet_jax/config_flag.py',
    (
      'line_of_the_library',
      "if frame.name in ('get_config', '<module>')",
      "if frame.name not in ('get_config', '<module>')",
      'A misspelt key is shown with the line of a library.',
      'main_test.py::test_a_misspelt_key_in_a_file_is_shown_with_its_line',
    ),
    (
      'config_that_is_not_there',
      "if os.path.isfile(path) and path.endswith('.py'):",
      "if path.endswith('.py'):",
      'A misspelt file is an errno, without those that there are.',
      'main_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/arguments.py',
    (
      'flags_guessed',
      'allow_abbrev=False,',
      'allow_abbrev=True,',
      '--batch is taken for --batch_size.',
      'tools/command_line_test.py',
    ),
    (
      'top_of_none',
      '(None, 0) if kind is float else (1, None)',
      '(None, 0) if kind is float else (0, None)',
      '--top=0 compiles a program that shows nothing.',
      'tools/numbers_test.py',
    ),
  ),
  *in_file(
    'tools/command_line.py',
    (
      'width_for_height',
      '(int(found[1]), int(found[2] or found[1]))',
      '(int(found[2] or found[1]), int(found[1]))',
      '--image_size=HxW is read as WxH.',
      'tools/evaluate_arguments_test.py',
    ),
    (
      'batches_rounded_down',
      'return -(-batch_size // mesh.size) * mesh.size',
      'return batch_size // mesh.size * mesh.size',
      'A batch of 4 on 8 devices is one of none.',
      'tools/command_line_test.py',
    ),
  ),
  *in_file(
    'tools/evaluate.py',
    (
      'shots_of_text',
      "return tuple(int(number) for number in text.split(','))",
      "return tuple(int(number) for number in text.replace(',', ''))",
      '--fewshot=10 is 1 and 0.',
      'tools/evaluate_arguments_test.py',
    ),
    (
      'usual_split_against_the_users',
      "if is_other and 'eval_split' not in changes:",
      'if is_other:',
      'Data sets are evaluated on another split than the one that was named.',
      'tools/evaluate_arguments_test.py',
    ),
    (
      'other_data_as_trained',
      "data = DataOptions(**{**config, **changes, 'name': name})",
      "data = DataOptions(**{**changes, **config, 'name': name})",
      'Options of the data are overruled by those of the run.',
      'tools/evaluate_arguments_test.py',
    ),
  ),
  *in_file(
    'tools/predict.py',
    (
      'classes_by_place',
      "'class': trained.class_names[label],",
      "'class': trained.class_names[index],",
      'Predictions are named after their place in the batch.',
      'tools/predict_test.py::test_predictions_are_those_that_evaluation_counts',
    ),
    (
      'failure_is_success',
      'return 1 if failures else 0',
      'return 0',
      'Images that cannot be read leave an exit status of success.',
      'tools/predict_test.py::test_what_cannot_be_read_is_named_and_the_rest_predicted',
    ),
    (
      'top_of_all_refused',
      'if top > num_classes:',
      'if top >= num_classes:',
      '--top=10 is refused where there are 10 classes.',
      'tools/predict_test.py::test_top_classes',
    ),
  ),
  *in_file(
    'tools/import_timm.py',
    (
      'imported_over_a_run',
      'any(out.iterdir())',
      'not any(out.iterdir())',
      'Importing weights deletes the checkpoints of a run that lives there.',
      'paths_test.py',
    ),
  ),
  *in_file(
    'tools/export_weights.py',
    (
      'file_written_over',
      'if out.exists():',
      'if out.is_dir():',
      'Exporting writes over a file that is there.',
      'tools/import_timm_test.py::test_what_exists_is_not_overwritten',
    ),
  ),
  *in_file(
    'tools/plan.py',
    (
      'what_does_not_fit_is_success',
      'return 0 if plan.fits else 1',
      'return 0',
      'A plan that does not fit leaves an exit status of success.',
      'tools/plan_test.py',
    ),
  ),
  *in_file(
    'tools/prepare.py',
    (
      'dry_run_is_wet',
      'if args.dry_run:',
      'if args.dry_run and not source.notes:',
      '--dry_run writes where there is something to remark.',
      'tools/prepare_arguments_test.py',
    ),
    (
      'folder_fraction_ignored',
      "_pick(args, 'eval_fraction', 'classes', 'only_split')",
      "_pick(args, 'classes', 'only_split')",
      '--eval_fraction of a folder is passed over.',
      'tools/prepare_arguments_test.py',
    ),
    (
      'interrupted_is_success',
      'return 130',
      'return 0',
      'A script goes on with a data set that is half written.',
      'tools/prepare_test.py',
    ),
  ),
  *in_file(
    'tools/convert_to_array_record.py',
    (
      'converted_in_place',
      'incomplete.rename(target)',
      'shutil.copy(incomplete, target)',
      'A conversion that is killed leaves a shard that looks whole.',
      'data/tfds_source_test.py',
    ),
    (
      'said_to_be_tfrecord',
      "of_ours = {'fileFormat': 'array_record'}",
      "of_ours = {'fileFormat': 'tfrecord'}",
      'What was converted is read as TFRecord.',
      'data/tfds_source_test.py',
    ),
  ),
  *in_file(
    'tools/prepare_emoji.py',
    (
      'packages_dir_ignored',
      'if args.packages_dir:',
      'if args.packages_dir is None:',
      'npm is asked for packages that lie there.',
      'tools/prepare_emoji_test.py',
    ),
  ),
  *in_file(
    'tools/variants.py',
    (
      'height_for_width',
      "return str(height) if height == width else f'{height}x{width}'",
      "return str(height) if height == width else f'{width}x{height}'",
      'Sizes that are not square are shown as WxH.',
      'tools/variants_tool_test.py::test_sizes_are_height_by_width',
    ),
  ),
  *in_file(
    'benchmarks/attention/programs.py',
    (
      'first_run_is_timed',
      'if index:',
      'if True:',
      'Times include the first run, which is slower.',
      'benchmarks/attention/figures_test.py',
    ),
  ),
  *in_file(
    'benchmarks/attention/figures.py',
    (
      'compared_with_itself',
      "if row['implementation'] != 'pallas' and row[key] is not None",
      'if row[key] is not None',
      'The kernel is compared with the best of all, itself among them.',
      'tools/benchmark_attention_test.py',
    ),
  ),
)
