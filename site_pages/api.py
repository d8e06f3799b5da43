"""Pages of the library, which mkdocstrings fills from the docstrings."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parents[1]
_PACKAGE = ROOT / 'coatnet_jax'


def write_public_page() -> str:
  """Returns the page of what `import coatnet_jax` gives, as Markdown."""
  tree = ast.parse((_PACKAGE / '__init__.py').read_text(encoding='utf-8'))
  names = [
    f'{node.module}.{name.name}'
    for node in ast.walk(tree)
    if isinstance(node, ast.ImportFrom) and node.module != 'etils'
    for name in node.names
  ]
  parts = [f'# coatnet_jax\n\n{ast.get_docstring(tree)}\n']
  for name in names:
    short = name.rpartition('.')[2]
    parts.append(f'## coatnet_jax.{short}\n\n{_insert(name)}')
  return '\n'.join(parts)


def write_room_pages() -> dict[str, str]:
  """Returns a page of each package below coatnet_jax, by the package's name.

  Modules that lie in coatnet_jax itself are on a page called 'others'.
  """
  pages = {}
  for folder in sorted({path.parent for path in _PACKAGE.rglob('*.py')}):
    modules = [_name(path) for path in sorted(folder.glob('[!_]*.py'))]
    if not modules:
      continue
    name = '.'.join(folder.relative_to(_PACKAGE).parts) or 'others'
    title = 'Other modules' if name == 'others' else f'coatnet_jax.{name}'
    parts = [f'# {title}\n']
    parts += [f'## {module}\n\n{_insert(module)}' for module in modules]
    pages[name] = '\n'.join(parts)
  return pages


def _name(path: pathlib.Path) -> str:
  return '.'.join(path.relative_to(ROOT).with_suffix('').parts)


def _insert(name: str) -> str:
  """Returns what mkdocstrings puts an object's docstrings in the place of."""
  return (
    f'::: {name}\n    options:\n      heading_level: 3\n'
    '      show_root_heading: false\n      show_root_toc_entry: false\n'
  )
