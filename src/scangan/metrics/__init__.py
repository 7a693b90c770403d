"""Pure steps from images or predictions to numbers with their uncertainty."""
