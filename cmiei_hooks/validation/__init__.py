"""The validation protocol: what training with C-MIEI changes, in paired runs."""
