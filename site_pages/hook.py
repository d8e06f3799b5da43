"""What mkdocs calls while it builds the site: adds the pages made of code."""

import pathlib
import sys

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

# mkdocs loads this file by its path, from any directory.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from site_pages import api, config_keys, programs, sources


def on_config(config: MkDocsConfig) -> MkDocsConfig:
  """Makes the generated pages, and fills the section Reference with them."""
  # Again: mkdocs takes back what a hook adds while it is loaded, and programs
  # are imported only below.
  sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
  pages = {'reference/config.md': config_keys.write_page()}
  nav = [{'Config keys': 'reference/config.md'}]
  flags = []
  for name, parser in programs.list_programs().items():
    place = f'reference/programs/{name}.md'
    pages[place] = programs.write_page(parser)
    flags.append({parser.prog.removeprefix('python -m '): place})
  rooms = [{'coatnet_jax': 'reference/api/index.md'}]
  pages['reference/api/index.md'] = api.write_public_page()
  for name, page in api.write_room_pages().items():
    pages[f'reference/api/{name}.md'] = page
    rooms.append({name: f'reference/api/{name}.md'})
  nav += [{'Programs': flags}, {'Library': rooms}]
  (section,) = [part for part in config.nav if 'Reference' in part]
  section['Reference'] = nav
  config.extra['generated_pages'] = pages
  return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
  """Adds the generated pages, and those of files that documents link to."""
  pages = dict(config.extra['generated_pages'])
  for file in files.documentation_pages():
    for name in sources.find_linked_files(file.content_string, file.src_uri):
      pages[sources.name_page(name)] = sources.write_page(name)
  for place, text in pages.items():
    files.append(File.generated(config, place, content=text))
  return files


def on_page_markdown(markdown: str, page, **_) -> str:
  """Mends links to files outside docs/, which have pages of their own here."""
  if page.file.src_uri.startswith('source/'):
    return markdown
  return sources.link_to_pages(markdown, page.file.src_uri)
