"""Pages of files outside docs/, for the links that documents have to them."""

import pathlib
import posixpath
import re

ROOT = pathlib.Path(__file__).parents[1]
_LINK = re.compile(r'\]\((?!\w+:)([^)#\s]+)((?:#[^)\s]*)?)\)')
_LANGUAGES = {'.py': 'python', '.sh': 'bash', '.yml': 'yaml', '.yaml': 'yaml'}


def find_linked_files(markdown: str, page: str) -> list[str]:
  """Returns the files outside docs/ that a page links to.

  Args:
    markdown: text of the page.
    page: path of the page below docs/.

  Returns:
    Paths below the project's root, each once.
  """
  files = [_resolve(link, page) for link, _ in _LINK.findall(markdown)]
  return sorted({file for file in files if _is_outside(file)})


def link_to_pages(markdown: str, page: str) -> str:
  """Returns a page whose links to files outside docs/ lead to their pages."""

  def replace(found):
    file = _resolve(found[1], page)
    if not _is_outside(file):
      return found[0]
    target = posixpath.relpath(name_page(file), posixpath.dirname(page) or '.')
    return f']({target}{found[2]})'

  return _LINK.sub(replace, markdown)


def name_page(file: str) -> str:
  """Returns where the page of a file lies, below docs/."""
  return f'source/{file}.md'


def write_page(file: str) -> str:
  """Returns the page of a file as Markdown: the file, and its name above.

  Raises:
    FileNotFoundError: there is no such file in the project.
  """
  path = ROOT / file
  if path.is_dir():
    names = sorted(entry.name for entry in path.iterdir())
    return f'# {file}\n\n' + '\n'.join(f'- `{name}`' for name in names)
  text = path.read_text(encoding='utf-8')
  if path.suffix == '.md':
    return text
  language = _LANGUAGES.get(path.suffix, 'text')
  return f'# {file}\n\n````{language}\n{text.rstrip()}\n````\n'


def _resolve(link: str, page: str) -> str:
  """Returns where a link leads, below the root; '' beside pages of the site."""
  place = posixpath.join('docs', posixpath.dirname(page), link)
  return posixpath.normpath(place)


def _is_outside(file: str) -> bool:
  return not file.startswith('docs/') and not file.startswith('..')
