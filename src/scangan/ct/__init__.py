"""CT as physics and geometry: volumes, grids, windows of Hounsfield units, lungs."""
