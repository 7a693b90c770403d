"""Stand-ins for the real data sets, each written in its set's own format.

A renderer of the configuration is a module here that offers `write_phantom(folder, **settings)`; see `module_of`.
"""

# Renderers that share their name with what they render, and not with the module that writes it.
WRITERS = {"chest": "chest_dicom"}


def module_of(renderer: str) -> str:
    """The module whose `write_phantom` a renderer is."""
    return f"{__name__}.{WRITERS.get(renderer, renderer)}"
