"""Every key of configs/base.py is on its page, with what it needs."""

import argparse

from configs import base
from site_pages import config_keys, programs, sources


def _flatten(config, prefix=''):
  for name, value in config.items():
    if hasattr(value, 'items'):
      yield from _flatten(value, f'{prefix}{name}.')
    else:
      yield f'{prefix}{name}', value


def test_every_key_is_there_with_its_default():
  keys = [key for part in config_keys.read_sections() for key in part.keys]
  assert {key.name: key.default for key in keys} == dict(
    _flatten(base.get_config())
  )
  for key in keys:
    assert len(key.text) > 15, key.name
    assert key.allowed, key.name


def test_what_is_said_of_a_key():
  keys = {
    key.name: key for part in config_keys.read_sections() for key in part.keys
  }
  assert keys['optimizer.b1'].source == "this project's choice"
  assert keys['optimizer.weight_decay'].source.startswith('the paper: Table 10')
  assert keys['augmentation.repeats'].source == 'the paper has none'
  assert keys['checkpoint.every_seconds'].unit == 'seconds'
  assert keys['checkpoint.every_steps'].unit == 'optimizer steps'
  assert keys['training.gradient_accumulation_steps'].unit == 'parts of a batch'
  assert {key.unit for key in keys.values() if type(key.default) is str} == {''}
  assert keys['loss.kind'].allowed == 'one of softmax, sigmoid'


def test_every_flag_is_on_its_program_s_page():
  parsers = programs.list_programs()
  assert len(parsers) > 15
  for name, parser in parsers.items():
    page = programs.write_page(parser)
    for action in parser._actions:
      for flag in action.option_strings:
        hidden = flag in ('-h', '--help', '--helpshort', '--helpfull')
        shown = f'`{flag}' in page or f'<code>{flag}' in page
        assert hidden or shown, (name, flag)
  assert 'default `32`' in programs.write_page(parsers['predict'])


def test_an_argument_that_may_be_left_out_is_not_needed():
  parsers = programs.list_programs()
  for name, argument, need in (
    ('export', '`IMAGE`', ''),
    ('predict', '`IMAGE`', 'needed'),
    ('predict', '`--checkpoint=DIR`', 'needed'),
    ('hub', '`COMMAND`', 'needed'),
    ('variants', '`PATTERN`', 'default `*`'),
  ):
    page = programs.write_page(parsers[name])
    (row,) = [r for r in page.splitlines() if r.startswith(f'| {argument}')]
    assert row.endswith(f' | {need} |'), row


def test_a_description_s_characters_mean_themselves():
  parser = argparse.ArgumentParser(
    prog='x',
    description="""Takes a_b_c <i> & *.

    python -m x \\
        --y

  With --json: `a_list
  of`
    {"image", "file"}
  """,
  )
  assert programs.write_page(parser) == (
    '# x\n\nTakes a\\_b\\_c &lt;i> &amp; \\*.\n\n'
    '```text\npython -m x \\\n    --y\n```\n\n'
    'With --json: `a_list\nof`\n\n'
    '```text\n{"image", "file"}\n```\n\n'
  )


def test_a_link_out_of_docs_leads_to_the_page_of_a_file():
  text = 'See [it](../configs/base.py) and [that](models.md#weights).'
  assert sources.find_linked_files(text, 'data.md') == ['configs/base.py']
  assert sources.link_to_pages(text, 'data.md') == (
    'See [it](source/configs/base.py.md) and [that](models.md#weights).'
  )
  assert 'get_config' in sources.write_page('configs/base.py')
