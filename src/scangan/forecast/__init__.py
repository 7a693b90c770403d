"""What a run will take, before it begins: jobs, hours, memory and disk. `python -m scangan plan`."""
