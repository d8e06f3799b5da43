"""Mistakes in the reference of the site, which is made of the code."""

from tests.mutation.mistake import in_file

MISTAKES = (
  *in_file(
    'site_pages/config_keys.py',
    (
      'ours_is_called_the_papers',
      "is_ours=all_ours or 'Ours' in ' '.join(comment),",
      "is_ours=all_ours and 'Ours' in ' '.join(comment),",
      "The reference says of our own choices that they are the paper's.",
      'site_pages/config_keys_test.py::test_what_is_said_of_a_key',
    ),
  ),
  *in_file(
    'site_pages/programs.py',
    (
      'flags_of_a_command_alone',
      "\\n', _describe(parser), _write_flags(parser)]",
      "\\n', _describe(parser)]",
      'The reference has the flags of commands, and none of programs.',
      'site_pages/config_keys_test.py::'
      'test_every_flag_is_on_its_program_s_page',
    ),
  ),
)
