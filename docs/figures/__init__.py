"""The figures of README.md and the documentation, each drawn from what visus really computes or prints.

``scripts/pictures`` makes them. A figure is one module here with a function ``draw``, which returns a page of HTML (``figure``). Chromium
renders the page (``browser``). ``fingerprints`` notices when a page has changed since its PNG file was made.
"""
