"""One file a paper: its networks, layer by layer."""
