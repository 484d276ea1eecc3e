"""Where files go: each kind of store in one file, behind one protocol."""
