"""Hostile input: files that are damaged, lie, or were made to do harm; and what each reader makes of them."""
