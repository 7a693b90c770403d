"""What a folder of data is, and a study for it: `python -m scangan check FOLDER`."""
