"""From the files of a data set to a cohort: readers of images and of scans, and what is written back for others."""
