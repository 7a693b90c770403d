"""Mass synthesis from trained generators."""
